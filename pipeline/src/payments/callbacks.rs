//! Applying what providers tell.

use rustc_hash::FxHashMap;
use sqlx::PgConnection;
use tracing::{error, warn};

use super::{
    Payments, Settleable,
    charges::{News, judge},
};
use crate::{
    domain::{CallbackKind, CallbackOutcome, OrderId, PaymentStatus},
    failpoint,
    gateway::{ChargeAnswer, HTTP, ReturnAnswer},
    message::Callback,
    store::{self, CallbacksOf, GatewayKind, Insertion, KnownGateway, Teller, WaitingCallback},
};

/// Most callbacks that are applied together.
const APPLY_MAX: i64 = 500;

/// How long a callback waits for what it speaks of, in seconds.
const UNMATCHED_AFTER_S: i64 = 3_600;

/// Outcomes by callback.
type Outcomes = Vec<(i64, CallbackOutcome)>;

impl Payments {
    /// Stores what a provider told by message, each id once. Applied later: whoever told it is thanked for it now. Who may write
    /// to the stream speaks for all gateways.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn store_callbacks(&self, callbacks: &[Callback]) -> Result<Vec<Insertion>, store::Error> {
        // A transaction: of two that bring the same callback again one finds the time that the other has noted.
        let mut transaction = self.store.begin().await?;
        let insertions = store::insert_callbacks(&mut transaction, callbacks, HTTP, &Teller::default()).await?;
        store::commit(transaction).await?;
        Ok(insertions)
    }

    /// Applies callbacks of one sort that wait; how many it decided, and which orders go on to settlement. Those of both
    /// sorts lock orders, each sort in the order of their ids: never both in one transaction.
    ///
    /// # Errors
    /// When Postgres cannot be reached. Then nothing was applied.
    pub async fn apply_callbacks(&self, of: CallbacksOf) -> Result<(usize, Vec<Settleable>), store::Error> {
        let mut transaction = self.store.begin().await?;
        let waiting = store::lock_waiting_callbacks(&mut transaction, of, APPLY_MAX).await?;
        if waiting.is_empty() {
            transaction.rollback().await?;
            return Ok((0, Vec::new()));
        }
        let (outcomes, settled) = match of {
            CallbacksOf::Charges => self.apply_to_charges(&mut transaction, &waiting).await?,
            CallbacksOf::Refunds => (self.apply_to_refunds(&mut transaction, &waiting).await?, Vec::new()),
        };
        let decided = outcomes.iter().filter(|(_, outcome)| *outcome != CallbackOutcome::Waiting).count();
        store::decide_callbacks(&mut transaction, &outcomes).await?;
        failpoint::hit::<store::Error>("collector.applied")?;
        store::commit(transaction).await?;
        Ok((decided, settled))
    }

    async fn apply_to_charges(
        &self,
        connection: &mut PgConnection,
        callbacks: &[WaitingCallback],
    ) -> Result<(Outcomes, Vec<Settleable>), store::Error> {
        let gateways = Providers::read(connection).await?;
        let codes: Vec<&str> = callbacks.iter().map(|callback| gateways.ours(&callback.reference)).collect();
        let known = store::order_ids_by_code(connection, &codes).await?;
        let ids: Vec<i64> = known.values().map(|id| id.0).collect();
        let mut payments = store::lock_payments_of_orders(connection, &ids).await?;
        let (mut outcomes, mut news, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for callback in callbacks {
            let found = known.get(gateways.ours(&callback.reference)).and_then(|id| Some((*id, payments.get_mut(id)?)));
            let Some((id, payment)) = found else {
                outcomes.push((callback.id, unmatched(callback)));
                continue;
            };
            let gateway = gateways.named(&payment.gateway);
            if !is_from(callback, gateway) {
                error!(
                    order = payment.code,
                    reference = callback.reference,
                    gateway = payment.gateway,
                    "a callback was not signed with the secret of the gateway that took the payment: not believed"
                );
                outcomes.push((callback.id, CallbackOutcome::Mismatched));
                continue;
            }
            let reference = gateway.map(|gateway| gateway.reference(&payment.code)).unwrap_or_default();
            if payment.amount != callback.amount || !is_told_by(callback, gateway, &reference) {
                error!(order = payment.code, amount = %callback.amount, currency = callback.currency, reference = callback.reference, gateway = payment.gateway, "a callback names another amount, currency or reference than the payment: not believed");
                outcomes.push((callback.id, CallbackOutcome::Mismatched));
                continue;
            }
            if is_about_another(payment, callback) {
                error!(
                    order = payment.code,
                    charge = payment.provider_id,
                    named = callback.provider_id,
                    gateway = payment.gateway,
                    "a callback names another charge than the provider did when it was asked: not believed, the provider is asked again"
                );
                outcomes.push((callback.id, CallbackOutcome::Mismatched));
                continue;
            }
            let answer = charge_answer(callback).expect("these are about charges");
            let judged = judge(payment, id, &answer, self.promised_s());
            // The next callback about the same order finds what this one has changed.
            if let News::Final(change) | News::Write(change) | News::Late(change) = &judged {
                payment.status = change.status;
                payment.provider_id = change.provider_id.clone().or(payment.provider_id.take());
            }
            told.push(callback.id);
            news.push((id, judged));
        }
        let (settled, told_outcomes) = self.write_each(connection, &payments, news).await?;
        outcomes.extend(told.into_iter().zip(told_outcomes));
        Ok((outcomes, settled))
    }

    /// Writes news in rounds, so that an order of which there are several is changed by one after the other.
    async fn write_each(
        &self,
        connection: &mut PgConnection,
        payments: &FxHashMap<OrderId, store::LockedPayment>,
        news: Vec<(OrderId, News)>,
    ) -> Result<(Vec<Settleable>, Vec<CallbackOutcome>), store::Error> {
        let mut outcomes = vec![CallbackOutcome::Waiting; news.len()];
        let mut settled: FxHashMap<OrderId, Settleable> = FxHashMap::default();
        let mut rest: Vec<(usize, (OrderId, News))> = news.into_iter().enumerate().collect();
        while !rest.is_empty() {
            let mut seen = rustc_hash::FxHashSet::default();
            let (round, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, (id, _))| seen.insert(*id));
            rest = later;
            let (places, round): (Vec<usize>, Vec<(OrderId, News)>) = round.into_iter().unzip();
            let (now_settled, decided) = self.write_news(connection, payments, round).await?;
            settled.extend(now_settled.into_iter().map(|order| (order.order.order_id, order)));
            for (place, outcome) in places.into_iter().zip(decided) {
                outcomes[place] = outcome;
            }
        }
        Ok((settled.into_values().collect(), outcomes))
    }

    async fn apply_to_refunds(
        &self,
        connection: &mut PgConnection,
        callbacks: &[WaitingCallback],
    ) -> Result<Outcomes, store::Error> {
        let gateways = Providers::read(connection).await?;
        let keys: Vec<&str> = callbacks.iter().map(|callback| gateways.ours(&callback.reference)).collect();
        let refunds = store::lock_refunds_with_orders(connection, &keys).await?;
        let (mut outcomes, mut told, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for callback in callbacks {
            let key = gateways.ours(&callback.reference);
            match refunds.get(key) {
                None => outcomes.push((callback.id, unmatched(callback))),
                Some(refund) if !is_from(callback, gateways.named(&refund.gateway)) => {
                    error!(
                        refund = key,
                        reference = callback.reference,
                        gateway = refund.gateway,
                        "a callback was not signed with the secret of the gateway that gives the money back: not believed"
                    );
                    outcomes.push((callback.id, CallbackOutcome::Mismatched));
                }
                Some(refund)
                    if refund.amount != callback.amount
                        || !is_told_by(
                            callback,
                            gateways.named(&refund.gateway),
                            &format!("{}{key}", refund.reference_prefix),
                        ) =>
                {
                    error!(refund = key, amount = %callback.amount, currency = callback.currency, reference = callback.reference, gateway = refund.gateway, "a callback names another amount, currency or reference than the refund: not believed");
                    outcomes.push((callback.id, CallbackOutcome::Mismatched));
                }
                Some(_) => {
                    told.push(callback.id);
                    answers.push((key, return_answer(callback)));
                }
            }
        }
        let told_outcomes = self.end(connection, &answers, Vec::new()).await?;
        outcomes.extend(told.into_iter().zip(told_outcomes));
        Ok(outcomes)
    }
}

