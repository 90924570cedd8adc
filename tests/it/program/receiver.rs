//! A receiver of webhooks that misbehaves as it is told.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use orderstream::signature::{Secret, verify};
use serde_json::Value;

/// What comes in, and what becomes of it, by the code of the order.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    secret: Secret,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    strayed: Arc<Mutex<u32>>,
}

impl Receiver {
    /// Listens on a port of its own.
    pub(crate) async fn start(secret: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let receiver = Self {
            url: format!("http://{}/hook?token=hidden", listener.local_addr().expect("an address")),
            secret: Secret::parse(secret).expect("a secret"),
            got: Arc::default(),
            strayed: Arc::default(),
        };
        let routes = Router::new()
            .route("/hook", post(take))
            .route(
                "/elsewhere",
                post(async |State(receiver): State<Self>| *receiver.strayed.lock().expect("calm") += 1),
            )
            .with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        receiver
    }

    /// Ids and bodies of all requests for an order.
    pub(crate) fn got(&self, code: &str) -> Vec<(String, Value)> {
        let got = self.got.lock().expect("calm");
        got.iter().filter(|(_, body)| body["order_code"] == code).cloned().collect()
    }

    /// Bodies of all requests.
    pub(crate) fn all(&self) -> Vec<Value> {
        self.got.lock().expect("calm").iter().map(|(_, body)| body.clone()).collect()
    }

    /// Requests that followed a redirect.
    pub(crate) fn strayed(&self) -> u32 {
        *self.strayed.lock().expect("calm")
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, now) = (header("webhook-id"), chrono::Utc::now().timestamp());
    let (timestamp, signature) = (header("webhook-timestamp"), header("webhook-signature"));
    if verify(std::slice::from_ref(&receiver.secret), id, timestamp, signature, &body, now).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let code = body["order_code"].as_str().unwrap_or_default().to_owned();
    let first = receiver.got(&code).is_empty();
    receiver.got.lock().expect("calm").push((id.to_owned(), body));
    match code.as_str() {
        "FAILS-FIRST" if first => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "HANGS-FIRST" if first => std::future::pending().await,
        "REDIRECTS" => Redirect::temporary("/elsewhere").into_response(),
        // More than anybody wants to read.
        "TALKS" => "x".repeat(50_000_000).into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}
