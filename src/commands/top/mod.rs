//! `orderstream top`: the snapshot of the dashboard, on a terminal.
//!
//! | what | where |
//! |---|---|
//! | what is shown and chosen, and what a key does | `view` |
//! | the screen itself | `draw` |
//! | the loop between keys, snapshots and the screen | `screen` |
//! | pausing, resuming, replaying | `deeds` |

mod deeds;
mod draw;
mod palette;
mod screen;
mod view;

use std::io::{self, IsTerminal};

use anyhow::Result;

use self::{
    palette::Palette,
    view::{Place, View},
};
use crate::{
    backends::Backends,
    cli::top::TopArgs,
    commands::shutdown_on_signal,
    config::Globals,
    exit::{Exit, Refusal},
    monitor::{Monitor, MonitorOptions, Work},
    output,
};

pub(super) async fn run(backends: &Backends, args: TopArgs, globals: &Globals) -> Result<Exit> {
    if !globals.json {
        demand_terminal(&args)?;
    }
    let shutdown = shutdown_on_signal()?;
    // Who looks for a moment leaves the writing of history to those who stay.
    let options = MonitorOptions { has_viewers: true, may_lead: false };
    let monitor = Monitor::start(backends, options, Work::default(), &shutdown).await?;
    if globals.json {
        let mut snapshots = monitor.subscribe();
        let mut left = args.count.unwrap_or(u64::MAX);
        while left > 0 {
            tokio::select! {
                changed = snapshots.changed() => changed?,
                () = shutdown.begun() => break,
            }
            let line = output::inert_json(serde_json::to_string(&*snapshots.borrow_and_update().clone())?);
            if !output::raw(format!("{line}\n").as_bytes())? {
                break;
            }
            left -= 1;
        }
        return Ok(Exit::Done);
    }
    let place = Place { environment: args.environment, namespace: globals.namespace.clone() };
    screen::run(backends, &monitor, View::new(place, Palette::of_environment()), &shutdown).await
}

fn demand_terminal(args: &TopArgs) -> Result<()> {
    let message = match args.count {
        Some(_) => "--count is for --json",
        None if !io::stdout().is_terminal() || !io::stdin().is_terminal() => {
            "top needs a terminal. For scripts: orderstream top --json (one snapshot a line), or orderstream status"
        }
        None => return Ok(()),
    };
    Err(Refusal::new(Exit::Usage, message).into())
}
