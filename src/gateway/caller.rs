//! One call: its turn, its time, its retries, and no more bytes than there is room for.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use pipeline::retry::delays_up_to;
use reqwest::{
    Client, RequestBuilder, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, InvalidHeaderValue, RETRY_AFTER},
    redirect, retry,
};
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};
use tracing::warn;

use super::figures::{GatewayFigures, Operation};

/// Most bytes of an answer that are read. One charge has some 150.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The longest wait between two tries of a call.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// Connections that nobody uses are closed before most servers close theirs.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Of a provider that fails, one line is said in this time.
const SILENCE: Duration = Duration::from_secs(1);

/// How the provider is reached, and the bounds of calls.
#[derive(Clone)]
pub struct Settings {
    /// `POST {url}/charges`, and so on.
    pub url: Url,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// How long a call waits for its turn, and how long for its answer, retries included.
    pub timeout: Duration,
    /// Most calls in flight.
    pub calls_max: usize,
    /// Most calls in a second.
    pub calls_per_second_max: Option<NonZeroU32>,
}

/// Why a call brought no answer that counts.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No call was made: the bounds on calls were used up for too long.
    #[error("the call had no turn within {} s", .0.as_secs_f32())]
    NoTurn(Duration),
    /// The answer did not come, or not to its end.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The provider was not reached, or the connection broke.
    #[error("{}", with_causes(.0))]
    Connection(#[from] reqwest::Error),
    /// The provider said something else than the contract knows.
    #[error("the provider answered {0}")]
    Status(StatusCode),
    /// Too much to read.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// No JSON, or not of the documented shape.
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Readable, but not an answer to the question.
    #[error("the answer has {what} {found:?}; {expected:?} was asked for")]
    Mismatch {
        /// The part.
        what: &'static str,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// The key cannot stand in a header.
    #[error("the gateway's key cannot be sent in a header")]
    Key(#[from] InvalidHeaderValue),
}

impl CallError {
    /// The kinds, as they are counted.
    pub(super) const KINDS: [&'static str; 7] =
        ["no_turn", "timeout", "connection", "status", "too_long", "unreadable", "mismatch"];

    /// The word for its kind, one of [`CallError::KINDS`].
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::NoTurn(_) => "no_turn",
            Self::Timeout(_) => "timeout",
            // A key that cannot be sent ends the program before the first call.
            Self::Connection(_) | Self::Key(_) => "connection",
            Self::Status(_) => "status",
            Self::TooLong => "too_long",
            Self::Unreadable(_) => "unreadable",
            Self::Mismatch { .. } => "mismatch",
        }
    }
}

/// reqwest keeps what happened in the causes, and the URL in the message.
fn with_causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() { "not reached" } else { "the connection failed" }.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// What came back: a status that the contract knows, and the body.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
}

/// Makes calls. Clones share connections and bounds.
#[derive(Clone)]
pub(super) struct Caller {
    client: Client,
    settings: Settings,
    turns: Arc<Semaphore>,
    rate: Option<Arc<DefaultDirectRateLimiter>>,
    complaints: Arc<Mutex<Complaints>>,
    pub(super) figures: GatewayFigures,
}

#[derive(Default)]
struct Complaints {
    last: Option<Instant>,
    /// Failures that were not said.
    silent: u64,
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { url, key: _, timeout, calls_max, calls_per_second_max } = &self.settings;
        f.debug_struct("Caller")
            .field("url", &url.as_str())
            .field("timeout", timeout)
            .field("calls_max", calls_max)
            .field("calls_per_second_max", calls_per_second_max)
            .finish_non_exhaustive()
    }
}

impl Caller {
    pub(super) fn new(settings: Settings) -> Result<Self, CallError> {
        let mut headers = HeaderMap::new();
        if let Some(key) = &settings.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .redirect(redirect::Policy::none())
            // Retries are ours to decide.
            .retry(retry::never())
            .http1_only()
            .pool_max_idle_per_host(settings.calls_max)
            .pool_idle_timeout(IDLE_MAX)
            .connect_timeout(settings.timeout);
        // The key goes to nobody else in plain text.
        let client = if settings.url.scheme() == "http" { client.no_proxy() } else { client };
        // A burst of a tenth of a second, so that the first second is not worth two.
        let quota = |calls: NonZeroU32| {
            let burst = NonZeroU32::new(calls.get() / 10).unwrap_or(NonZeroU32::MIN);
            Arc::new(RateLimiter::direct(Quota::per_second(calls).allow_burst(burst)))
        };
        Ok(Self {
            client: client.build()?,
            turns: Arc::new(Semaphore::new(settings.calls_max)),
            rate: settings.calls_per_second_max.map(quota),
            complaints: Arc::default(),
            figures: GatewayFigures::default(),
            settings,
        })
    }

