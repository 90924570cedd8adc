//! Giving money back: never more than was paid, each key once.

use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::PgConnection;
use tracing::error;

use super::{AGAIN_S, ASK_MAX, Payments, UNKNOWN_ORDER_WAIT_MAX};
use crate::{
    domain::{CallbackOutcome, Cents, EventKind, OrderStatus, RefundRequest, RefundStatus, Refusal},
    failpoint,
    gateway::{self, ReturnAnswer},
    store::{
        self, GatewayKind, KnownRefund, LockedRefund, NewEvent, NewRefund, RefundEnd, RefundTimes, RefundableOrder,
        WaitingRefund,
    },
};

/// First pause before a refund is looked at again that waits for its order, in seconds.
const WAIT_CHECK_S: f64 = 0.5;

/// What a request turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granting {
    /// So much goes back; nothing where only pieces come back.
    Granted(Cents),
    /// It does not.
    Refused(Refusal),
    /// The order has not reached its end.
    Waits,
    /// The same request again: it has its answer, or will have it.
    Repeated,
    /// Another request has this key.
    Conflict,
}

/// A request, and whether it has waited long enough.
#[derive(Debug, Clone, Copy)]
struct Asked<'a> {
    request: &'a RefundRequest,
    import_id: Option<i64>,
    has_waited: bool,
}

impl Payments {
    /// Grants or refuses requests, each key once, and gives the money of the granted ones back, as far as gateways answer
    /// at once. The collector sees to the others.
    ///
    /// # Errors
    /// When Postgres cannot be reached. Doing it again gives nothing back twice.
    pub async fn refund(&self, requests: &[(&RefundRequest, Option<i64>)]) -> Result<Vec<Granting>, store::Error> {
        let asked: Vec<Asked<'_>> = requests
            .iter()
            .map(|(request, import_id)| Asked { request, import_id: *import_id, has_waited: false })
            .collect();
        let (granting, keys) = self.grant(&asked).await?;
        failpoint::hit::<store::Error>("refund.granted")?;
        self.give_back(&keys).await?;
        Ok(granting)
    }

    /// Looks again at refunds that wait for their orders; at how many.
    ///
    /// # Errors
    /// When Postgres cannot be reached. What was taken is due again soon.
    pub async fn look_at_waiting_refunds(&self) -> Result<usize, store::Error> {
        let waiting: Vec<WaitingRefund> = {
            let mut connection = self.store.pool().acquire().await?;
            store::claim_waiting_refunds(&mut connection, ASK_MAX, 10.0 * WAIT_CHECK_S).await?
        };
        if waiting.is_empty() {
            return Ok(0);
        }
        let asked: Vec<Asked<'_>> = waiting
            .iter()
            .map(|WaitingRefund { request, import_id, is_overdue }| Asked {
                request,
                import_id: *import_id,
                has_waited: *is_overdue,
            })
            .collect();
        let (_, keys) = self.grant(&asked).await?;
        self.give_back(&keys).await?;
        Ok(waiting.len())
    }

