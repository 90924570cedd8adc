//! The way to a collector of traces, and what is said of one that is away: once when it goes, once when it is back.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::{Client, Url, redirect, retry};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// An answer that takes longer is none: spans wait meanwhile, and those that find no room are dropped.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Most bytes of an answer that are read: it says how many spans were refused, and why.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts what the exporter hands over. The exporter has a thread of its own, which may wait; calls are made on the
/// program's runtime.
#[derive(Debug)]
pub(super) struct Collector {
    runtime: Handle,
    client: OnceLock<Client>,
    /// For people: no path, no password.
    address: String,
    away_since: Mutex<Option<Instant>>,
}

impl Collector {
    pub(super) fn new(url: &Url, runtime: Handle) -> Self {
        let port = url.port_or_known_default().unwrap_or_default();
        let address = format!("{}:{port}", url.host_str().unwrap_or_default());
        Self { runtime, client: OnceLock::new(), address, away_since: Mutex::default() }
    }

    /// Made at the first call: most commands have no span to send.
    fn client(&self) -> Result<Client, reqwest::Error> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            // The exporter tries again by itself.
            .retry(retry::never())
            .http1_only()
            .timeout(ANSWER_MAX)
            .build()?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    async fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, request) = (self.client()?, reqwest::Request::try_from(request)?);
        let answer = self.runtime.spawn(async move {
            let mut answer = client.execute(request).await?;
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                if body.len() + piece.len() > ANSWER_BYTES_MAX {
                    break;
                }
                body.extend_from_slice(&piece);
            }
            Ok::<_, reqwest::Error>((answer.status(), body))
        });
        let (status, body) = answer.await??;
        Ok(Response::builder().status(status).body(body.into())?)
    }

    fn is_away(&self, error: &str) {
        let mut since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() {
            *since = Some(Instant::now());
            warn!(
                server = self.address,
                error, "the trace collector takes no spans; those that cannot wait are dropped until it does"
            );
        }
    }

    fn is_back(&self) {
        if let Some(since) = self.away_since.lock().unwrap_or_else(PoisonError::into_inner).take() {
            info!(server = self.address, seconds = since.elapsed().as_secs(), "the trace collector takes spans again");
        }
    }
}

impl HttpClient for Collector {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let answer = self.post(request).await;
            match &answer {
                Ok(answer) if answer.status().is_success() => self.is_back(),
                Ok(answer) => self.is_away(&format!("it answered {}", answer.status())),
                Err(error) => self.is_away(&said(error.as_ref())),
            }
            answer
        })
    }
}

/// The causes of a failure. The first words of reqwest hold the whole address.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<reqwest::Error>() {
        Some(error) if error.is_timeout() => "no answer in time".to_owned(),
        Some(error) if error.is_connect() => "not reached".to_owned(),
        Some(_) => "the connection failed".to_owned(),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