    /// `POST {url}/{collection}`.
    pub(super) async fn post(
        &self,
        operation: Operation,
        key: &str,
        body: &impl Serialize,
    ) -> Result<Reply, CallError> {
        let body = serde_json::to_vec(body)?;
        let request = || {
            self.client
                .post(self.url_of(operation))
                .header("idempotency-key", key)
                .header(CONTENT_TYPE, "application/json")
                .body(body.clone())
        };
        self.call(operation, request).await
    }

    /// `GET {url}/{collection}?reference=…`.
    pub(super) async fn get(&self, operation: Operation, reference: &str) -> Result<Reply, CallError> {
        let mut url = self.url_of(operation);
        url.query_pairs_mut().append_pair("reference", reference);
        self.call(operation, || self.client.get(url.clone())).await
    }

    fn url_of(&self, operation: Operation) -> Url {
        let mut url = self.settings.url.clone();
        let path = format!("{}/{}", url.path().trim_end_matches('/'), operation.collection());
        url.set_path(&path);
        url
    }

    /// Waits for its turn, then calls; comes back within twice the timeout.
    async fn call(&self, operation: Operation, request: impl Fn() -> RequestBuilder) -> Result<Reply, CallError> {
        let timeout = self.settings.timeout;
        let turn = async {
            let turn = self.turns.acquire().await.expect("the semaphore is never closed");
            self.paced().await;
            turn
        };
        let Ok(_turn) = timeout_at(Instant::now() + timeout, turn).await else {
            return Err(CallError::NoTurn(timeout));
        };
        let _counted = self.figures.call(operation);
        let deadline = Instant::now() + timeout;
        timeout_at(deadline, self.try_until(deadline, request)).await.unwrap_or(Err(CallError::Timeout(timeout)))
    }

    async fn paced(&self) {
        let Some(rate) = &self.rate else { return };
        while let Err(not_until) = rate.check() {
            sleep(not_until.wait_time_from(DefaultClock::default().now())).await;
        }
    }

    /// Tries again what surely changed nothing, as long as there is time for it.
    async fn try_until(&self, deadline: Instant, request: impl Fn() -> RequestBuilder) -> Result<Reply, CallError> {
        let mut delays = delays_up_to(DELAY_MAX);
        loop {
            let (failure, asked_for) = match request().send().await {
                Ok(response) if is_busy(response.status()) => {
                    (CallError::Status(response.status()), retry_after(response.headers()))
                }
                Ok(response) => return read(response).await,
                Err(error) if error.is_connect() => (error.into(), None),
                Err(error) => return Err(error.into()),
            };
            let delay = delays.next().unwrap_or(DELAY_MAX).max(asked_for.unwrap_or_default());
            // Not added up: what the provider asks for may be any number.
            if delay >= deadline.saturating_duration_since(Instant::now()) {
                return Err(failure);
            }
            sleep(delay).await;
            self.paced().await;
        }
    }

    /// Says that the provider fails: one line a second, whatever the number of failures.
    pub(super) fn complain(&self, error: &CallError) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.last.is_some_and(|last| last.elapsed() < SILENCE) {
            complaints.silent += 1;
            return;
        }
        let others = std::mem::take(&mut complaints.silent);
        complaints.last = Some(Instant::now());
        drop(complaints);
        warn!(%error, others, "the payment provider gave no answer; it is asked again later");
    }
}

/// The provider has no room: what was asked for was not done.
fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// The seconds that the provider asks for. A date is not understood, and waited for like nothing.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// Reads an answer of a status that the contract knows, up to the bound.
async fn read(mut response: reqwest::Response) -> Result<Reply, CallError> {
    let status = response.status();
    if !matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::PAYMENT_REQUIRED) {
        return Err(CallError::Status(status));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(CallError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, body })
}
