//! Reservation: takes orders in and holds stock for them, all lines or none.

use std::{
    ops::RangeInclusive,
    sync::{Mutex, PoisonError},
};

use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::PgConnection;

use super::{Ending, Stage};
use crate::{
    domain::{EventKind, FailureReason, Order, OrderId, OrderStatus},
    message::{DeadReason, Incoming, OrderRef},
    metrics::Ends,
    store::{self, ExistingOrder, NewEvent, NewOrders, Store},
    topology::StageName,
};

/// The first stage of one partition.
#[derive(Debug)]
pub struct Reservation {
    store: Store,
    partition: u16,
    /// Order ids drawn and not used yet.
    ids: Mutex<RangeInclusive<i64>>,
    ends: Ends,
}

#[expect(clippy::reversed_empty_ranges, reason = "empty is what it should be")]
const NOTHING_DRAWN: RangeInclusive<i64> = 1..=0;

/// What Postgres knows about a batch.
#[derive(Debug, Default)]
struct Facts {
    existing: FxHashMap<String, ExistingOrder>,
    customers: FxHashSet<i64>,
    /// Free pieces by product; the rows are locked.
    free: FxHashMap<i64, i64>,
}

/// What a message turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// A new order, reserved or failed.
    New(Option<FailureReason>),
    /// The same order again: known, or earlier in this batch (`None`).
    Duplicate(Option<ExistingOrder>),
    /// A known code with other content.
    Conflict,
}

impl Reservation {
    /// The stage for one partition.
    pub fn new(store: Store, partition: u16) -> Self {
        Self { store, partition, ids: Mutex::new(NOTHING_DRAWN), ends: Ends::default() }
    }

    /// Has orders that fail at once counted.
    pub fn counted_by(self, ends: Ends) -> Self {
        Self { ends, ..self }
    }

    async fn next_ids(&self, connection: &mut PgConnection, count: usize) -> Result<Vec<OrderId>, store::Error> {
        let mut ids = Vec::with_capacity(count);
        loop {
            {
                let mut drawn = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
                ids.extend(drawn.by_ref().take(count - ids.len()).map(OrderId));
            }
            if ids.len() == count {
                return Ok(ids);
            }
            let block = store::draw_order_ids(connection).await?;
            *self.ids.lock().unwrap_or_else(PoisonError::into_inner) = block;
        }
    }

    async fn save(
        &self,
        connection: &mut PgConnection,
        batch: &[Incoming],
        decisions: &[Decision],
    ) -> Result<Vec<Option<OrderId>>, store::Error> {
        let mut accepted: Vec<(usize, Option<FailureReason>)> = decisions
            .iter()
            .enumerate()
            .filter_map(|(index, decision)| match decision {
                Decision::New(failure) => Some((index, *failure)),
                Decision::Duplicate(_) | Decision::Conflict => None,
            })
            .collect();
        let mut new_ids = vec![None; batch.len()];
        for (&(index, _), id) in accepted.iter().zip(self.next_ids(connection, accepted.len()).await?) {
            new_ids[index] = Some(id);
        }
        if accepted.is_empty() {
            return Ok(new_ids);
        }

        accepted.sort_by(|(a, _), (b, _)| batch[*a].order.code().cmp(batch[*b].order.code()));
        let mut rows = NewOrders::default();
        let mut held: FxHashMap<i64, i64> = FxHashMap::default();
        let mut failed = Vec::new();
        for (index, failure) in accepted {
            let incoming = &batch[index];
            let id = new_ids[index].expect("an id was drawn for every new order");
            rows.push(id, &incoming.order, incoming.import_id, incoming.received_ms, failure);
            match failure {
                Some(_) => failed.push(NewEvent::settled(id, EventKind::Failed, incoming.order.total())),
                None => {
                    for line in incoming.order.lines() {
                        *held.entry(line.product_id.0).or_default() += i64::from(line.quantity);
                    }
                }
            }
        }
        let inserted = store::insert_orders(connection, self.partition, &rows).await;
        if matches!(inserted, Err(store::Error::Raced)) {
            // Perhaps it is our ids that are taken: the next try draws others.
            *self.ids.lock().unwrap_or_else(PoisonError::into_inner) = NOTHING_DRAWN;
        }
        inserted?;
        let (products, pieces): (Vec<i64>, Vec<i64>) = held.into_iter().unzip();
        store::add_reserved(connection, &products, &pieces).await?;
        if !failed.is_empty() {
            store::append_events(connection, &failed).await?;
        }
        Ok(new_ids)
    }
}

