//! What can be asked for, and what every request passes on its way.

use axum::{
    Router,
    extract::Path,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower_http::{
    cors::{AllowOrigin, CorsLayer},
    decompression::RequestDecompressionLayer,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App, access, actions, alerts, body, dead_letter_actions, dead_letters, figures, health, imports, metrics, openapi,
    order_views, orders, overview,
    problem::{Code, Problem},
    refund_views, refunds, stock, streams, watch, webhooks,
};
use crate::dashboard;

/// Every route, with what describes it.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(orders::add, order_views::list))
        .routes(routes!(order_views::show))
        .routes(routes!(order_views::show_named))
        .routes(routes!(refunds::add, refund_views::list))
        .routes(routes!(refund_views::show))
        .routes(routes!(refund_views::show_named))
        .routes(routes!(figures::kpis))
        .routes(routes!(figures::leaderboard))
        .routes(routes!(stock::list))
        .routes(routes!(imports::add, imports::list))
        .routes(routes!(imports::show))
        .routes(routes!(imports::rejects))
        .routes(routes!(overview::show))
        .routes(routes!(overview::history))
        .routes(routes!(alerts::show))
        .routes(routes!(streams::show))
        .routes(routes!(streams::pause))
        .routes(routes!(streams::resume))
        .routes(routes!(streams::claim))
        .routes(routes!(streams::pending))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::groups))
        .routes(routes!(dead_letters::export))
        .routes(routes!(dead_letter_actions::replay))
        .routes(routes!(dead_letter_actions::discard))
        .routes(routes!(dead_letters::one))
        .routes(routes!(dead_letter_actions::replay_one))
        .routes(routes!(actions::list))
        .routes(routes!(actions::one))
        .routes(routes!(webhooks::take))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(metrics::show))
        .routes(routes!(openapi::show))
        .routes(routes!(openapi::streams))
        .routes(routes!(explain))
}

/// What one kind of problem is.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "operations", operation_id = "getProblem", security(()),
    params(("code" = String, Path, description = "The code of a problem")),
    responses((status = 200, description = "What it is", body = String, content_type = "text/plain"))
)]
async fn explain(Path(code): Path<String>) -> Result<Response, Problem> {
    let code = Code::ALL.iter().find(|known| known.as_str() == code);
    let code = code.ok_or_else(|| Problem::new(Code::NotFound, "there is no problem of this code"))?;
    let text = format!("{}: {} ({})\n", code.as_str(), code.title(), code.status());
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// The service, as every connection uses it.
pub(super) fn router(app: App) -> Router {
    let (routes, _) = routes().split_for_parts();
    let rates = watch::rates(app.options.http_rate);
    // The last is the first that a request meets. `route_layer` would not cover what matches no route.
    let mut router = routes
        .merge(dashboard::routes())
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed, "see the header Allow"))
        .fallback(async || Problem::new(Code::NoRoute, "see /openapi.json"))
        .layer(RequestDecompressionLayer::new())
        .layer(from_fn(body::demand_encoding))
        .layer(from_fn_with_state(app.clone(), access::refuse_strangers))
        .layer(from_fn_with_state(rates, watch::limit_rate));
    if !app.options.cors_origin.is_empty() {
        router = router.layer(cors(&app.options.cors_origin));
    }
    router.layer(from_fn_with_state(app.clone(), watch::observe)).with_state(app)
}

/// For browsers, from the pages that were named.
fn cors(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-request-id"),
        ])
        .expose_headers([
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("idempotency-replayed"),
        ])
}