/// The providers of the installation: what they tell names orders and refunds as they know them.
struct Providers {
    known: Vec<KnownGateway>,
    /// What references of this installation begin with, whoever took the payment.
    mark: String,
}

impl Providers {
    async fn read(connection: &mut PgConnection) -> Result<Self, store::Error> {
        let mark = store::reference_mark(connection).await?;
        Ok(Self { known: store::known_gateways(connection).await?, mark })
    }

    fn named(&self, name: &str) -> Option<&KnownGateway> {
        self.known.iter().find(|gateway| gateway.name == name)
    }

    /// The code or key in a reference.
    fn ours<'a>(&self, reference: &'a str) -> &'a str {
        let prefixes = self.known.iter().map(|gateway| gateway.reference_prefix.as_str()).chain([self.mark.as_str()]);
        let found = prefixes.filter(|prefix| !prefix.is_empty()).find_map(|prefix| reference.strip_prefix(prefix));
        found.unwrap_or(reference)
    }
}

/// Whether a callback comes from somebody who speaks for a gateway.
fn is_from(callback: &WaitingCallback, gateway: Option<&KnownGateway>) -> bool {
    gateway.is_some_and(|gateway| callback.teller.speaks_for(gateway))
}

/// Whether a callback says what the provider of a payment or refund would: its reference and its currency.
fn is_told_by(callback: &WaitingCallback, gateway: Option<&KnownGateway>, reference: &str) -> bool {
    gateway.is_some_and(|gateway| {
        matches!(gateway.kind, GatewayKind::Http { .. })
            && gateway.currency.as_ref() == Some(&callback.currency)
            && callback.reference == reference
    })
}

