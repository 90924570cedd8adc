//! `orderstream alerts`: where the built-in rules stand.

use anyhow::Result;
use chrono::SecondsFormat;
use serde_json::json;

use crate::{
    alerts,
    backends::Backends,
    cli::alerts::AlertsArgs,
    config::Globals,
    exit::{Exit, Refusal},
    monitor::AlertView,
    output::{self, inert},
};

pub(super) async fn run(backends: &Backends, args: &AlertsArgs, globals: &Globals) -> Result<Exit> {
    let redis = backends.redis()?;
    let alerts = alerts::stored(&redis, &mut redis.connect().await?).await?;
    if globals.json {
        output::json(&json!({ "alerts": alerts }))?;
    } else if !alerts.is_empty() {
        print(&alerts)?;
    }
    if alerts.is_empty() {
        let message = "nobody evaluates alerts: orderstream run, serve and dev do";
        if args.check {
            return Err(Refusal::new(Exit::Failed, message).into());
        }
        if !globals.json && !globals.quiet {
            crate::output::note!("note: {message}");
        }
    }
    let fires = alerts.iter().any(|alert| alert.state == "firing");
    Ok(if args.check && fires { Exit::Alert } else { Exit::Done })
}

fn print(alerts: &[AlertView]) -> Result<()> {
    let row = |alert: &AlertView| {
        let since = alert.since.map(|since| since.to_rfc3339_opts(SecondsFormat::Secs, true));
        vec![
            alert.state.clone(),
            alert.rule.clone(),
            alert.severity.as_str().to_owned(),
            since.unwrap_or_else(|| "-".to_owned()),
            alert.threshold.clone(),
            inert(alert.message.as_bytes(), false),
        ]
    };
    let mut sorted: Vec<&AlertView> = alerts.iter().collect();
    sorted.sort_by_key(|alert| alert.state != "firing");
    let rows = sorted.into_iter().map(row).collect();
    output::table(&["STATE", "RULE", "SEVERITY", "SINCE", "FIRES WHEN", "MESSAGE"], &[], rows)
}
