//! A look that everybody shares: the snapshot, its texts, and the event that scripts get, made once however many watch.

use std::{
    fmt::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::body::Bytes;
use chrono::Utc;
use minijinja::{Error, ErrorKind, State, Value, value::Object};
use tokio::sync::watch;

use super::{format::Escaped, live::Live};
use crate::{http::App, monitor::Snapshot};

/// After this long without a look its texts are made anew: they say then that they are old.
const MADE_ANEW: Duration = Duration::from_secs(3);

/// So long the texts of a new look may take.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// A look at the pipeline.
pub(super) struct Look {
    /// What the monitor saw.
    pub(super) snapshot: Arc<Snapshot>,
    /// Its texts.
    pub(super) live: Live,
    /// The event.
    pub(super) frame: Bytes,
    made: Instant,
}

impl Look {
    /// The texts of a snapshot.
    pub(super) fn of(snapshot: Arc<Snapshot>) -> Self {
        let live = Live::of(&snapshot, Utc::now());
        let json = serde_json::to_string(&live).expect("texts and numbers are always JSON");
        let frame = Bytes::from(format!("id: {}\nevent: look\ndata: {json}\n\n", live.seq));
        Self { snapshot, live, frame, made: Instant::now() }
    }
}

/// The newest look.
pub(super) struct Looks {
    newest: watch::Sender<Arc<Look>>,
}

impl Looks {
    /// Before the first one.
    pub(super) fn new() -> Self {
        Self { newest: watch::Sender::new(Arc::new(Look::of(Arc::new(Snapshot::nothing_yet())))) }
    }

    /// The newest; one that is old says so.
    pub(super) fn newest(&self) -> Arc<Look> {
        let look = self.newest.borrow().clone();
        if look.made.elapsed() < MADE_ANEW { look } else { Arc::new(Look::of(Arc::clone(&look.snapshot))) }
    }

    /// The look with this number, or a later one, once its texts are made.
    pub(super) async fn of_seq(&self, seq: u64) {
        let mut looks = self.subscribe();
        // It ends with the process.
        let _over = looks.wait_for(|look| look.snapshot.seq >= seq).await.is_err();
    }

    /// Every look from now on; who is slow gets the newest only.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<Look>> {
        self.newest.subscribe()
    }
}

/// Makes the texts of every snapshot, until the process ends.
pub(crate) async fn follow(app: App) {
    let mut snapshots = app.monitor.subscribe();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        app.dashboard.looks.newest.send_replace(Arc::new(Look::of(snapshot)));
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = app.shutdown.begun() => return,
        }
    }
}

/// Somebody has done something: the page that comes next shows it. Waits for a look that began after this, within
/// bounds.
pub(super) async fn look_again(app: &App) {
    if let Some(seq) = app.monitor.look_again().await {
        let shown = app.dashboard.looks.of_seq(seq);
        let _in_time = tokio::time::timeout(SHOWN_WITHIN, shown).await.is_ok();
    }
}

/// What templates know as `now`.
#[derive(Clone)]
pub(super) struct Now(pub(super) Arc<Look>);

impl std::fmt::Debug for Now {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("now")
    }
}

impl Object for Now {
    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let live = &self.0.live;
        match key.as_str()? {
            "at" => Some(Value::from(live.at.clone())),
            "seq" => Some(Value::from(live.seq)),
            "stale" => Some(Value::from(live.stale)),
            _ => None,
        }
    }

    fn call_method(self: &Arc<Self>, _: &mut State<'_, '_>, method: &str, args: &[Value]) -> Result<Value, Error> {
        let [key] = args else { return Err(Error::from(ErrorKind::MissingArgument)) };
        let key = key.as_str().unwrap_or_default();
        let html = match method {
            "text" => return self.text(key).map(Value::from),
            "live" => {
                format!("<span data-live=\"{}\">{}</span>", Escaped(key), Escaped(self.text(key)?))
            }
            "badge" => self.badge(key)?,
            "attrs" => self.attributes(key)?,
            "count" => self.count(key)?,
            "shape" => {
                let shape = self.0.live.shapes.get(key).ok_or_else(|| missing("shape", key))?;
                format!(" data-refresh=\"{}\" data-shape=\"{shape}\"", Escaped(key))
            }
            _ => return Err(Error::from(ErrorKind::UnknownMethod)),
        };
        Ok(Value::from_safe_string(html))
    }
}

impl Now {
    fn text(&self, key: &str) -> Result<&str, Error> {
        self.0.live.texts.get(key).map(String::as_str).ok_or_else(|| missing("text", key))
    }

    fn badge(&self, key: &str) -> Result<String, Error> {
        let (tone, word) = self.0.live.badges.get(key).ok_or_else(|| missing("badge", key))?;
        let tone = tone.as_str();
        Ok(format!(
            "<span class=\"badge\" data-badge=\"{}\" data-tone=\"{tone}\"><svg class=\"icon\" aria-hidden=\"true\">\
             <use href=\"#i-{tone}\"/></svg><span>{}</span></span>",
            Escaped(key),
            Escaped(word)
        ))
    }

    fn attributes(&self, key: &str) -> Result<String, Error> {
        let attributes = self.0.live.attrs.get(key).ok_or_else(|| missing("attributes", key))?;
        let mut html = format!(" data-attrs=\"{}\"", Escaped(key));
        for (name, value) in attributes {
            if let Some(value) = value {
                write!(html, " {name}=\"{}\"", Escaped(value)).expect("a text takes everything");
            }
        }
        Ok(html)
    }

    fn count(&self, key: &str) -> Result<String, Error> {
        let (text, noun) = self.0.live.counts.get(key).ok_or_else(|| missing("count", key))?;
        let hidden = if text.is_empty() { " hidden" } else { "" };
        Ok(format!(
            "<span class=\"count\" data-count=\"{}\"{hidden}><span>{text}</span><span class=\"hidden\"> {noun}</span></span>",
            Escaped(key)
        ))
    }
}

fn missing(what: &str, key: &str) -> Error {
    Error::new(ErrorKind::UndefinedError, format!("the look has no {what} {key:?}"))
}
