//! Asking for money.

use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::PgConnection;
use tracing::{error, warn};

use super::{AGAIN_S, ASK_MAX, Payments, gateways::Client};
use crate::{
    domain::{CallbackOutcome, Cents, OrderId, OrderStatus, PaymentStatus},
    failpoint,
    gateway::{self, Charge, ChargeAnswer, Gateway},
    message::OrderRef,
    store::{self, DuePayment, LockedPayment, NewPayments, PaymentChange},
};

/// A provider that has never heard of a charge is asked again for so long after the payment has expired: the request may
/// still be on its way. As long does a process without its key leave an overdue payment to others.
const ABSENT_ASKED_FOR_S: i64 = 3_600;

/// An order whose payment has its answer: settlement is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settleable {
    /// Its message.
    pub order: OrderRef,
    /// Where it came in.
    pub partition: u16,
}

/// What an answer means for a payment.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    /// It has its first final answer: settlement is next.
    Final(PaymentChange),
    /// Something to remember, but no end.
    Write(PaymentChange),
    /// The money came when the order had failed: it goes back.
    Late(PaymentChange),
    /// The order has not been settled as its payment says: judge again later.
    TooSoon,
    /// Nothing that was not known.
    Known,
    /// The opposite of what was known.
    Contradicts,
}

impl Payments {
    /// Asks the first gateway for the money of reserved orders; which of them go on to settlement. The others wait for the
    /// collector, or need nothing any more. Where nothing is to be paid nobody is asked.
    ///
    /// # Errors
    /// When Postgres cannot be reached, and when another gateway takes new payments since: again, with that one. Doing it
    /// again asks nobody twice.
    pub async fn charge(&self, charges: Vec<Charge>) -> Result<FxHashSet<OrderId>, store::Error> {
        let (free, charges): (Vec<_>, Vec<_>) = charges.into_iter().partition(|charge| charge.amount == Cents::ZERO);
        let mut settled = self.note_free(&free).await?;
        settled.extend(self.ask_for_money(charges).await?);
        Ok(settled)
    }

    /// Writes down that nothing was to be paid.
    async fn note_free(&self, free: &[Charge]) -> Result<FxHashSet<OrderId>, store::Error> {
        if !free.is_empty() {
            let mut payments = NewPayments::default();
            for charge in free {
                payments.push(charge.order_id, charge.amount, PaymentStatus::Approved);
            }
            let mut connection = self.store.pool().acquire().await?;
            store::insert_payments(&mut connection, gateway::NONE, &payments).await?;
        }
        Ok(free.iter().map(|charge| charge.order_id).collect())
    }

    async fn ask_for_money(&self, charges: Vec<Charge>) -> Result<FxHashSet<OrderId>, store::Error> {
        if charges.is_empty() {
            return Ok(FxHashSet::default());
        }
        if self.gateways.current().is_none() {
            self.gateways.follow(&self.store).await?;
        }
        let client = self.gateways.taking_new().ok_or(store::Error::NoGateway)?;
        let charged = match client.gateway.is_pure() {
            true => self.charge_pure(client.gateway.as_ref(), charges).await,
            false => self.charge_provider(&client, charges).await,
        };
        if charged.as_ref().is_err_and(store::Error::is_other_gateway) {
            self.gateways.follow(&self.store).await?;
        }
        charged
    }

    async fn charge_provider(
        &self,
        Client { record, gateway }: &Client,
        charges: Vec<Charge>,
    ) -> Result<FxHashSet<OrderId>, store::Error> {
        let ids: Vec<i64> = charges.iter().map(|charge| charge.order_id.0).collect();
        let begun = {
            let (check, expire) = (self.limits.answer_max.as_secs_f64(), self.limits.payment_timeout.as_secs_f64());
            let mut transaction = self.store.begin().await?;
            let begun = store::begin_payments(&mut transaction, gateway.name(), &ids, check, expire).await?;
            // Changes wait from here on: it has this address and this key, or nothing begins.
            if !store::known_gateways(&mut transaction).await?.contains(record) {
                return Err(store::Error::GatewayChanged { name: record.name.clone() });
            }
            store::commit(transaction).await?;
            FxHashSet::from_iter(begun)
        };
        let asked: Vec<Charge> = charges.into_iter().filter(|charge| begun.contains(&charge.order_id)).collect();
        let answers = gateway.charge(&asked).await;
        failpoint::hit::<store::Error>("payment.charged")?;
        let settled = self.note_answers(&asked, answers).await?;
        Ok(settled.into_iter().map(|settled| settled.order.order_id).collect())
    }

