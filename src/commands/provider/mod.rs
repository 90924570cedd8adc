//! `orderstream provider`: who takes the money of the installation.

mod change;
mod set;
mod verify;

use anyhow::Result;
use chrono::{DateTime, Utc};
use pipeline::{
    domain::ActionVia,
    store::{self, GatewayLoad, Installed, KnownGateway, Store, WorkerSettings},
};
use serde::Serialize;
use serde_json::json;

use super::orders::time;
use crate::{
    actions::{Actor, Note, Recorder},
    backends::Backends,
    cli::{
        payment::DEFAULT_CURRENCY,
        provider::{ProviderArgs, ProviderCommand},
    },
    config::Globals,
    exit::Exit,
    gateway,
    output::{self, text_line, thousands},
};

pub(super) async fn run(backends: &Backends, args: ProviderArgs, globals: &Globals) -> Result<Exit> {
    let store = backends.store(WorkerSettings::Report, 2)?;
    match args.what {
        None => show(&store, globals).await,
        Some(ProviderCommand::Set(args)) => set::set(&store, &args, globals).await,
        Some(ProviderCommand::Locate(args)) => change::locate(&store, &args, globals).await,
        Some(ProviderCommand::Move(args)) => change::move_to(&store, &args, globals).await,
        Some(ProviderCommand::Key(args)) => change::accept_key(&store, &args, globals).await,
    }
}

/// A gateway, with what hangs on it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    gateway: KnownGateway,
    /// Whether it takes new payments.
    current: bool,
    /// When it began to, last; null of an earlier version's.
    since: Option<DateTime<Utc>>,
    payments: i64,
    pending: i64,
}

async fn show(store: &Store, globals: &Globals) -> Result<Exit> {
    let pool = store.pool();
    let (installation, known) = (store::installation(&pool).await?, installed(store).await?.gateways);
    let (terms, loads) = (store::gateway_terms(&pool).await?, store::gateway_loads(&pool).await?);
    let current = terms.first().map(|term| term.gateway.clone());
    let gateways: Vec<Shown> = known
        .into_iter()
        .map(|gateway| {
            let load = load_of(&loads, &gateway.name);
            Shown {
                current: current.as_ref() == Some(&gateway.name),
                since: terms.iter().find(|term| term.gateway == gateway.name).map(|term| term.from_at),
                payments: load.0,
                pending: load.1,
                gateway,
            }
        })
        .collect();
    if globals.json {
        output::json(&json!({ "installation": installation, "gateways": gateways, "history": terms }))?;
        return Ok(Exit::Done);
    }
    text_line(&format!("Installation {installation}"))?;
    if gateways.is_empty() {
        text_line("Nobody takes payments yet: the first run, dev or import decides, or orderstream provider set URL.")?;
        return Ok(Exit::Done);
    }
    let rows = gateways.iter().map(|Shown { gateway, current, since, payments, pending }| {
        vec![
            gateway.name.clone(),
            if *current { "yes" } else { "" }.to_owned(),
            gateway.currency.clone().unwrap_or_else(|| "not recorded".to_owned()),
            since.map_or_else(|| "-".to_owned(), time),
            thousands(*payments),
            thousands(*pending),
            gateway::place(gateway),
            if gateway.key_fingerprints.is_empty() { "-".to_owned() } else { gateway.key_fingerprints.join(" ") },
        ]
    });
    output::table(
        &["NAME", "TAKES NEW", "CURRENCY", "SINCE", "PAYMENTS", "PENDING", "AT", "KEYS"],
        &[4, 5],
        rows.collect(),
    )?;
    for Shown { gateway, .. } in gateways.iter().filter(|shown| shown.gateway.is_unlocated()) {
        output::write_note(&format!(
            "An earlier version did not record which provider {0:?} is. Say it once: orderstream provider locate {0} URL --currency {DEFAULT_CURRENCY}",
            gateway.name
        ));
    }
    Ok(Exit::Done)
}

async fn installed(store: &Store) -> Result<Installed, store::Error> {
    let mut connection = store.pool().acquire().await?;
    store::installed(&mut connection).await
}

/// Payments of a gateway, and those of them that wait for its answer.
fn load_of(loads: &[GatewayLoad], name: &str) -> (i64, i64) {
    loads.iter().find(|load| load.gateway == name).map_or((0, 0), |load| (load.payments, load.pending))
}

fn recorder(store: &Store) -> Recorder {
    Recorder::new(store, Actor::of_this_process(ActionVia::Cli))
}

/// A document, and where the action is noted.
fn with_note(mut document: serde_json::Value, note: &Note) -> serde_json::Value {
    if let Some(object) = document.as_object_mut() {
        object.insert("action".to_owned(), json!(note.action));
    }
    document
}
