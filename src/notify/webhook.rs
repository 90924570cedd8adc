//! Signed requests to a program of the shop's, as Standard Webhooks defines them.

use std::time::Duration;

use chrono::Utc;
use reqwest::{Client, Url, header::CONTENT_TYPE, redirect::Policy};
use serde::Serialize;

use super::Failure;
use crate::signature::{Secret, sign};

/// Posts to one receiver.
#[derive(Debug)]
pub(crate) struct Webhook {
    client: Client,
    url: Url,
    secret: Secret,
}

impl Webhook {
    /// Requests to `url`, signed with `secret`.
    ///
    /// # Errors
    /// When the URL is none of HTTP's, or the system has no certificates to trust.
    pub(crate) fn new(url: &str, secret: Secret, timeout: Duration) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err("it is neither http:// nor https://".to_owned());
        }
        // Fails when somebody was faster, and then there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = Client::builder()
            // What is signed for one receiver is not shown to another.
            .redirect(Policy::none())
            .timeout(timeout)
            .user_agent(concat!("orderstream/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, url, secret })
    }

    /// Posts this; the same `id` is the same message. Anything but 2xx is a refusal; the body of the answer is not read.
    pub(crate) async fn post(&self, id: &str, message: &impl Serialize) -> Result<(), Failure> {
        let body = serde_json::to_vec(message)
            .map_err(|error| Failure::Hopeless(format!("no request could be made: {error}")))?;
        // The time of this try, so that a receiver can refuse what somebody recorded.
        let timestamp = Utc::now().timestamp();
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", sign(&self.secret, id, timestamp, &body))
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(Failure::Refused(format!("the receiver answered {}", answer.status()))),
            // The URL may hold a token.
            Err(error) if error.is_connect() => Err(Failure::Away(describe(&error.without_url()))),
            Err(error) => Err(Failure::Refused(describe(&error.without_url()))),
        }
    }
}

/// An error with its causes, which reqwest keeps apart.
fn describe(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