impl Stage for Reservation {
    type Message = Incoming;

    const NAME: StageName = StageName::Reservation;

    async fn process(&self, batch: &[Incoming]) -> Result<Vec<Ending>, store::Error> {
        let mut transaction = self.store.begin().await?;
        let facts = load(&mut transaction, batch).await?;
        let decisions = decide(batch, facts);
        let new_ids = self.save(&mut transaction, batch, &decisions).await?;
        store::commit(transaction).await?;
        let failed = batch.iter().zip(&decisions).filter(|(_, decision)| matches!(decision, Decision::New(Some(_))));
        self.ends.failed(failed.map(|(incoming, _)| incoming.received_ms.try_into().unwrap_or(i64::MAX)));
        Ok(batch
            .iter()
            .zip(decisions)
            .zip(new_ids)
            .map(|((incoming, decision), new_id)| ending(&incoming.order, decision, new_id))
            .collect())
    }

    /// What has not come in is no order yet, and holds nothing.
    async fn park(&self, _: &Incoming, _: DeadReason) -> Result<(), store::Error> {
        Ok(())
    }

    fn renew_connections(&self) {
        self.store.renew();
    }
}

async fn load(connection: &mut PgConnection, batch: &[Incoming]) -> Result<Facts, store::Error> {
    let codes: Vec<&str> = batch.iter().map(|incoming| incoming.order.code().as_str()).collect();
    let customers: FxHashSet<i64> = batch.iter().map(|incoming| incoming.order.customer_id().0).collect();
    let products: FxHashSet<i64> =
        batch.iter().flat_map(|incoming| incoming.order.lines()).map(|line| line.product_id.0).collect();
    // Products first: who else takes the same order in waits here, and has committed it before the codes are looked up.
    // The other way round two workers with the same orders would meet at the unique key, one of them with stock locked
    // that settlement waits for.
    let free = store::lock_products_in_id_order(connection, &Vec::from_iter(products)).await?;
    Ok(Facts {
        free,
        existing: store::orders_by_code(connection, &codes).await?,
        customers: store::known_customers(connection, &Vec::from_iter(customers)).await?,
    })
}

/// One decision per message, in their order: who comes first gets the last pieces.
fn decide(batch: &[Incoming], facts: Facts) -> Vec<Decision> {
    let Facts { existing, customers, mut free } = facts;
    let mut seen: FxHashMap<&str, i64> = FxHashMap::default();
    batch
        .iter()
        .map(|Incoming { order, .. }| {
            let code = order.code().as_str();
            if let Some(known) = existing.get(code) {
                return match known.content_hash == order.content_hash() {
                    true => Decision::Duplicate(Some(*known)),
                    false => Decision::Conflict,
                };
            }
            if let Some(hash) = seen.insert(code, order.content_hash()) {
                let same = hash == order.content_hash();
                seen.insert(code, hash);
                return if same { Decision::Duplicate(None) } else { Decision::Conflict };
            }
            Decision::New(hold(order, &customers, &mut free).err())
        })
        .collect()
}

/// Takes the order's pieces out of `free`, all or none.
fn hold(order: &Order, customers: &FxHashSet<i64>, free: &mut FxHashMap<i64, i64>) -> Result<(), FailureReason> {
    if !customers.contains(&order.customer_id().0) {
        return Err(FailureReason::UnknownCustomer);
    }
    // Summed first: two lines of one product must not both be checked against the same pieces.
    let mut wanted: Vec<(i64, i64)> = Vec::with_capacity(order.lines().len());
    for line in order.lines() {
        let pieces = i64::from(line.quantity);
        match wanted.iter_mut().find(|(product, _)| *product == line.product_id.0) {
            Some((_, sum)) => *sum += pieces,
            None => wanted.push((line.product_id.0, pieces)),
        }
    }
    if wanted.iter().any(|(product, _)| !free.contains_key(product)) {
        return Err(FailureReason::UnknownProduct);
    }
    if wanted.iter().any(|(product, pieces)| free[product] < *pieces) {
        return Err(FailureReason::OutOfStock);
    }
    for (product, pieces) in wanted {
        free.entry(product).and_modify(|left| *left -= pieces);
    }
    Ok(())
}

