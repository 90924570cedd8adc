//! What is recorded of a provider changes: which one it was, where it is, by which key it knows us.

use anyhow::Result;
use pipeline::{
    domain::{ActionOutcome, ActionVerb},
    store::{self, GatewayKind, Installed, KnownGateway, Store},
};
use serde_json::json;

use super::{
    installed, recorder,
    verify::{Verdict, verify},
    with_note,
};
use crate::{
    actions::{Deed, Effect},
    cli::{
        payment::DEFAULT_CURRENCY,
        provider::{KeyArgs, LocateArgs, MoveArgs},
    },
    config::Globals,
    exit::{Exit, Refusal},
    gateway::{Key, Keys, described, of_another, plain_text, provider_url, variable_of},
    output::{self, text_line},
};

/// `orderstream provider locate`.
pub(super) async fn locate(store: &Store, args: &LocateArgs, globals: &Globals) -> Result<Exit> {
    let url = plain_text(&provider_url(&args.url, args.allow_plain_gateway)?);
    let target = format!("{} at {url} in {}", args.name, args.currency);
    let work = async {
        let installed = installed(store).await?;
        let before = named(&installed, &args.name)?;
        if !matches!(before.kind, GatewayKind::Http { .. }) || !before.reference_prefix.is_empty() {
            let message = format!(
                "{} was recorded when it began. If the provider has another address: orderstream provider move {} URL",
                described(before),
                before.name
            );
            return Err(Refusal::new(Exit::Conflict, message).into());
        }
        let mut after = KnownGateway {
            kind: GatewayKind::Http { url: Some(url.clone()) },
            currency: Some(args.currency.clone()),
            ..before.clone()
        };
        let key = offered(&installed, &after)?;
        let verdict = verify(store, &after, key.as_ref(), !args.change.unverified).await?;
        match key {
            Some(key) if matches!(verdict, Verdict::Knows(..)) => after.key_fingerprints = vec![key.fingerprint],
            // Somewhere else there are other keys: the first one that is used is recorded.
            _ if after.url() != before.url() => after.key_fingerprints.clear(),
            _ => {}
        }
        Ok(Change { pairs: vec![(before.clone(), after)], verdict: Some(verdict) })
    };
    let done = act(store, ActionVerb::LocateProvider, target, &args.change.why, work).await?;
    done.tell(globals, |gateway| {
        text_line(&format!("Payments stored under {} were taken by {url} in {}.", gateway.name, args.currency))?;
        text_line(&done.sentence())?;
        text_line(
            "Who takes new ones: orderstream provider, or the flags of the first process that starts. The same provider gets another \
             name for them, as their references begin with the mark of this installation.",
        )
    })
}

/// `orderstream provider move`.
pub(super) async fn move_to(store: &Store, args: &MoveArgs, globals: &Globals) -> Result<Exit> {
    let url = plain_text(&provider_url(&args.url, args.allow_plain_gateway)?);
    let target = format!("{} to {url}", args.name);
    let work = async {
        let installed = installed(store).await?;
        let before = provider(&installed, &args.name)?;
        if before.url() == Some(&url) {
            return Ok(Change { pairs: vec![(before.clone(), before.clone())], verdict: None });
        }
        let mut after = KnownGateway { kind: GatewayKind::Http { url: Some(url.clone()) }, ..before.clone() };
        let key = offered(&installed, before)?;
        let verdict = verify(store, &after, key.as_ref(), !args.change.unverified).await?;
        // It has let this key in, and shown the charges of this account.
        if let Some(key) = key.filter(|key| matches!(verdict, Verdict::Knows(..)) && !after.accepts(&key.fingerprint)) {
            after.key_fingerprints.push(key.fingerprint);
        }
        Ok(Change { pairs: vec![(before.clone(), after)], verdict: Some(verdict) })
    };
    let done = act(store, ActionVerb::MoveProvider, target, &args.change.why, work).await?;
    let old = done.change.pairs[0].0.url();
    let there: Vec<KnownGateway> = installed(store).await?.gateways;
    let left: Vec<&str> = there
        .iter()
        .filter(|gateway| old != Some(&url) && gateway.url() == old)
        .map(|gateway| gateway.name.as_str())
        .collect();
    done.tell(globals, |gateway| {
        if !done.changed() {
            return text_line(&format!("{} is there already.", described(gateway)));
        }
        text_line(&format!("{} is asked and charges at {url} from now on.", gateway.name))?;
        text_line(&done.sentence())?;
        for name in &left {
            text_line(&format!("{name} is still at the address of before: orderstream provider move {name} {url}"))?;
        }
        Ok(())
    })
}

