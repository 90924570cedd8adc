//! `orderstream reconcile`: one sweep now, or what earlier ones found.

use std::time::Duration;

use anyhow::Result;
use pipeline::{
    metrics::Metrics,
    reconciler::{Found, Mode, Reconciler},
    store::{self, WorkerSettings},
};
use serde_json::json;

use super::shutdown_on_signal;
use crate::{
    backends::Backends,
    cli::operate::ReconcileArgs,
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, thousands},
};

/// How many findings are shown.
const HISTORY: i64 = 100;

pub(super) async fn run(backends: &Backends, args: &ReconcileArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 2)?;
    if args.history {
        let history = store::reconciliations(&mut *store.pool().acquire().await?, HISTORY).await?;
        if globals.json {
            output::json(&json!({ "reconciliations": history }))?;
            return Ok(Exit::Done);
        }
        let rows = history.iter().map(|found| {
            let time = found.finished_at.format("%Y-%m-%d %H:%M:%S").to_string();
            let (payment, settlement) = (thousands(found.to_payment), thousands(found.to_settlement));
            vec![time, found.cause.clone(), payment, settlement, found.detail.escape_debug().to_string()]
        });
        output::table(&["WHEN (UTC)", "CAUSE", "TO PAYMENT", "TO SETTLEMENT", "DETAIL"], &[2, 3], rows.collect())?;
        return Ok(Exit::Done);
    }

    let shutdown = shutdown_on_signal()?;
    let mode = if args.dry_run { Mode::Look } else { Mode::Repair };
    let reconciler = Reconciler::new(store.clone(), backends.redis()?, Duration::ZERO, &Metrics::default());
    let found = tokio::select! {
        found = reconciler.once(mode, &shutdown) => found?,
        () = tokio::time::sleep(args.wait) => {
            let message = format!(
                "the streams were not worked off within {} s: is `orderstream run` running, or a stage paused? (orderstream status)",
                args.wait.as_secs()
            );
            return Err(Refusal::new(Exit::Failed, message).into());
        }
    };
    let Some(found) = found else { return Ok(Exit::Interrupted) };
    if globals.json {
        output::json(&found)?;
        return Ok(Exit::Done);
    }
    output::text_line(&sentence(&found, args.dry_run))?;
    Ok(Exit::Done)
}

fn sentence(found: &Found, dry_run: bool) -> String {
    if found.is_nothing() {
        return "Every open order has its message.".to_owned();
    }
    let Found { to_payment, to_settlement, letters_lost, examples } = found;
    format!(
        "{} {} orders for payment and {} for settlement that had no message any more, {} parked ones without a letter: {}",
        if dry_run { "Would emit" } else { "Emitted" },
        thousands(*to_payment),
        thousands(*to_settlement),
        thousands(*letters_lost),
        examples.iter().map(|code| code.escape_debug().to_string()).collect::<Vec<_>>().join(", "),
    )
}