    /// A pure gateway gives the same answer however often it is asked: one statement, after the fact.
    async fn charge_pure(
        &self,
        gateway: &dyn Gateway,
        charges: Vec<Charge>,
    ) -> Result<FxHashSet<OrderId>, store::Error> {
        let mut payments = NewPayments::default();
        for (charge, answer) in charges.iter().zip(gateway.charge(&charges).await) {
            let status = match answer {
                ChargeAnswer::Approved(_) => PaymentStatus::Approved,
                _ => PaymentStatus::Declined,
            };
            payments.push(charge.order_id, charge.amount, status);
        }
        failpoint::hit::<store::Error>("payment.charged")?;
        let mut connection = self.store.pool().acquire().await?;
        store::insert_payments(&mut connection, gateway.name(), &payments).await?;
        Ok(charges.into_iter().map(|charge| charge.order_id).collect())
    }

    /// Asks gateways about payments whose turn it is, again for those that never arrived there; how many it looked at, and
    /// which orders go on to settlement.
    ///
    /// # Errors
    /// When Postgres cannot be reached. What was taken is due again soon.
    pub async fn ask_about_charges(&self) -> Result<(usize, Vec<Settleable>), store::Error> {
        let due = {
            let mut connection = self.store.pool().acquire().await?;
            store::claim_due_payments(&mut connection, ASK_MAX, self.lease_s()).await?
        };
        let looked_at = due.len();
        let mut by_gateway: FxHashMap<String, Vec<DuePayment>> = FxHashMap::default();
        for payment in due {
            by_gateway.entry(payment.gateway.clone()).or_default().push(payment);
        }
        let mut settled = Vec::new();
        for (name, mut payments) in by_gateway {
            let gateway = self.gateways.named(&self.store, &name).await?;
            if let Err(why) = &gateway {
                self.gateways.complain("payments", &name, payments.len(), why);
                // Who cannot ask gives nothing up that another process may get an answer for.
                payments.retain(|payment| !payment.is_overdue || payment.overdue_s > ABSENT_ASKED_FOR_S);
            }
            let charges: Vec<Charge> = payments.iter().map(charge_of).collect();
            let answers = match gateway {
                Ok(gateway) => self.find_or_charge(gateway.as_ref(), &payments, &charges).await,
                Err(why) => vec![ChargeAnswer::Unknown(why); charges.len()],
            };
            failpoint::hit::<store::Error>("collector.asked")?;
            settled.extend(self.note_answers(&charges, answers).await?);
        }
        Ok((looked_at, settled))
    }

    /// What became of charges. One that never reached the provider is asked for again, under the same key, while its
    /// answer may still come in time. One that it has given an id is never asked for again: who does not know it now is not
    /// the one that was asked, or has forgotten, and another charge could be a second one.
    async fn find_or_charge(
        &self,
        gateway: &dyn Gateway,
        payments: &[DuePayment],
        charges: &[Charge],
    ) -> Vec<ChargeAnswer> {
        let mut answers = gateway.find_charges(charges).await;
        for (payment, answer) in payments.iter().zip(&mut answers) {
            if let (Some(id), ChargeAnswer::Absent) = (&payment.provider_id, &answer) {
                error!(
                    order = payment.code,
                    gateway = payment.gateway,
                    charge = id,
                    "a provider does not know a charge that it promised to decide: nothing is charged again; ask it"
                );
                *answer = ChargeAnswer::Unknown(format!("it does not know the charge {id} that it promised to decide"));
            }
        }
        let again: Vec<usize> = (0..charges.len())
            .filter(|_| gateway.charges_again())
            .filter(|&at| answers[at] == ChargeAnswer::Absent && payments[at].is_pending && !payments[at].is_overdue)
            .collect();
        let asked: Vec<Charge> = again.iter().map(|&at| charges[at].clone()).collect();
        if !asked.is_empty() {
            for (at, answer) in again.into_iter().zip(gateway.charge(&asked).await) {
                answers[at] = answer;
            }
        }
        for (payment, answer) in payments.iter().zip(&mut answers) {
            if *answer == ChargeAnswer::Absent && payment.overdue_s > ABSENT_ASKED_FOR_S {
                *answer = ChargeAnswer::Declined(String::new());
            }
        }
        answers
    }

    /// Writes answers down, each judged with its order locked; which orders go on to settlement.
    async fn note_answers(
        &self,
        charges: &[Charge],
        answers: Vec<ChargeAnswer>,
    ) -> Result<Vec<Settleable>, store::Error> {
        if charges.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = charges.iter().map(|charge| charge.order_id.0).collect();
        let mut transaction = self.store.begin().await?;
        let payments = store::lock_payments_of_orders(&mut transaction, &ids).await?;
        let mut news = Vec::new();
        for (charge, answer) in charges.iter().zip(&answers) {
            if let Some(payment) = payments.get(&charge.order_id) {
                news.push((charge.order_id, judge(payment, charge.order_id, answer, self.promised_s())));
            }
        }
        let settled = self.write_news(&mut transaction, &payments, news).await?;
        store::commit(transaction).await?;
        Ok(settled.0)
    }

