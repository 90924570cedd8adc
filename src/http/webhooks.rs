//! What payment providers tell: signed, stored before they are thanked.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use pipeline::{
    gateway::HTTP,
    message::{Callback, decode_callback},
    store::{self, Insertion, Teller},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    body::{self, Incoming},
    problem::{Code, Problem},
    secrets::Signed,
};
use crate::signature::SignatureError;

/// Most bytes of a webhook; more is not even hashed.
const BYTES_MAX: u64 = 64 * 1024;

/// What became of a callback.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Taken {
    /// `stored`, or `known` when its sender told us before.
    status: &'static str,
}

/// Takes what a payment provider tells, signed as Standard Webhooks has it.
#[utoipa::path(
    post, path = "/webhooks/payments", tag = "webhooks", operation_id = "takePaymentCallback",
    request_body(content = Object, content_type = "application/json"), security(()),
    params(
        ("webhook-id" = String, Header, description = "The sender's id of the message"),
        ("webhook-timestamp" = String, Header, description = "When it was signed, in Unix seconds"),
        ("webhook-signature" = String, Header, description = "v1,<base64>; several are separated by blanks"),
    ),
    responses((status = 200, description = "Stored, or known", body = Taken))
)]
pub(super) async fn take(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    if app.secrets.is_empty() {
        return Err(Problem::new(Code::WebhooksOff, "no ORDERSTREAM_WEBHOOK_SECRET is configured"));
    }
    let header = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next().map(|value| value.to_str()), values.next()) {
            (Some(Ok(value)), None) if !value.is_empty() => Ok(value),
            _ => Err(Problem::new(Code::BadSignature, format!("the header {name} is needed, once"))),
        }
    };
    // Looked at before the body is read: who has no signature does not get to send much.
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let signatures = header("webhook-signature")?;
    let bytes = Incoming::new(&headers, body, BYTES_MAX)?.whole().await?;
    let now = Utc::now().timestamp();
    let teller =
        app.secrets.verify(&Signed { id, timestamp, signatures, body: &bytes }, now).map_err(|error| match error {
            SignatureError::TooOld | SignatureError::TooNew => Problem::new(Code::SignatureExpired, error.to_string()),
            SignatureError::Timestamp | SignatureError::Mismatch => Problem::new(Code::BadSignature, error.to_string()),
        })?;
    body::demand_type(&headers, "application/json")?;
    body::parse(&bytes)?;
    let signed_at = timestamp.parse().ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0)).unwrap_or_default();
    let callback = decode_callback(&bytes, id, signed_at)?;
    let status = match insert(&app, callback, &teller).await? {
        Insertion::Stored => "stored",
        Insertion::Known => "known",
        Insertion::Replayed => {
            let detail = "this message was stored before, and is not signed anew";
            return Err(Problem::new(Code::WebhookReplayed, detail));
        }
        Insertion::IdReused => {
            let detail = "another message with this webhook-id is stored";
            return Err(Problem::new(Code::WebhookIdReused, detail));
        }
    };
    Ok(Json(Taken { status }).into_response())
}

async fn insert(app: &App, callback: Callback, teller: &Teller) -> Result<Insertion, Problem> {
    let mut transaction = app.store.begin().await?;
    let inserted = store::insert_callbacks(&mut transaction, std::slice::from_ref(&callback), HTTP, teller).await?;
    store::commit(transaction).await?;
    inserted.first().copied().ok_or_else(|| anyhow::anyhow!("a callback came to no end").into())
}
