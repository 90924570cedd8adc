//! `orderstream audit`.

mod ledger;
mod lines;

use anyhow::Result;
use pipeline::{audit, store::WorkerSettings};

use crate::{
    backends::Backends,
    cli::operate::AuditArgs,
    config::{Globals, gateway_key},
    exit::Exit,
    gateway::provider_url,
    output::{self, text_line, thousands},
};

use lines::LedgerLines;

pub(super) async fn run(backends: &Backends, args: &AuditArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 2)?;
    let lines = match &args.gateway {
        Some(url) => Some(LedgerLines::new(provider_url(url, args.allow_plain_gateway)?, gateway_key()?)?),
        None => None,
    };
    let mut report = audit::run(&store, &backends.redis()?).await?;
    if let Some(lines) = lines {
        report.checks.extend(ledger::compare(&store, &lines).await?);
    }
    let exit = if report.is_clean() { Exit::Done } else { Exit::Difference };
    if globals.json {
        output::json(&report)?;
        return Ok(exit);
    }
    let rows = report
        .checks
        .iter()
        .map(|check| {
            let verdict = if check.differences == 0 { "ok".to_owned() } else { thousands(check.differences) };
            vec![check.name.to_string(), verdict, check.figure.to_string(), check.proves.to_string()]
        })
        .collect();
    output::table(&["CHECK", "DIFFERENCES", "EXAMINED", "PROVES THAT"], &[1], rows)?;
    for check in report.failed() {
        text_line("")?;
        text_line(&format!("{}: {} differences", check.name, thousands(check.differences)))?;
        for example in &check.examples {
            text_line(&format!("  {example}"))?;
        }
    }
    text_line("")?;
    text_line(if report.is_clean() { "The books balance." } else { "The books do not balance." })?;
    Ok(exit)
}
