//! The loop between keys, snapshots and the screen.

use std::time::{Duration, Instant};

use anyhow::Result;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt;
use pipeline::shutdown::Shutdown;
use ratatui::DefaultTerminal;
use tokio::time::MissedTickBehavior;

use super::{
    deeds::Deeds,
    draw,
    view::{View, Wish},
};
use crate::{backends::Backends, exit::Exit, monitor::Monitor};

/// How often the screen is drawn when nothing happens: ages grow.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// The terminal while it is ours. It is as before once this is dropped; a panic restores it first, so that its message is
/// read.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> Result<Self> {
        Ok(Self(ratatui::try_init()?))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows snapshots, and does what keys say, until one says to end.
pub(super) async fn run(backends: &Backends, monitor: &Monitor, mut view: View, shutdown: &Shutdown) -> Result<Exit> {
    let mut snapshots = monitor.subscribe();
    let mut deeds = Deeds::new(backends);
    let mut screen = Screen::take()?;
    let mut events = EventStream::new();
    let mut clock = tokio::time::interval(DRAW_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        view.grow_older(Instant::now());
        screen.0.draw(|frame| draw::screen(frame, &view))?;
        let wish = tokio::select! {
            () = shutdown.begun() => Some(Wish::Quit),
            event = events.next() => match event.transpose()? {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => view.press(key),
                Some(_) => None,
                // The terminal is gone.
                None => Some(Wish::Quit),
            },
            changed = snapshots.changed() => {
                changed?;
                let latest = snapshots.borrow_and_update().clone();
                view.receive(latest, Instant::now())
            }
            report = deeds.next() => view.learn(report?),
            _ = clock.tick() => None,
        };
        match wish {
            Some(Wish::Quit) => {
                drop(screen);
                deeds.end().await;
                return Ok(Exit::Done);
            }
            Some(Wish::Do(deed)) => deeds.begin(deed),
            Some(Wish::Stop) => deeds.stop(),
            None => {}
        }
    }
}
