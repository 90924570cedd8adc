//! Whether a message would die again if it went to its stage now: a replay that must fail helps nobody, and leaves one
//! more letter.

use anyhow::Result;
use pipeline::{
    message::{Callback, DeadReason, Entry, Incoming, IncomingRefund, Message, OrderRef, Undecodable, WEBHOOK_ID},
    store::{self, Store},
    streams::{DeadLetter, Fields},
    topology::StageName,
};

/// What became of asking: the order that the message is about, if it is one between the stages, or why its stage would
/// refuse it.
pub(super) type Prospect = Result<Option<OrderRef>, String>;

/// Reads the message as its stage does, and asks Postgres for what the stage would find there.
///
/// # Errors
/// When Postgres cannot be reached.
pub(super) async fn prospect(
    store: &Store,
    letter: &DeadLetter,
    stage: StageName,
    message: &Fields,
) -> Result<Prospect> {
    let entry = Entry { id: letter.id.entry, fields: message.clone() };
    let refused = |error: Undecodable| Ok(Err(error.to_string()));
    match stage {
        StageName::Reservation => match Incoming::decode(&entry) {
            Ok(incoming) => of_order(store, &incoming).await,
            Err(error) => refused(error),
        },
        StageName::Refund => match IncomingRefund::decode(&entry) {
            Ok(incoming) => of_refund(store, &incoming).await,
            Err(error) => refused(error),
        },
        StageName::Callback => match Callback::decode(&entry) {
            // Without a name of its own it is named after its entry, which is another one with each replay.
            Ok(callback) if letter.reason() == Some(DeadReason::Conflict.as_str()) && has_name(&entry, letter) => {
                Ok(Err(format!("callback {} is known with another body", callback.event_id)))
            }
            Ok(_) => Ok(Ok(None)),
            Err(error) => refused(error),
        },
        StageName::Payment | StageName::Settlement => match OrderRef::decode(&entry) {
            Ok(order) => of_reference(store, order).await,
            Err(error) => refused(error),
        },
    }
}

/// Whether the callback has the name, and the body, that were refused.
fn has_name(entry: &Entry, letter: &DeadLetter) -> bool {
    entry.field(WEBHOOK_ID).is_some() && letter.body() == entry.field(pipeline::message::BODY)
}

async fn of_order(store: &Store, incoming: &Incoming) -> Result<Prospect> {
    let code = incoming.order.code().as_str();
    let known = store::orders_by_code(&mut *store.pool().acquire().await?, &[code]).await?;
    Ok(match known.get(code) {
        Some(known) if known.content_hash != incoming.order.content_hash() => {
            Err(format!("order {code} is known with another customer or other lines"))
        }
        _ => Ok(None),
    })
}

async fn of_refund(store: &Store, incoming: &IncomingRefund) -> Result<Prospect> {
    let key = incoming.request.key.as_str();
    let known = store::refunds_by_key(&mut *store.pool().acquire().await?, &[key]).await?;
    Ok(match known.get(key) {
        Some(known) if known.request_hash != incoming.request.content_hash() => {
            Err(format!("refund {key} is known with another order, amount, reason or restock"))
        }
        _ => Ok(None),
    })
}

async fn of_reference(store: &Store, order: OrderRef) -> Result<Prospect> {
    let known = store::order_ids_by_code(&mut *store.pool().acquire().await?, &[&order.order_code]).await?;
    Ok(match known.get(&order.order_code) {
        Some(id) if *id == order.order_id => Ok(Some(order)),
        _ => Err(format!("Postgres has no order {} of the number {}", order.order_code, order.order_id.0)),
    })
}
