//! KPIs and leaderboards.

use axum::{
    Json,
    extract::{Path, State},
    response::IntoResponse,
};
use chrono::Utc;
use serde::Deserialize;
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    access::Viewer,
    problem::{Code, Problem},
    query::{Params, bounded, day, invalid},
};
use crate::{
    cli::Who,
    commands::figures::{DAYS_MAX, read_currencies, read_kpis, read_places},
};

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KpiParams {
    /// One UTC day; today without any.
    #[param(example = "2026-11-22")]
    day: Option<String>,
    /// First UTC day of a range.
    from: Option<String>,
    /// Last UTC day of a range.
    to: Option<String>,
}

/// The figures of a day, or of a range of days.
#[utoipa::path(
    get, path = "/v1/kpis", tag = "figures", operation_id = "getKpis", params(KpiParams),
    responses((status = 200, description = "The figures, as `orderstream kpi --json` prints them", body = Object))
)]
pub(super) async fn kpis(
    State(app): State<App>,
    _: Viewer,
    Params(params): Params<KpiParams>,
) -> Result<impl IntoResponse, Problem> {
    let one = day("day", params.day.as_deref())?;
    let (from, to) = (day("from", params.from.as_deref())?, day("to", params.to.as_deref())?);
    let (from, to) = match (one, from, to) {
        (None, Some(from), Some(to)) => (from, to),
        (one, None, None) => {
            let one = one.unwrap_or_else(|| Utc::now().date_naive());
            (one, one)
        }
        _ => return Err(Problem::new(Code::InvalidQuery, "give day, or from and to, or nothing")),
    };
    if to < from || (to - from).num_days() >= DAYS_MAX {
        return Err(invalid("from, to", format!("a range has 1 to {DAYS_MAX} days")));
    }
    let mut connection = app.connection().await?;
    let currencies = read_currencies(&app.reports, Some(to)).await?;
    Ok(Json(app.answered(read_kpis(&app.redis, &mut connection, from, to, currencies).await).await?))
}

/// Who is ranked.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document; the handler reads the words")]
pub(super) enum Ranked {
    Customers,
    Products,
}

/// Which places.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LeaderboardParams {
    /// Only orders of this UTC day.
    #[param(example = "2026-11-22")]
    day: Option<String>,
    /// How many.
    #[param(minimum = 1, maximum = 10000, default = 10)]
    top: Option<u32>,
}

/// The best customers or products.
#[utoipa::path(
    get, path = "/v1/leaderboards/{who}", tag = "figures", operation_id = "getLeaderboard",
    params(("who" = inline(Ranked), Path, description = "Who is ranked"), LeaderboardParams),
    responses((status = 200, description = "`places`, best first", body = Object))
)]
pub(super) async fn leaderboard(
    State(app): State<App>,
    _: Viewer,
    Path(who): Path<String>,
    Params(params): Params<LeaderboardParams>,
) -> Result<impl IntoResponse, Problem> {
    let who = match &*who {
        "customers" => Who::Customers,
        "products" => Who::Products,
        _ => return Err(Problem::new(Code::NotFound, "there are leaderboards of customers and of products")),
    };
    let day = day("day", params.day.as_deref())?;
    let top = bounded("top", params.top, 10, 10_000)?;
    let mut connection = app.connection().await?;
    let currencies = read_currencies(&app.reports, day).await?;
    let places = read_places(&app.redis, &mut connection, who, day, top, &currencies).await;
    Ok(Json(json!({ "places": app.answered(places).await? })))
}
