//! Every look, as it comes, to whoever has a page open: server-sent events.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::look::Look;
use crate::http::{
    App,
    access::Viewer,
    problem::{Code, Problem},
    query::{Params, invalid},
};

/// Seconds from one event to the next that can be chosen.
const RATES: [u64; 4] = [1, 2, 5, 15];

/// A connection that is silent is closed by what lies between.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Looks come a little early or late.
const SLACK: Duration = Duration::from_millis(300);

/// How often.
#[derive(Debug, Deserialize)]
pub(super) struct Every {
    every: Option<u64>,
}

/// Who watches.
struct Watcher {
    app: App,
    headers: HeaderMap,
    looks: watch::Receiver<Arc<Look>>,
    every: Duration,
    sent: Option<Instant>,
    beat: Instant,
    _place: OwnedSemaphorePermit,
}

/// The stream.
pub(super) async fn stream(
    State(app): State<App>,
    _: Viewer,
    Params(Every { every }): Params<Every>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let every = every.unwrap_or(RATES[0]);
    if !RATES.contains(&every) {
        return Err(invalid("every", format!("one of {RATES:?}")));
    }
    let place = Arc::clone(&app.dashboard.watchers).try_acquire_owned();
    let place = place.map_err(|_| Problem::new(Code::Busy, "too many pages are open at once").retry_after(15))?;
    let looks = app.dashboard.looks.subscribe();
    let watcher = Watcher {
        app,
        headers,
        looks,
        every: Duration::from_secs(every),
        sent: None,
        beat: Instant::now(),
        _place: place,
    };
    let frames = futures::stream::unfold(watcher, |mut watcher| async {
        let frame = watcher.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), watcher))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

impl Watcher {
    /// What is sent next; `None` at the end. It is asked for only when there is room for it: who reads slowly misses looks,
    /// and never holds them up.
    async fn next(&mut self) -> Option<Bytes> {
        if self.sent.is_none() {
            self.sent = Some(Instant::now());
            let first = self.looks.borrow_and_update().clone();
            return Some(Bytes::from([b"retry: 3000\n\n", first.frame.as_ref()].concat()));
        }
        let due = self.sent.map_or(Duration::ZERO, |sent| (self.every - SLACK).saturating_sub(sent.elapsed()));
        let look = async {
            tokio::time::sleep(due).await;
            self.looks.changed().await
        };
        tokio::select! {
            () = self.app.shutdown.begun() => None,
            changed = look => {
                changed.ok()?;
                self.check().await?;
                self.sent = Some(Instant::now());
                Some(self.looks.borrow_and_update().frame.clone())
            }
            () = tokio::time::sleep(HEARTBEAT.saturating_sub(self.beat.elapsed())) => {
                self.beat = Instant::now();
                self.check().await?;
                Some(Bytes::from_static(b": here\n\n"))
            }
        }
    }

    /// A token that was revoked since shows nothing more.
    async fn check(&self) -> Option<()> {
        self.app.access.caller(&self.app.store, &self.headers).await.ok().map(drop)
    }
}
