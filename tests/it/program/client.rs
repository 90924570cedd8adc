//! The program that serves, and a client for it.

use std::collections::HashMap;

use orderstream::signature::{Secret, sign};
use pipeline::topology::StageName;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::{Orderstream, Program, Running, harness::PATIENCE};

/// The secret of webhooks in tests.
pub(crate) const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The one that takes its place.
pub(crate) const NEW_SECRET: &str = "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

/// A process that serves HTTP on a free port of loopback.
pub(crate) struct Api {
    pub(crate) running: Running,
    pub(crate) address: String,
    pub(crate) client: Client,
}

impl Api {
    /// Serves with these flags, on a free port.
    pub(crate) async fn serve(program: &Program, flags: &[&str]) -> Self {
        Self::start(program, "serve", flags, &[("ORDERSTREAM_WEBHOOK_SECRET", SECRET)]).await
    }

    /// Serves by `command`, with these flags and variables.
    pub(crate) async fn start(program: &Program, command: &str, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let args = [&[command, "--http", "127.0.0.1:0"], flags].concat();
        let mut command = program.command(&args);
        command.envs(env.iter().copied());
        let running = Running::spawn(&mut command, &args);
        let address = running.address().await;
        // Another test may have done it; the client speaks no TLS anyway.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { address, running, client }
    }

    /// A request to be completed.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// Asks for something.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// Sends JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    /// Sends JSON with headers.
    pub(crate) async fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.request(Method::POST, path).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request).await
    }

    /// Sends bytes of a type.
    pub(crate) async fn send(&self, path: &str, media: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer::of(self.request(Method::POST, path).header("content-type", media).body(body.into())).await
    }

    /// Sends a webhook that was signed so many seconds ago.
    pub(crate) async fn webhook(&self, secret: &str, id: &str, age: i64, body: &[u8]) -> Answer {
        Answer::of(self.signed(secret, id, age, body)).await
    }

    /// A webhook to be sent.
    pub(crate) fn signed(&self, secret: &str, id: &str, age: i64, body: &[u8]) -> RequestBuilder {
        let at = chrono::Utc::now().timestamp() - age;
        let signature = sign(&Secret::parse(secret).expect("a secret"), id, at, body);
        self.request(Method::POST, "/webhooks/payments")
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", at.to_string())
            .header("webhook-signature", signature)
            .body(body.to_vec())
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) text: String,
}

impl Answer {
    /// Sends a request and reads the answer.
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let status = response.status();
        let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        Self { status, headers, text: response.text().await.expect("a text") }
    }

    /// The body, of an answer with this status.
    pub(crate) fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert!(!self.headers["x-request-id"].is_empty());
        serde_json::from_str(&self.text).expect("JSON")
    }

    /// The problem: every one has the same shape.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_str(&self.text).expect("JSON");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("/problems/{code}"));
        assert_eq!(problem["request_id"], self.headers["x-request-id"]);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

/// Entries in the stream of a stage.
pub(crate) async fn length(program: &Program, stage: StageName) -> u64 {
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, stage);
    redis::cmd("XLEN").arg(stream).query_async(&mut redis).await.expect("a number")
}
