//! Which gateway a process works with: the installation's, as long as it fits what the process was told.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use pipeline::{
    domain::{ActionOutcome, ActionVerb, ActionVia},
    gateway::Simulator,
    payments::{Connected, Connector, GatewayError, Gateways, PaymentLimits},
    store::{GatewayKind, Installed, KnownGateway, NewAction, NewGateway},
};
use serde_json::json;

use super::{
    CallError, GatewayFigures, HttpGateway, Settings,
    key::{Keys, no_key},
    told::{Told, is_provider, provider_url},
    withheld::Withheld,
};
use crate::{
    actions::{Actor, Deed, Effect},
    cli::payment::{DEFAULT_CURRENCY, DEFAULT_SUCCESS_RATE, PaymentArgs},
    exit::{Exit, Refusal},
};

/// What a process does with money, and so what it must know of who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// It begins payments: the first such process of an installation decides who takes the money.
    Payments,
    /// It begins none, but asks about those that were begun, or gives money back.
    Questions,
    /// It leaves both to others: without a key it calls nobody.
    Nothing,
}

/// The gateways of the installation, for a process with these flags. Nothing is read yet. Calls of providers are counted in
/// `figures`.
///
/// # Errors
/// When a flag or variable has a value that cannot be used; it is named.
pub fn gateways(args: &PaymentArgs, figures: &GatewayFigures, begins: Begins) -> anyhow::Result<Gateways> {
    let connections = Connections {
        told: Told::new(args)?,
        begins,
        args: args.clone(),
        keys: Keys::from_env()?,
        figures: figures.clone(),
    };
    Ok(Gateways::new(Arc::new(connections)))
}

/// Reads who takes the money.
///
/// # Errors
/// When Postgres cannot be reached; as a refusal, when this process was told otherwise or somebody has to say it.
pub async fn load(gateways: &Gateways, store: &pipeline::store::Store) -> anyhow::Result<()> {
    gateways.load(store).await.map_err(refused)
}

/// As the command ends with it.
pub fn refused(error: GatewayError) -> anyhow::Error {
    match error {
        GatewayError::Store(error) => error.into(),
        GatewayError::Refused(why) => Refusal::new(Exit::Conflict, why).into(),
    }
}

/// The share of a rate, in ten thousandths.
///
/// # Errors
/// When it is no rate.
pub fn share(rate: f64) -> anyhow::Result<u32> {
    Simulator::share(rate).map_err(|error| Refusal::new(Exit::Usage, format!("--success-rate: {error}")).into())
}

/// How long to wait for money, as the flags say.
pub fn payment_limits(args: &PaymentArgs) -> PaymentLimits {
    PaymentLimits {
        payment_timeout: Duration::from_secs(args.payment_timeout),
        // For its turn, for its answer, and a margin.
        answer_max: Duration::from_secs(2 * args.gateway_timeout + 2),
        refund_wait: Duration::from_secs(args.refund_wait),
    }
}

/// A gateway, for people: `http (http://127.0.0.1:9000, EUR)`.
pub fn described(gateway: &KnownGateway) -> String {
    format!("{} ({}, {})", gateway.name, place(gateway), gateway.currency.as_deref().unwrap_or(NOT_RECORDED))
}

/// Where a gateway is, for people: its URL, or what the simulator does.
pub fn place(gateway: &KnownGateway) -> String {
    match &gateway.kind {
        GatewayKind::Http { url } => url.clone().unwrap_or_else(|| NOT_RECORDED.to_owned()),
        GatewayKind::Simulator { approved_of_10_000: Some(share) } => {
            format!("simulated, approves {}", f64::from(*share) / 10_000.0)
        }
        GatewayKind::Simulator { approved_of_10_000: None } => "simulated".to_owned(),
    }
}

/// What an earlier version did not store.
const NOT_RECORDED: &str = "not recorded";

/// Makes clients of gateways for one process.
struct Connections {
    told: Told,
    begins: Begins,
    args: PaymentArgs,
    keys: Keys,
    figures: GatewayFigures,
}

impl std::fmt::Debug for Connections {
    // Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").field("told", &self.told).field("begins", &self.begins).finish_non_exhaustive()
    }
}