/// `orderstream provider key`.
pub(super) async fn accept_key(store: &Store, args: &KeyArgs, globals: &Globals) -> Result<Exit> {
    let work = async {
        let installed = installed(store).await?;
        let gateway = provider(&installed, &args.name)?;
        // Also one that is known as that of another provider: this is how somebody says that both have it.
        let Some(key) = Keys::from_env()?.given(Some(&gateway.name), &installed)? else {
            let message = format!(
                "no key is given: set {} (or ORDERSTREAM_GATEWAY_KEY) for this command, or the same with _FILE",
                variable_of(&gateway.name)
            );
            return Err(Refusal::new(Exit::Usage, message).into());
        };
        let verdict = verify(store, gateway, Some(&key), !args.change.unverified).await?;
        // The same account may be there under several names: one for each currency.
        let of_account = |other: &&KnownGateway| {
            other.name == gateway.name
                || (other.kind == gateway.kind && gateway.key_fingerprints.iter().any(|known| other.accepts(known)))
        };
        let pairs = installed.gateways.iter().filter(of_account).map(|before| {
            let mut keys = before.key_fingerprints.clone();
            if args.only {
                keys.retain(|known| *known == key.fingerprint);
            }
            if !keys.contains(&key.fingerprint) {
                keys.push(key.fingerprint.clone());
            }
            (before.clone(), KnownGateway { key_fingerprints: keys, ..before.clone() })
        });
        let mut pairs: Vec<_> = pairs.collect();
        // The one that was named comes first.
        pairs.sort_by_key(|(before, _)| before.name != gateway.name);
        Ok(Change { pairs, verdict: Some(verdict) })
    };
    let done = act(store, ActionVerb::AcceptKey, args.name.clone(), &args.change.why, work).await?;
    done.tell(globals, |gateway| {
        for (_, after) in &done.change.pairs {
            text_line(&format!("{} knows this installation by {}.", described(after), keys_of(after)))?;
        }
        text_line(&done.sentence())?;
        match gateway.key_fingerprints.len() {
            1 if args.only => text_line("Processes with another key end when they would begin the next payment."),
            1 => Ok(()),
            _ => text_line(&format!(
                "Once all processes have the new key: orderstream provider key {} --only",
                gateway.name
            )),
        }
    })
}

fn keys_of(gateway: &KnownGateway) -> String {
    match gateway.key_fingerprints.as_slice() {
        [one] => format!("the key {one}"),
        several => format!("the keys {}", several.join(" and ")),
    }
}

/// The gateway of this name.
fn named<'a>(installed: &'a Installed, name: &str) -> Result<&'a KnownGateway> {
    installed.named(name).ok_or_else(|| {
        let known: Vec<&str> = installed.gateways.iter().map(|gateway| gateway.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Refusal::new(Exit::NotFound, format!("no payments are stored under {name:?}; known gateways: {known}")).into()
    })
}

/// The same, which must be a provider that somebody can ask.
fn provider<'a>(installed: &'a Installed, name: &str) -> Result<&'a KnownGateway> {
    let gateway = named(installed, name)?;
    let why = match &gateway.kind {
        GatewayKind::Http { url: Some(_) } => return Ok(gateway),
        GatewayKind::Http { url: None } => format!(
            "an earlier version did not record which provider {name:?} is: orderstream provider locate {name} URL --currency \
             {DEFAULT_CURRENCY}"
        ),
        GatewayKind::Simulator { .. } => format!("{} is no provider: nobody is asked there", described(gateway)),
    };
    Err(Refusal::new(Exit::Conflict, why).into())
}

/// The key that this command has for a gateway.
fn offered(installed: &Installed, gateway: &KnownGateway) -> Result<Option<Key>> {
    let offered = Keys::from_env()?.offered(Some(&gateway.name), gateway.url(), installed)?;
    offered.map_err(|(key, owner)| Refusal::new(Exit::Conflict, of_another(&key, &owner, &gateway.name)).into())
}

/// What is to be recorded: gateways as they are and as they will be, the one that was named first.
struct Change {
    pairs: Vec<(KnownGateway, KnownGateway)>,
    /// What the provider knew; nothing where nothing is to be changed.
    verdict: Option<Verdict>,
}

/// What was recorded, and where that is noted.
struct Done {
    change: Change,
    note: crate::actions::Note,
}

async fn act(
    store: &Store,
    verb: ActionVerb,
    target: String,
    why: &str,
    work: impl Future<Output = Result<Change>>,
) -> Result<Done> {
    let (recorder, deed) = (recorder(store), Deed { verb, target, why });
    let work = async {
        let change = work.await?;
        let action = recorder.action(&deed, effect(&change));
        match store::change_gateways(store, &change.pairs, &action).await? {
            Some(action) => Ok((change, Some(action))),
            None => {
                let message =
                    "somebody changed this gateway at the same moment: look at it (orderstream provider) and try again";
                Err(Refusal::new(Exit::Conflict, message).into())
            }
        }
    };
    let (change, note) = recorder.act_in_one(deed.clone(), work, effect).await?;
    note.warn();
    Ok(Done { change, note })
}

/// For the log of actions.
fn effect(change: &Change) -> Effect {
    let changed = change.pairs.iter().filter(|(before, after)| before != after).count();
    Effect {
        affected: u64::try_from(changed).unwrap_or(u64::MAX),
        outcome: ActionOutcome::Done,
        detail: json!({
            "gateway": change.pairs[0].1,
            "before": change.pairs[0].0,
            "verified": matches!(change.verdict, Some(Verdict::Knows(..))),
        }),
    }
}

impl Done {
    fn changed(&self) -> bool {
        self.change.pairs.iter().any(|(before, after)| before != after)
    }

    /// What the provider knew.
    fn sentence(&self) -> String {
        self.change.verdict.map(Verdict::sentence).unwrap_or_default()
    }

    /// Says it, as JSON or in words about the gateway that was named.
    fn tell(&self, globals: &Globals, words: impl FnOnce(&KnownGateway) -> Result<()>) -> Result<Exit> {
        let (before, gateway) = &self.change.pairs[0];
        if !globals.json {
            words(gateway)?;
            return Ok(Exit::Done);
        }
        // Each one that it was asked about: who knows one of them not is refused.
        let known = match self.change.verdict {
            Some(Verdict::Knows(known)) => known,
            _ => 0,
        };
        let document = json!({
            "changed": self.changed(),
            "gateway": gateway,
            "before": before,
            "known_charges": known,
        });
        output::json(&with_note(document, &self.note))?;
        Ok(Exit::Done)
    }
}