    /// Writes what answers mean. The outcomes are for those who brought them, in their order.
    pub(super) async fn write_news(
        &self,
        connection: &mut PgConnection,
        payments: &FxHashMap<OrderId, LockedPayment>,
        news: Vec<(OrderId, News)>,
    ) -> Result<(Vec<Settleable>, Vec<CallbackOutcome>), store::Error> {
        let (mut changes, mut late, mut settled, mut outcomes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (id, news) in news {
            let payment = &payments[&id];
            outcomes.push(match news {
                News::Final(change) => {
                    let order = OrderRef { order_id: id, order_code: payment.code.clone() };
                    settled.push(Settleable { order, partition: payment.partition });
                    changes.push(change);
                    CallbackOutcome::Applied
                }
                News::Write(change) => {
                    changes.push(change);
                    CallbackOutcome::Applied
                }
                News::Late(change) => {
                    warn!(order = payment.code, amount = %payment.amount, "money came after the order had failed: it goes back");
                    late.push(id.0);
                    changes.push(change);
                    CallbackOutcome::Applied
                }
                News::TooSoon => CallbackOutcome::Waiting,
                News::Known => CallbackOutcome::Repeated,
                News::Contradicts => {
                    error!(order = payment.code, state = %payment.status, "a provider contradicts what it said before: ask it");
                    CallbackOutcome::Contradicts
                }
            });
        }
        if !changes.is_empty() {
            store::change_payments(connection, &changes).await?;
        }
        if !late.is_empty() {
            store::insert_automatic_refunds(connection, &late).await?;
        }
        Ok((settled, outcomes))
    }
}

/// Gives back the money of orders that failed although they are paid, for whoever has them locked.
///
/// # Errors
/// As any statement.
pub async fn return_late_money(connection: &mut PgConnection, orders: &[OrderId]) -> Result<(), store::Error> {
    let change = |order_id: &OrderId| PaymentChange {
        order_id: *order_id,
        status: PaymentStatus::Late,
        provider_id: None,
        again_s: None,
        note: None,
    };
    store::change_payments(connection, &orders.iter().map(change).collect::<Vec<_>>()).await?;
    let ids: Vec<i64> = orders.iter().map(|id| id.0).collect();
    store::insert_automatic_refunds(connection, &ids).await
}

fn charge_of(payment: &DuePayment) -> Charge {
    Charge { order_id: payment.order_id, reference: payment.code.clone(), amount: payment.amount }
}

/// What an answer means for a payment whose order is locked.
pub(super) fn judge(payment: &LockedPayment, order_id: OrderId, answer: &ChargeAnswer, promised_s: f64) -> News {
    let change = |status, provider_id: Option<&String>, again_s, note: Option<String>| PaymentChange {
        order_id,
        status,
        provider_id: provider_id.filter(|id| !id.is_empty()).cloned(),
        again_s,
        note,
    };
    let is_open = matches!(payment.order, OrderStatus::Reserved | OrderStatus::Paying);
    match (payment.status, answer) {
        (PaymentStatus::Pending, ChargeAnswer::Approved(id)) if is_open => {
            News::Final(change(PaymentStatus::Approved, Some(id), None, None))
        }
        (PaymentStatus::Pending, ChargeAnswer::Declined(id)) => {
            News::Final(change(PaymentStatus::Declined, Some(id), None, None))
        }
        // It has taken too long. The provider is asked on: the money may come still.
        (PaymentStatus::Pending, ChargeAnswer::Pending(_) | ChargeAnswer::Absent | ChargeAnswer::Unknown(_))
            if payment.is_overdue =>
        {
            News::Final(change(PaymentStatus::Expired, id_of(answer), Some(AGAIN_S), note_of(answer)))
        }
        (status @ (PaymentStatus::Pending | PaymentStatus::Expired), ChargeAnswer::Pending(id)) => {
            News::Write(change(status, Some(id), Some(promised_s), None))
        }
        (
            status @ (PaymentStatus::Pending | PaymentStatus::Expired),
            ChargeAnswer::Absent | ChargeAnswer::Unknown(_),
        ) => News::Write(change(status, None, Some(AGAIN_S), note_of(answer))),
        (PaymentStatus::Pending | PaymentStatus::Expired | PaymentStatus::Declined, ChargeAnswer::Approved(id)) => {
            match is_open {
                true => News::TooSoon,
                false => News::Late(change(PaymentStatus::Late, Some(id), None, None)),
            }
        }
        // The provider has said its last word: nobody needs to ask any more.
        (PaymentStatus::Expired, ChargeAnswer::Declined(id)) => {
            News::Write(change(PaymentStatus::Expired, Some(id), None, None))
        }
        (PaymentStatus::Approved | PaymentStatus::Late, ChargeAnswer::Approved(id)) => {
            match payment.provider_id.as_ref().is_none_or(|known| known == id || id.is_empty()) {
                true => News::Known,
                // Money that was taken twice.
                false => News::Contradicts,
            }
        }
        (PaymentStatus::Approved | PaymentStatus::Late, ChargeAnswer::Declined(_)) => News::Contradicts,
        (PaymentStatus::Declined, ChargeAnswer::Declined(_)) => News::Known,
        (
            PaymentStatus::Approved | PaymentStatus::Late | PaymentStatus::Declined,
            ChargeAnswer::Pending(_) | ChargeAnswer::Absent | ChargeAnswer::Unknown(_),
        ) => News::Known,
    }
}

fn id_of(answer: &ChargeAnswer) -> Option<&String> {
    match answer {
        ChargeAnswer::Approved(id) | ChargeAnswer::Declined(id) | ChargeAnswer::Pending(id) => Some(id),
        ChargeAnswer::Absent | ChargeAnswer::Unknown(_) => None,
    }
}

fn note_of(answer: &ChargeAnswer) -> Option<String> {
    match answer {
        ChargeAnswer::Absent => Some("the provider does not have it".to_owned()),
        ChargeAnswer::Unknown(why) => Some(why.chars().take(200).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payment(order: OrderStatus, status: PaymentStatus, is_overdue: bool) -> LockedPayment {
        LockedPayment {
            code: "A".to_owned(),
            order,
            partition: 0,
            status,
            amount: Cents::new(100),
            gateway: "http".to_owned(),
            provider_id: None,
            is_overdue,
        }
    }

    /// The status that is written, and whether the provider is asked again; else what the news are.
    fn judged(payment: &LockedPayment, answer: &ChargeAnswer) -> String {
        match judge(payment, OrderId(1), answer, 30.0) {
            News::Final(change) | News::Write(change) if change.again_s.is_some() => {
                format!("{}, asked again", change.status)
            }
            News::Final(change) | News::Write(change) | News::Late(change) => change.status.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn the_first_final_answer_counts_and_what_is_not_known_is_asked_again() {
        use OrderStatus::{Completed, Failed, Paying};
        use PaymentStatus::{Approved, Declined, Expired, Late, Pending};
        let id = || "ch_1".to_owned();
        let (approved, declined, promised) =
            (ChargeAnswer::Approved(id()), ChargeAnswer::Declined(id()), ChargeAnswer::Pending(id()));
        let (absent, unknown) = (ChargeAnswer::Absent, ChargeAnswer::Unknown("timeout".to_owned()));
        let table = [
            (Paying, Pending, false, &approved, "approved"),
            (Paying, Pending, true, &approved, "approved"),
            (Paying, Pending, false, &declined, "declined"),
            (Paying, Pending, false, &promised, "pending, asked again"),
            (Paying, Pending, false, &absent, "pending, asked again"),
            (Paying, Pending, false, &unknown, "pending, asked again"),
            (Paying, Pending, true, &promised, "expired, asked again"),
            (Paying, Pending, true, &absent, "expired, asked again"),
            (Paying, Pending, true, &unknown, "expired, asked again"),
            // Settlement has not seen yet that it expired, or was declined: what comes now is judged when it has.
            (Paying, Expired, true, &approved, "TooSoon"),
            (Paying, Declined, false, &approved, "TooSoon"),
            (Failed, Expired, true, &approved, "late"),
            (Failed, Declined, false, &approved, "late"),
            (Failed, Expired, true, &declined, "expired"),
            (Failed, Expired, true, &unknown, "expired, asked again"),
            (Failed, Expired, true, &promised, "expired, asked again"),
            (Completed, Approved, false, &approved, "Known"),
            (Completed, Approved, false, &declined, "Contradicts"),
            (Completed, Approved, false, &unknown, "Known"),
            (Failed, Declined, false, &declined, "Known"),
            (Failed, Late, true, &approved, "Known"),
            (Failed, Late, true, &declined, "Contradicts"),
        ];
        for (order, status, overdue, answer, expected) in table {
            assert_eq!(judged(&payment(order, status, overdue), answer), expected, "{order} {status} {answer:?}");
        }
    }

    #[test]
    fn a_second_charge_of_one_order_is_not_taken_for_the_first() {
        let known = LockedPayment {
            provider_id: Some("ch_1".to_owned()),
            ..payment(OrderStatus::Completed, PaymentStatus::Approved, false)
        };
        assert_eq!(judged(&known, &ChargeAnswer::Approved("ch_1".to_owned())), "Known");
        assert_eq!(judged(&known, &ChargeAnswer::Approved("ch_2".to_owned())), "Contradicts");
    }
}
