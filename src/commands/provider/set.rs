//! `orderstream provider set`.

use anyhow::Result;
use pipeline::store::{self, GatewayKind, GatewayTerm, Installed, KnownGateway, NewGateway, SetGateway, Store};
use serde_json::json;

use super::{installed, load_of, recorder, with_note};
use crate::{
    cli::{
        payment::{DEFAULT_CURRENCY, DEFAULT_SUCCESS_RATE},
        provider::SetArgs,
    },
    config::Globals,
    exit::{Exit, Refusal},
    gateway::{
        Key, Keys, described, first_currency, is_provider, other_account, plain_text, provider_url, set_deed,
        set_effect, share,
    },
    output::{self, text_line, thousands},
};

/// The provider that takes new payments, or did last; of an earlier version's, one that did.
fn last_provider<'a>(known: &'a [KnownGateway], terms: &[GatewayTerm]) -> Option<&'a KnownGateway> {
    let named = |term: &GatewayTerm| known.iter().find(|gateway| gateway.name == term.gateway && is_provider(gateway));
    terms.iter().find_map(named).or_else(|| known.iter().find(|gateway| is_provider(gateway)))
}

pub(super) async fn set(store: &Store, args: &SetArgs, globals: &Globals) -> Result<Exit> {
    let installed = installed(store).await?;
    let known = &installed.gateways;
    if let Some(gateway) = known.iter().find(|gateway| gateway.is_unlocated()) {
        let message = format!(
            "an earlier version stored payments under {0:?}: say first which provider that is, so that they can be asked \
             about and refunded: orderstream provider locate {0} URL --currency {DEFAULT_CURRENCY}",
            gateway.name
        );
        return Err(Refusal::new(Exit::Conflict, message).into());
    }
    let terms = store::gateway_terms(&store.pool()).await?;
    if let (true, false, Some(provider)) = (args.simulator, args.uncharged, last_provider(known, &terms)) {
        let message = format!(
            "payments of this installation {} taken by {}: with the simulator orders complete and nobody is charged. \
             If that is meant: --uncharged",
            if installed.current() == Some(provider) { "are" } else { "were" },
            described(provider)
        );
        return Err(Refusal::new(Exit::Conflict, message).into());
    }
    if let Some(name) = &args.name {
        let variable = store::variable_part(name);
        let same =
            known.iter().find(|gateway| gateway.name != *name && store::variable_part(&gateway.name) == variable);
        if let Some(other) = same {
            let message =
                format!("--name {name}: its key would come from the same variable as that of {}", described(other));
            return Err(Refusal::new(Exit::Conflict, message).into());
        }
        if variable == "FILE" || variable.ends_with("_FILE") {
            let message =
                format!("--name {name}: ORDERSTREAM_GATEWAY_KEY_{variable} would name the file of another key");
            return Err(Refusal::new(Exit::Usage, message).into());
        }
    }
    let kind = match &args.url {
        Some(url) => GatewayKind::Http { url: Some(plain_text(&provider_url(url, args.allow_plain_gateway)?)) },
        None => {
            let approved_of_10_000 = Some(share(args.success_rate.unwrap_or(DEFAULT_SUCCESS_RATE))?);
            GatewayKind::Simulator { approved_of_10_000 }
        }
    };
    let as_now = installed.current().and_then(|gateway| gateway.currency.clone());
    let told = args.currency.clone().or(as_now);
    let currency = first_currency(told.as_deref(), known).map_err(|why| Refusal::new(Exit::Conflict, why))?;
    let key = key(args, &kind, &installed)?;
    let key_fingerprint = key.as_ref().map(|key| key.fingerprint.clone());
    let wanted = NewGateway { name: args.name.clone(), kind, currency, key_fingerprint };
    let (recorder, deed) = (recorder(store), set_deed(&wanted.kind, &wanted.currency, &args.why));
    let work = async {
        let action = |gateway: &KnownGateway, before: Option<&KnownGateway>| {
            recorder.action(&deed, set_effect(gateway, before, true))
        };
        match store::set_gateway(store, &wanted, false, action).await? {
            SetGateway::NameTaken(gateway) => {
                let message = format!("the name is taken by {}: choose another --name", described(&gateway));
                Err(Refusal::new(Exit::Conflict, message).into())
            }
            SetGateway::OtherKey(gateway) => {
                let why = key.as_ref().map(|key| other_account(&gateway, key, &installed)).unwrap_or_default();
                Err(Refusal::new(Exit::Conflict, why).into())
            }
            SetGateway::Set { gateway, before, action } => Ok(((gateway, before, true), Some(action))),
            SetGateway::Kept(gateway) => Ok(((gateway, None, false), None)),
        }
    };
    let effect = |(gateway, before, changed): &(KnownGateway, Option<KnownGateway>, bool)| {
        set_effect(gateway, before.as_ref(), *changed)
    };
    let ((gateway, before, changed), note) = recorder.act_in_one(deed.clone(), work, effect).await?;
    note.warn();
    let pending = match &before {
        Some(before) => load_of(&store::gateway_loads(&store.pool()).await?, &before.name).1,
        None => 0,
    };
    if globals.json {
        let document = json!({ "changed": changed, "gateway": gateway, "before": before, "pending_before": pending });
        output::json(&with_note(document, &note))?;
        return Ok(Exit::Done);
    }
    text_line(&match changed {
        true => format!("New payments are taken by {} from now on.", described(&gateway)),
        false => format!("New payments are taken by {} already.", described(&gateway)),
    })?;
    if let Some(before) = before.filter(|_| pending > 0) {
        let key = match before.kind {
            GatewayKind::Http { .. } => format!(
                "; if it needs a key, give it to all processes as ORDERSTREAM_GATEWAY_KEY_{}",
                store::variable_part(&before.name)
            ),
            GatewayKind::Simulator { .. } => String::new(),
        };
        text_line(&format!("{} payments wait for the answer of {}{key}.", thousands(pending), described(&before)))?;
    }
    Ok(Exit::Done)
}

/// The key of a provider that is to take new payments, if this command has it.
fn key(args: &SetArgs, kind: &GatewayKind, installed: &Installed) -> Result<Option<Key>> {
    let GatewayKind::Http { url } = kind else { return Ok(None) };
    let name = args.name.as_deref();
    // Two names at one URL are two accounts, and have two keys.
    let shares_keys_with = url.as_deref().filter(|_| name.is_none());
    match Keys::from_env()?.offered(name, shares_keys_with, installed)? {
        Ok(key) => Ok(key),
        Err((key, owner)) => {
            output::write_note(&format!(
                "{} of this command is the key for {}. That of the new provider is recorded when the first process with it begins a \
                 payment, or by orderstream provider key NAME",
                key.variable,
                described(&owner),
            ));
            Ok(None)
        }
    }
}