/// Whether a callback about a payment that is not decided names another charge than the one that its provider promised.
fn is_about_another(payment: &store::LockedPayment, callback: &WaitingCallback) -> bool {
    payment.status == PaymentStatus::Pending
        && payment.provider_id.as_ref().is_some_and(|promised| *promised != callback.provider_id)
}

/// What becomes of a callback about something that is not there: it may be early.
fn unmatched(callback: &WaitingCallback) -> CallbackOutcome {
    if callback.age_s < UNMATCHED_AFTER_S {
        return CallbackOutcome::Waiting;
    }
    warn!(reference = callback.reference, kind = %callback.kind, "a callback speaks of nothing that we know");
    CallbackOutcome::Unmatched
}

fn charge_answer(callback: &WaitingCallback) -> Option<ChargeAnswer> {
    let id = callback.provider_id.clone();
    match callback.kind {
        CallbackKind::ChargeApproved => Some(ChargeAnswer::Approved(id)),
        CallbackKind::ChargeDeclined => Some(ChargeAnswer::Declined(id)),
        CallbackKind::ChargePending => Some(ChargeAnswer::Pending(id)),
        CallbackKind::RefundSucceeded | CallbackKind::RefundFailed | CallbackKind::RefundPending => None,
    }
}

fn return_answer(callback: &WaitingCallback) -> ReturnAnswer {
    let id = callback.provider_id.clone();
    match callback.kind {
        CallbackKind::RefundSucceeded => ReturnAnswer::Succeeded(id),
        CallbackKind::RefundFailed => ReturnAnswer::Failed("told by callback".to_owned()),
        _ => ReturnAnswer::Pending(id),
    }
}