fn ending(order: &Order, decision: Decision, new_id: Option<OrderId>) -> Ending {
    let to_payment =
        |id| Ending::Forward(StageName::Payment, OrderRef { order_id: id, order_code: order.code().to_string() });
    match (decision, new_id) {
        (Decision::New(None), Some(id)) => to_payment(id),
        // Not paid yet: whether its message still exists nobody here can know, and a second one is harmless.
        (Decision::Duplicate(Some(known)), _) if known.status == OrderStatus::Reserved => to_payment(known.id),
        (Decision::New(_) | Decision::Duplicate(_), _) => Ending::Done,
        (Decision::Conflict, _) => Ending::Dead(
            DeadReason::Conflict,
            format!("order {} is known with another customer or other lines", order.code()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Cents, CustomerId, Line, OrderCode, ProductId};

    fn incoming(code: &str, customer: i64, lines: &[(i64, i32)]) -> Incoming {
        let lines = lines
            .iter()
            .map(|&(product, quantity)| Line { product_id: ProductId(product), quantity, unit_price: Cents::new(100) })
            .collect();
        let code = OrderCode::new(code).expect("a code");
        let order = Order::new(code, CustomerId(customer), lines).expect("an order");
        Incoming { order, import_id: None, received_ms: 0 }
    }

    fn facts(free: &[(i64, i64)]) -> Facts {
        Facts { customers: [1, 2].into_iter().collect(), free: free.iter().copied().collect(), ..Facts::default() }
    }

    const RESERVED: Decision = Decision::New(None);

    fn failed(reason: FailureReason) -> Decision {
        Decision::New(Some(reason))
    }

    #[test]
    fn who_comes_first_gets_the_last_pieces() {
        let batch = [incoming("A", 1, &[(1, 2)]), incoming("B", 1, &[(1, 2)]), incoming("C", 1, &[(1, 1)])];
        let decisions = decide(&batch, facts(&[(1, 3)]));
        assert_eq!(decisions, [RESERVED, failed(FailureReason::OutOfStock), RESERVED]);
    }

    #[test]
    fn an_order_is_held_with_all_its_lines_or_none() {
        let batch = [incoming("A", 1, &[(1, 5), (2, 1)]), incoming("B", 1, &[(1, 5)])];
        let decisions = decide(&batch, facts(&[(1, 5), (2, 0)]));
        assert_eq!(decisions, [failed(FailureReason::OutOfStock), RESERVED]);
    }

    #[test]
    fn two_lines_of_one_product_are_summed_before_the_check() {
        let batch = [incoming("A", 1, &[(1, 2), (1, 2)]), incoming("B", 1, &[(1, 1), (1, 2)])];
        let decisions = decide(&batch, facts(&[(1, 3)]));
        assert_eq!(decisions, [failed(FailureReason::OutOfStock), RESERVED]);
    }

    #[test]
    fn the_first_reason_that_applies_is_recorded() {
        let batch = [incoming("A", 9, &[(9, 1)]), incoming("B", 1, &[(9, 1), (1, 99)]), incoming("C", 1, &[(1, 99)])];
        let decisions = decide(&batch, facts(&[(1, 3)]));
        let reasons = [FailureReason::UnknownCustomer, FailureReason::UnknownProduct, FailureReason::OutOfStock];
        assert_eq!(decisions, reasons.map(failed));
    }

    #[test]
    fn the_same_order_again_is_a_duplicate_and_another_under_its_code_a_conflict() {
        let batch = [
            incoming("A", 1, &[(1, 1)]),
            incoming("A", 1, &[(1, 1)]),
            incoming("A", 2, &[(1, 1)]),
            incoming("A", 1, &[(1, 1)]),
        ];
        let decisions = decide(&batch, facts(&[(1, 100)]));
        let again = Decision::Duplicate(None);
        assert_eq!(decisions, [RESERVED, again, Decision::Conflict, again]);
    }

    #[test]
    fn a_known_order_is_handed_on_as_its_state_calls_for() {
        let table = [
            (OrderStatus::Reserved, true),
            (OrderStatus::Paying, false),
            (OrderStatus::Completed, false),
            (OrderStatus::Failed, false),
        ];
        for (status, forwarded) in table {
            let message = incoming("A", 1, &[(1, 1)]);
            let known = ExistingOrder { id: OrderId(5), status, content_hash: message.order.content_hash() };
            let facts = Facts { existing: [("A".to_owned(), known)].into_iter().collect(), ..facts(&[]) };
            let decisions = decide(std::slice::from_ref(&message), facts);
            assert_eq!(decisions, [Decision::Duplicate(Some(known))]);
            let is_forwarded =
                matches!(ending(&message.order, decisions[0], None), Ending::Forward(StageName::Payment, _));
            assert_eq!(is_forwarded, forwarded, "{status}");
        }
    }
}