impl Connector for Connections {
    fn connect(&self, gateway: &KnownGateway, installed: &Installed, takes_new: bool) -> Result<Connected, String> {
        match &gateway.kind {
            GatewayKind::Simulator { approved_of_10_000 } => {
                let latency = Duration::from_millis(self.args.payment_latency_ms);
                // Refunds of an earlier version's payments need no share.
                let client = Simulator::of_10_000(approved_of_10_000.unwrap_or(10_000), &gateway.name, latency);
                Ok(Connected { client: Arc::new(client), first_key: None })
            }
            GatewayKind::Http { url: None } => Err(unlocated(gateway)),
            GatewayKind::Http { url: Some(url) } => {
                // Whoever set it accepted it, plain or not.
                let parsed = provider_url(url, true).map_err(|error| format!("{error:#}"))?;
                let key = self.keys.of(gateway, installed, takes_new)?;
                let is_first = gateway.key_fingerprints.is_empty();
                // Without the key a provider may take it for somebody else, and book anew what it has booked for us.
                if key.is_none() && !is_first {
                    let why = no_key(gateway);
                    if takes_new && self.begins == Begins::Nothing {
                        let client = Withheld { name: gateway.name.clone(), why };
                        return Ok(Connected { client: Arc::new(client), first_key: None });
                    }
                    return Err(why);
                }
                // Who only asks, once, has not said by that whose account it is.
                let recorded = key.as_ref().filter(|_| is_first && self.begins == Begins::Payments);
                let first_key = recorded.map(|key| key.fingerprint.clone());
                let settings = Settings {
                    url: parsed,
                    key: key.map(|key| key.secret),
                    timeout: Duration::from_secs(self.args.gateway_timeout),
                    calls_max: usize::from(self.args.gateway_calls),
                    calls_per_second_max: NonZeroU32::new(self.args.gateway_rate),
                };
                let currency = gateway.currency.as_deref().unwrap_or(DEFAULT_CURRENCY);
                let client = HttpGateway::new(settings, currency).map_err(|error| match error {
                    CallError::Key(_) => format!("ORDERSTREAM_GATEWAY_KEY: {error}"),
                    error => format!("the payment provider cannot be called: {error}"),
                })?;
                let client = client.stored_as(&gateway.name, &gateway.reference_prefix);
                Ok(Connected { client: Arc::new(client.counted_by(self.figures.clone())), first_key })
            }
        }
    }

    fn first(&self, earlier: &[KnownGateway]) -> Result<Option<NewGateway>, String> {
        if self.begins != Begins::Payments && !self.told.is_anything() {
            return Ok(None);
        }
        if let Some(gateway) = earlier.iter().find(|gateway| gateway.is_unlocated()) {
            return Err(unlocated(gateway));
        }
        if let Some(url) = &self.told.url {
            let kind = GatewayKind::Http { url: Some(url.clone()) };
            let currency = first_currency(self.told.currency.as_deref(), earlier)?;
            return Ok(Some(NewGateway { name: None, kind, currency, key_fingerprint: None }));
        }
        // Nobody falls back to the simulator who ever had a provider.
        if let Some(provider) = earlier.iter().find(|gateway| is_provider(gateway)) {
            return Err(format!(
                "payments of this installation were taken by {}, and nobody has said who takes new ones. \
                 Say it once, for all processes: orderstream provider set URL",
                described(provider),
            ));
        }
        let share = match self.told.share {
            Some(share) => share,
            None => Simulator::share(DEFAULT_SUCCESS_RATE)?,
        };
        let kind = GatewayKind::Simulator { approved_of_10_000: Some(share) };
        let currency = first_currency(self.told.currency.as_deref(), earlier)?;
        Ok(Some(NewGateway { name: None, kind, currency, key_fingerprint: None }))
    }

    fn first_action(&self, first: &KnownGateway) -> NewAction {
        let currency = first.currency.as_deref().unwrap_or_default();
        let deed =
            set_deed(&first.kind, currency, "the first process of this installation that says who takes the money");
        Actor::of_this_process(ActionVia::Cli).action(&deed, set_effect(first, None, true))
    }

    fn agree(&self, current: &KnownGateway, known: &[KnownGateway]) -> Result<(), String> {
        self.told.agree(current, known)
    }
}

/// In what the first new payments are charged: as it was said, else as those of an earlier version were.
pub(crate) fn first_currency(told: Option<&str>, earlier: &[KnownGateway]) -> Result<String, String> {
    if let Some(currency) = told {
        return Ok(currency.to_owned());
    }
    let mut currencies: Vec<&str> = earlier.iter().filter_map(|gateway| gateway.currency.as_deref()).collect();
    currencies.sort_unstable();
    currencies.dedup();
    match currencies[..] {
        [] => Ok(DEFAULT_CURRENCY.to_owned()),
        [currency] => Ok(currency.to_owned()),
        _ => Err(format!(
            "payments of this installation were taken in {}: say in what new ones are charged: --currency",
            currencies.join(" and ")
        )),
    }
}

/// That a gateway of this kind is to take new payments, for the log of actions.
pub(crate) fn set_deed<'a>(kind: &GatewayKind, currency: &str, why: &'a str) -> Deed<'a> {
    let target = match kind {
        GatewayKind::Http { url } => format!("{} in {currency}", url.as_deref().unwrap_or_default()),
        GatewayKind::Simulator { .. } => format!("the simulator in {currency}"),
    };
    Deed { verb: ActionVerb::SetProvider, target, why }
}

/// That it does, after the one before it.
pub(crate) fn set_effect(gateway: &KnownGateway, before: Option<&KnownGateway>, changed: bool) -> Effect {
    let detail = json!({ "gateway": gateway, "before": before });
    Effect { affected: u64::from(changed), outcome: ActionOutcome::Done, detail }
}

fn unlocated(gateway: &KnownGateway) -> String {
    format!(
        "an earlier version stored payments under the gateway {:?} and did not record which provider that is. Say it once: \
         orderstream provider locate {} URL --currency {DEFAULT_CURRENCY}",
        gateway.name, gateway.name
    )
}
