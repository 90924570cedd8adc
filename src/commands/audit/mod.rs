//! `orderstream audit`.

mod accounts;
mod ledger;
mod lines;

use anyhow::Result;
use pipeline::{
    audit::{self, CheckResult},
    store::{self, KnownGateway, WorkerSettings},
};
use serde::Serialize;

use crate::{
    backends::Backends,
    cli::operate::AuditArgs,
    config::Globals,
    exit::{Exit, Refusal},
    gateway::{described, is_provider, plain_text, provider_url},
    output::{self, text_line, thousands},
};

use accounts::{Account, accounts};
use ledger::{Ledger, Look};
use lines::{LedgerLines, NotThere};

/// What the audit shows.
#[derive(Serialize)]
struct Document {
    checks: Vec<CheckResult>,
    /// Gateways whose providers' ledgers were not read.
    not_compared: Vec<NotCompared>,
    /// Entries of the ledgers that other installations made.
    of_other_installations: u64,
}

/// A provider's ledger that was not compared with the books.
#[derive(Serialize)]
struct NotCompared {
    /// The gateways that charge to it.
    gateways: Vec<String>,
    /// Why not.
    why: String,
}

impl NotCompared {
    fn new<'a>(gateways: impl IntoIterator<Item = &'a KnownGateway>, why: impl Into<String>) -> Self {
        Self { gateways: gateways.into_iter().map(described).collect(), why: why.into() }
    }
}

pub(super) async fn run(backends: &Backends, args: &AuditArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 2)?;
    let asked = match &args.gateway {
        Some(url) => Some(plain_text(&provider_url(url, args.allow_plain_gateway)?)),
        None => None,
    };
    let installed = {
        let mut connection = store.pool().acquire().await.map_err(store::Error::from)?;
        store::installed(&mut connection).await?
    };
    let providers: Vec<&KnownGateway> = installed.gateways.iter().filter(|gateway| is_provider(gateway)).collect();
    if asked.is_some() || args.ledgers {
        demand_located(&providers)?;
    }
    if let Some(asked) = &asked
        && providers.iter().all(|gateway| gateway.url() != Some(asked))
    {
        let known: Vec<String> = providers.iter().map(|gateway| described(gateway)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("no payment of this installation was taken by {asked}; its providers: {known}");
        return Err(Refusal::new(Exit::Conflict, message).into());
    }
    // Who was replaced before it took any money has nothing to show, and may be gone. Of who takes new payments only its ledger
    // knows whether it took some: the books may be those of a backup.
    let used = store::used_gateways(&store.pool()).await?;
    let is_missed =
        |gateway: &KnownGateway| installed.current.as_ref() == Some(&gateway.name) || used.contains(&gateway.name);
    let mut not_compared = Vec::new();
    for gateway in providers.iter().filter(|gateway| gateway.is_unlocated()) {
        not_compared.push(NotCompared::new([*gateway], "nobody has said which provider it is"));
    }
    let report = audit::run(&store, &backends.redis()?).await?;
    let mut compared: Option<Look> = None;
    for Account { url, gateways, key, .. } in accounts(&providers, &installed)? {
        let is_demanded = asked.as_ref() == Some(&url);
        let is_optional = !is_demanded && !gateways.iter().any(is_missed);
        let mut pass_over = |why: String| not_compared.push(NotCompared::new(&gateways, why));
        if args.no_ledgers || (asked.is_some() && !is_demanded) {
            pass_over("it was not asked for".to_owned());
            continue;
        }
        let key = match key {
            Ok(key) => key,
            Err(why) if is_optional || !(is_demanded || args.ledgers) => {
                pass_over(why);
                continue;
            }
            Err(why) => return Err(Refusal::new(Exit::Conflict, why).into()),
        };
        // Whoever set it accepted it, plain or not.
        let lines = LedgerLines::new(provider_url(&url, true)?, key.map(|key| key.secret))?;
        let ledger = Ledger { lines, gateways: gateways.clone(), mark: installed.mark.clone() };
        match ledger::compare(&store, &ledger).await {
            Ok(look) => compared.get_or_insert_default().add(look),
            Err(error) if is_optional && error.downcast_ref::<store::Error>().is_none() => {
                pass_over(format!("{error:#} (it was replaced before it took a payment)"));
            }
            // Not every provider shows its ledger; whoever asks for it wants to know.
            Err(error) if !is_demanded && !args.ledgers && error.downcast_ref::<NotThere>().is_some() => {
                pass_over(format!("{error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    let mut document = Document { checks: report.checks, not_compared, of_other_installations: 0 };
    if let Some(compared) = compared {
        document.of_other_installations = compared.of_others;
        document.checks.extend(compared.checks());
    }
    let is_clean = document.checks.iter().all(|check| check.differences == 0);
    match globals.json {
        true => output::json(&document)?,
        false => tell(&document, is_clean)?,
    }
    Ok(if is_clean { Exit::Done } else { Exit::Difference })
}

/// Payments that nobody can look up are no clean books.
fn demand_located(providers: &[&KnownGateway]) -> Result<()> {
    let Some(gateway) = providers.iter().find(|gateway| gateway.is_unlocated()) else { return Ok(()) };
    let message = format!(
        "an earlier version did not record which provider {0:?} is: orderstream provider locate {0} URL --currency EUR",
        gateway.name
    );
    Err(Refusal::new(Exit::Conflict, message).into())
}

fn tell(document: &Document, is_clean: bool) -> Result<()> {
    let rows = document
        .checks
        .iter()
        .map(|check| {
            let verdict = if check.differences == 0 { "ok".to_owned() } else { thousands(check.differences) };
            vec![check.name.to_string(), verdict, check.figure.to_string(), check.proves.to_string()]
        })
        .collect();
    output::table(&["CHECK", "DIFFERENCES", "EXAMINED", "PROVES THAT"], &[1], rows)?;
    for check in document.checks.iter().filter(|check| check.differences > 0) {
        text_line("")?;
        text_line(&format!("{}: {} differences", check.name, thousands(check.differences)))?;
        for example in &check.examples {
            text_line(&format!("  {}", output::inert(example.as_bytes(), false)))?;
        }
    }
    text_line("")?;
    if document.of_other_installations > 0 {
        text_line(&format!(
            "{} entries of the ledgers belong to other installations.",
            thousands(document.of_other_installations)
        ))?;
    }
    for NotCompared { gateways, why } in &document.not_compared {
        let line = format!("Not compared with the ledger of the provider of {}: {why}.", gateways.join(", "));
        text_line(&output::inert(line.as_bytes(), false))?;
    }
    text_line(match (is_clean, document.not_compared.is_empty()) {
        (true, true) => "The books balance.",
        (true, false) => "The books balance, as far as they were compared.",
        (false, _) => "The books do not balance.",
    })
}