    /// Decides on requests with their orders locked; the keys of those granted now that a provider must be asked for.
    async fn grant(&self, asked: &[Asked<'_>]) -> Result<(Vec<Granting>, Vec<String>), store::Error> {
        let codes: Vec<&str> = asked.iter().map(|asked| asked.request.order_code.as_str()).collect();
        let keys: Vec<&str> = asked.iter().map(|asked| asked.request.key.as_str()).collect();
        let mut transaction = self.store.begin().await?;
        // The orders first: whoever has the same key for the same order is through when we look at the keys.
        let orders = store::lock_refundable_orders(&mut transaction, &codes).await?;
        let known = store::refunds_by_key(&mut transaction, &keys).await?;
        let simulators: FxHashSet<String> = store::known_gateways(&mut transaction)
            .await?
            .into_iter()
            .filter(|gateway| matches!(gateway.kind, GatewayKind::Simulator { .. }))
            .map(|gateway| gateway.name)
            .collect();
        let granting = decide(asked, &orders, &known);
        let (mut rows, mut refused, mut pure, mut remote) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (Asked { request, import_id, .. }, granting) in asked.iter().zip(&granting) {
            let order = orders.get(request.order_code.as_str());
            let order_id = order.map(|order| order.id);
            let row = |status, amount, refusal, gateway| NewRefund {
                request,
                import_id: *import_id,
                order_id,
                status,
                amount,
                refusal,
                gateway,
            };
            match granting {
                Granting::Granted(amount) => {
                    // Pieces that come back without money concern nobody outside.
                    let gateway = match *amount == Cents::ZERO {
                        true => Some(gateway::NONE.to_owned()),
                        false => order.and_then(|order| order.gateway.clone()),
                    };
                    let is_pure =
                        *amount == Cents::ZERO || gateway.as_ref().is_some_and(|name| simulators.contains(name));
                    rows.push(row(RefundStatus::Pending, Some(*amount), None, gateway));
                    if is_pure { &mut pure } else { &mut remote }.push(request.key.to_string());
                }
                Granting::Refused(refusal) => {
                    rows.push(row(RefundStatus::Refused, request.amount, Some(*refusal), None));
                    refused.push(NewEvent {
                        order_id,
                        kind: EventKind::RefundRefused,
                        amount: request.amount.unwrap_or_default(),
                        refund_key: Some(request.key.as_str()),
                    });
                }
                Granting::Waits => rows.push(row(RefundStatus::Waiting, None, None, None)),
                Granting::Repeated | Granting::Conflict => {}
            }
        }
        if !rows.is_empty() {
            let times = RefundTimes {
                look_s: WAIT_CHECK_S,
                answer_s: self.limits.answer_max.as_secs_f64(),
                wait_s: self.limits.refund_wait.as_secs_f64(),
                unknown_s: UNKNOWN_ORDER_WAIT_MAX.min(self.limits.refund_wait).as_secs_f64(),
            };
            store::write_refunds(&mut transaction, &rows, times).await?;
        }
        let ends: Vec<(&str, ReturnAnswer)> =
            pure.iter().map(|key| (key.as_str(), ReturnAnswer::Succeeded(String::new()))).collect();
        self.end(&mut transaction, &ends, refused).await?;
        store::commit(transaction).await?;
        Ok((granting, remote))
    }

    /// Writes down how granted refunds came to their end, as far as they did, and tells it together with `events`: the
    /// transaction's last statements. What became of each answer, in their order.
    pub(super) async fn end(
        &self,
        connection: &mut PgConnection,
        answers: &[(&str, ReturnAnswer)],
        mut events: Vec<NewEvent<'_>>,
    ) -> Result<Vec<CallbackOutcome>, store::Error> {
        let keys: Vec<&str> = answers.iter().map(|(key, _)| *key).collect();
        let locked = match keys.is_empty() {
            true => FxHashMap::default(),
            false => store::lock_refunds_with_orders(connection, &keys).await?,
        };
        let Judged { ends, open, outcomes } = judge(answers, &locked);
        if !ends.is_empty() {
            store::end_refunds(connection, &ends).await?;
        }
        if !open.is_empty() {
            store::postpone_refunds(connection, &open, AGAIN_S).await?;
        }
        let (mut orders, mut amounts, mut restocked) = (Vec::new(), Vec::new(), Vec::new());
        let mut told = Vec::new();
        for end in &ends {
            let refund = &locked[&end.key];
            if refund.automatic {
                // It belongs to no figure: the order has never counted.
                if end.status == RefundStatus::Failed {
                    error!(refund = end.key, amount = %refund.amount, "a provider will not give back money that came late: settle it by hand");
                }
                continue;
            }
            let kind = match end.status {
                RefundStatus::Succeeded => EventKind::Refunded,
                _ => EventKind::RefundRefused,
            };
            told.push(NewEvent {
                order_id: Some(refund.order_id),
                kind,
                amount: refund.amount,
                refund_key: Some(end.key.as_str()),
            });
            if end.status == RefundStatus::Succeeded {
                orders.push(refund.order_id.0);
                amounts.push(refund.amount.get());
            }
            if end.restocked {
                restocked.push(refund.order_id.0);
            }
        }
        if !orders.is_empty() {
            store::add_refunded(connection, &orders, &amounts).await?;
        }
        if !restocked.is_empty() {
            store::return_stock(connection, &restocked).await?;
        }
        events.extend(told);
        if !events.is_empty() {
            store::append_events(connection, &events).await?;
        }
        Ok(outcomes)
    }
}

/// One decision per request, in their order: who comes first gets what is left.
fn decide(
    asked: &[Asked<'_>],
    orders: &FxHashMap<String, RefundableOrder>,
    known: &FxHashMap<String, KnownRefund>,
) -> Vec<Granting> {
    let mut granted: FxHashMap<&str, GrantedBefore> = FxHashMap::default();
    let mut seen: FxHashMap<&str, i64> = FxHashMap::default();
    asked
        .iter()
        .map(|Asked { request, has_waited, .. }| {
            let hash = request.content_hash();
            let same = |known: i64| if known == hash { Granting::Repeated } else { Granting::Conflict };
            match known.get(request.key.as_str()) {
                Some(known) if known.request_hash == hash && known.status == RefundStatus::Waiting => {}
                Some(known) => return same(known.request_hash),
                None => {}
            }
            if let Some(earlier) = seen.get(request.key.as_str()) {
                return same(*earlier);
            }
            seen.insert(request.key.as_str(), hash);
            let order = orders.get(request.order_code.as_str());
            let granted = granted.entry(request.order_code.as_str()).or_default();
            let granting = decide_one(request, *has_waited, order, *granted);
            if let Granting::Granted(amount) = granting {
                granted.cents += amount.get();
                granted.restock |= request.restock;
            }
            granting
        })
        .collect()
}

/// What was granted of an order in the same batch.
#[derive(Debug, Clone, Copy, Default)]
struct GrantedBefore {
    cents: i64,
    /// Whether its pieces come back.
    restock: bool,
}

fn decide_one(
    request: &RefundRequest,
    has_waited: bool,
    order: Option<&RefundableOrder>,
    granted: GrantedBefore,
) -> Granting {
    let wait_or = |refusal| if has_waited { Granting::Refused(refusal) } else { Granting::Waits };
    let Some(order) = order else { return wait_or(Refusal::UnknownOrder) };
    match order.status {
        OrderStatus::Reserved | OrderStatus::Paying => return wait_or(Refusal::NotSettled),
        OrderStatus::Failed => return Granting::Refused(Refusal::OrderFailed),
        OrderStatus::Completed => {}
    }
    let left = order.paid.get() - order.granted.get() - granted.cents;
    match request.amount.map_or(left, Cents::get) {
        0 if !request.restock => Granting::Refused(Refusal::NothingLeft),
        0 if order.restock_granted || granted.restock => Granting::Refused(Refusal::AlreadyRestocked),
        amount if amount > left => Granting::Refused(Refusal::ExceedsPaid),
        amount => Granting::Granted(Cents::new(amount)),
    }
}

/// What answers mean.
struct Judged<'a> {
    /// Refunds that have come to their end.
    ends: Vec<RefundEnd>,
    /// Those that have not, with the provider's last word, and its id for them if it has given one.
    open: Vec<(&'a str, Option<&'a str>, Option<&'a str>)>,
    /// What became of each answer.
    outcomes: Vec<CallbackOutcome>,
}

fn judge<'a>(answers: &'a [(&str, ReturnAnswer)], locked: &FxHashMap<String, LockedRefund>) -> Judged<'a> {
    let mut judged = Judged { ends: Vec::new(), open: Vec::new(), outcomes: Vec::with_capacity(answers.len()) };
    // Of several answers for one refund the first final one counts; an order's pieces come back once.
    let mut ended: FxHashMap<&str, RefundStatus> = FxHashMap::default();
    let mut restocked = FxHashSet::default();
    for (key, answer) in answers {
        let Some(refund) = locked.get(*key) else {
            judged.outcomes.push(CallbackOutcome::Waiting);
            continue;
        };
        let status = ended.get(key).copied().unwrap_or(refund.status);
        let (end, provider_id, note) = match answer {
            ReturnAnswer::Succeeded(id) => (RefundStatus::Succeeded, Some(id), None),
            ReturnAnswer::Failed(why) => (RefundStatus::Failed, None, Some(why.chars().take(200).collect())),
            ReturnAnswer::Pending(_) | ReturnAnswer::Absent | ReturnAnswer::Unknown(_) => {
                if status == RefundStatus::Pending {
                    let note = match answer {
                        ReturnAnswer::Unknown(why) => Some(why.as_str()),
                        ReturnAnswer::Absent => Some("the provider does not have it"),
                        _ => None,
                    };
                    let id = match answer {
                        ReturnAnswer::Pending(id) if !id.is_empty() => Some(id.as_str()),
                        _ => None,
                    };
                    judged.open.push((key, note, id));
                }
                judged.outcomes.push(CallbackOutcome::Repeated);
                continue;
            }
        };
        judged.outcomes.push(match status {
            RefundStatus::Pending => {
                ended.insert(key, end);
                let returns_stock = end == RefundStatus::Succeeded
                    && refund.restock
                    && !refund.order_restocked
                    && restocked.insert(refund.order_id);
                let provider_id = provider_id.filter(|id| !id.is_empty()).cloned();
                let key = (*key).to_owned();
                judged.ends.push(RefundEnd { key, status: end, restocked: returns_stock, provider_id, note });
                CallbackOutcome::Applied
            }
            status if status == end => CallbackOutcome::Repeated,
            _ => {
                error!(refund = key, state = %status, "a provider contradicts what it said of a refund before: ask it");
                CallbackOutcome::Contradicts
            }
        });
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OrderId;

    fn request(key: &str, amount: Option<&str>) -> RefundRequest {
        RefundRequest::new(key, "A", amount, None, false).expect("valid")
    }

    fn order(status: OrderStatus, paid: i64, granted: i64) -> FxHashMap<String, RefundableOrder> {
        let order = RefundableOrder {
            id: OrderId(1),
            status,
            paid: Cents::new(paid),
            granted: Cents::new(granted),
            restock_granted: false,
            gateway: Some("http".to_owned()),
        };
        [("A".to_owned(), order)].into_iter().collect()
    }

    fn decided(
        requests: &[RefundRequest],
        has_waited: bool,
        orders: &FxHashMap<String, RefundableOrder>,
    ) -> Vec<Granting> {
        let asked: Vec<Asked<'_>> =
            requests.iter().map(|request| Asked { request, import_id: None, has_waited }).collect();
        decide(&asked, orders, &FxHashMap::default())
    }

    #[test]
    fn never_more_than_was_paid_however_many_ask_at_once() {
        let sixty = [request("1", Some("0.60")), request("2", Some("0.60")), request("3", None), request("4", None)];
        let expected = [
            Granting::Granted(Cents::new(60)),
            Granting::Refused(Refusal::ExceedsPaid),
            Granting::Granted(Cents::new(40)),
            Granting::Refused(Refusal::NothingLeft),
        ];
        assert_eq!(decided(&sixty, false, &order(OrderStatus::Completed, 100, 0)), expected);
        assert_eq!(
            decided(&sixty[..1], false, &order(OrderStatus::Completed, 100, 41)),
            [Granting::Refused(Refusal::ExceedsPaid)]
        );
    }

    #[test]
    fn pieces_come_back_without_money_and_once() {
        let restock = |key, amount| RefundRequest::new(key, "A", amount, None, true).expect("valid");
        let nothing = Granting::Granted(Cents::ZERO);
        let again = Granting::Refused(Refusal::AlreadyRestocked);
        // All the money is back; nothing was paid.
        for orders in [order(OrderStatus::Completed, 100, 100), order(OrderStatus::Completed, 0, 0)] {
            let asked = [request("0", None), restock("1", None), restock("2", None), restock("3", Some("0"))];
            let expected = [Granting::Refused(Refusal::NothingLeft), nothing, again, again];
            assert_eq!(decided(&asked, false, &orders), expected);
        }
        // The money stays, as far as it has not gone back: before, with, and after the pieces.
        let asked = [restock("1", Some("0.00")), restock("2", Some("0.60")), restock("3", None), restock("4", None)];
        let granted = |cents| Granting::Granted(Cents::new(cents));
        let mut orders = order(OrderStatus::Completed, 100, 0);
        assert_eq!(decided(&asked, false, &orders), [nothing, granted(60), granted(40), again]);
        assert_eq!(decided(&asked[1..], false, &orders), [granted(60), granted(40), again]);
        // Those of another refund have come back, or will when its provider has answered.
        orders.get_mut("A").expect("it is there").restock_granted = true;
        assert_eq!(decided(&asked, false, &orders), [again, granted(60), granted(40), again]);
        assert_eq!(
            decided(&asked[..1], false, &order(OrderStatus::Failed, 0, 0)),
            [Granting::Refused(Refusal::OrderFailed)]
        );
        assert_eq!(decided(&asked[..1], false, &order(OrderStatus::Paying, 0, 0)), [Granting::Waits]);
    }

    #[test]
    fn a_refund_waits_for_its_order_and_not_for_ever() {
        let one = [request("1", None)];
        let table = [
            (OrderStatus::Reserved, false, Granting::Waits),
            (OrderStatus::Paying, false, Granting::Waits),
            (OrderStatus::Paying, true, Granting::Refused(Refusal::NotSettled)),
            (OrderStatus::Failed, false, Granting::Refused(Refusal::OrderFailed)),
            (OrderStatus::Completed, true, Granting::Granted(Cents::new(100))),
        ];
        for (status, has_waited, expected) in table {
            assert_eq!(decided(&one, has_waited, &order(status, 100, 0)), [expected], "{status} {has_waited}");
        }
        assert_eq!(decided(&one, false, &FxHashMap::default()), [Granting::Waits]);
        assert_eq!(decided(&one, true, &FxHashMap::default()), [Granting::Refused(Refusal::UnknownOrder)]);
    }

    #[test]
    fn one_key_is_one_request() {
        let same = [request("k", Some("0.10")), request("k", Some("0.10")), request("k", Some("0.11"))];
        let orders = order(OrderStatus::Completed, 100, 0);
        let expected = [Granting::Granted(Cents::new(10)), Granting::Repeated, Granting::Conflict];
        assert_eq!(decided(&same, false, &orders), expected);
        for (status, known, expected) in [
            (RefundStatus::Succeeded, &same[0], Granting::Repeated),
            (RefundStatus::Refused, &same[0], Granting::Repeated),
            (RefundStatus::Pending, &same[0], Granting::Repeated),
            (RefundStatus::Waiting, &same[0], Granting::Granted(Cents::new(10))),
            (RefundStatus::Succeeded, &same[2], Granting::Conflict),
            (RefundStatus::Waiting, &same[2], Granting::Conflict),
        ] {
            let known = [("k".to_owned(), KnownRefund { request_hash: known.content_hash(), status })];
            let asked = Asked { request: &same[0], import_id: None, has_waited: false };
            assert_eq!(decide(&[asked], &orders, &known.into_iter().collect()), [expected], "{status}");
        }
    }

    #[test]
    fn the_first_final_answer_counts_and_pieces_come_back_once() {
        let refund = |restock| LockedRefund {
            order_id: OrderId(1),
            status: RefundStatus::Pending,
            amount: Cents::new(10),
            gateway: "http".to_owned(),
            reference_prefix: String::new(),
            restock,
            automatic: false,
            order_restocked: false,
        };
        let locked: FxHashMap<String, LockedRefund> =
            [("a".to_owned(), refund(true)), ("b".to_owned(), refund(true))].into_iter().collect();
        let yes = || ReturnAnswer::Succeeded("re".to_owned());
        let answers = [
            ("a", yes()),
            ("a", yes()),
            ("a", ReturnAnswer::Failed("no".to_owned())),
            ("b", ReturnAnswer::Unknown("timeout".to_owned())),
            ("b", yes()),
            ("c", yes()),
        ];
        let judged = judge(&answers, &locked);
        use CallbackOutcome::{Applied, Contradicts, Repeated, Waiting};
        assert_eq!(judged.outcomes, [Applied, Repeated, Contradicts, Repeated, Applied, Waiting]);
        let ends: Vec<(&str, bool)> = judged.ends.iter().map(|end| (end.key.as_str(), end.restocked)).collect();
        assert_eq!(ends, [("a", true), ("b", false)]);
    }
}
