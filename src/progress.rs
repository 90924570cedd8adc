//! Progress of long work, on stderr: a bar on a terminal, else a plain line every few seconds.

use std::{
    io::{self, IsTerminal},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is printed where there is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where a piece of work stands, for whoever asks.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Standing {
    /// What is being done: `reading`, `publishing`, `processing`.
    pub phase: String,
    /// How far that is, in its unit: bytes of the file, then orders.
    pub position: u64,
    /// Where it ends, if that is known.
    pub length: Option<u64>,
}

/// Shows one phase of work after the other.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    terminal: bool,
    phase: String,
    bar: Option<ProgressBar>,
    started: Instant,
    printed: Instant,
    length: Option<u64>,
    /// For whoever looks from elsewhere.
    standing: Arc<Mutex<Standing>>,
}

impl Progress {
    /// Progress for people, unless they want none.
    pub fn new(quiet: bool) -> Self {
        let now = Instant::now();
        Self {
            quiet,
            terminal: io::stderr().is_terminal(),
            phase: String::new(),
            bar: None,
            started: now,
            printed: now,
            length: None,
            standing: Arc::default(),
        }
    }

    /// Progress that is looked at from elsewhere, and not shown.
    pub fn watched(by: Arc<Mutex<Standing>>) -> Self {
        let mut progress = Self::new(true);
        progress.standing = by;
        progress
    }

    /// Where the work stands, now and later.
    pub fn standing(&self) -> Arc<Mutex<Standing>> {
        Arc::clone(&self.standing)
    }

    fn note_standing(&self, note: impl FnOnce(&mut Standing)) {
        note(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Begins a phase of `length` units, where that is known.
    pub fn phase(&mut self, name: &str, length: Option<u64>) {
        self.end();
        name.clone_into(&mut self.phase);
        let phase = name.to_lowercase();
        self.note_standing(|standing| *standing = Standing { phase, position: 0, length });
        self.length = length;
        self.started = Instant::now();
        self.printed = self.started;
        if self.quiet || !self.terminal {
            return;
        }
        let template = match length {
            Some(_) => "{prefix:12} [{bar:30}] {percent:>3} %  {msg}  {eta} left",
            None => "{prefix:12} {spinner} {msg}",
        };
        let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name.to_owned());
        self.bar = Some(bar);
    }

    /// Shows where the phase stands: `position` in its units, and `message`.
    pub fn show(&mut self, position: u64, message: impl FnOnce() -> String) {
        self.note_standing(|standing| standing.position = position);
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(message());
        } else if !self.quiet && self.printed.elapsed() > PLAIN_EVERY {
            self.printed = Instant::now();
            let percent = match self.length {
                Some(length) if length > 0 => format!(" {} %", position * 100 / length),
                _ => String::new(),
            };
            crate::output::note!("{}{percent}: {}", self.phase, message());
        }
    }

    /// How many of something a second, since the phase began.
    pub fn rate(&self, count: u64) -> u64 {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        count.saturating_mul(1_000) / millis
    }

    /// A note beside the progress.
    pub fn note(&self, text: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| crate::output::note!("{text}")),
            None => crate::output::note!("{text}"),
        }
    }

    /// Ends the phase and clears its bar.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
