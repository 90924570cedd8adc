//! What imports carry: orders, or requests for refunds.

use std::{fmt::Debug, future::Future};

use pipeline::{
    message::{Entry, Incoming, IncomingRefund, Message, encode_refund},
    store::{self, Store},
    topology::StageName,
};
use rustc_hash::FxHashMap;

use crate::import::{Frames, Grouped, GroupedOrder, GroupedRefund, GroupedRefunds, encode_order_into};

/// The messages of one file, and how they are known again in Postgres and among the dead letters.
pub trait Freight: Debug + Send + Sync + 'static {
    /// One message.
    type Item: Send + 'static;

    /// What people call them.
    const NOUN: &'static str;

    /// Who takes them in.
    const STAGE: StageName;

    /// The stages whose backlog they have to wait for.
    const WAY: &'static [StageName];

    /// All of them in the file's order.
    fn items(&self) -> Frames<'_, Self::Item>;

    /// The name by which Postgres knows one.
    fn name(item: &Self::Item) -> &str;

    /// Fingerprint of what it says.
    fn content_hash(item: &Self::Item) -> i64;

    /// Its rows in the file.
    fn rows(item: &Self::Item) -> u64;

    /// Its body.
    fn encode(item: &Self::Item) -> Vec<u8>;

    /// Those of the names that Postgres knows.
    fn known(
        store: &Store,
        names: &[String],
    ) -> impl Future<Output = Result<FxHashMap<String, KnownItem>, store::Error>> + Send;

    /// The name in a dead letter, and the import that brought it; `None` where the letter holds none.
    fn dead(letter: &Entry) -> Option<(String, Option<i64>)>;
}

/// What Postgres knows under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownItem {
    /// The import that brought it first.
    pub import_id: Option<i64>,
    /// What it says.
    pub content_hash: i64,
}

impl Freight for Grouped {
    type Item = GroupedOrder;

    const NOUN: &'static str = "orders";
    const STAGE: StageName = StageName::Reservation;
    const WAY: &'static [StageName] = &StageName::WAY;

    fn items(&self) -> Frames<'_, GroupedOrder> {
        self.orders()
    }

    fn name(item: &GroupedOrder) -> &str {
        item.order.code().as_str()
    }

    fn content_hash(item: &GroupedOrder) -> i64 {
        item.order.content_hash()
    }

    fn rows(item: &GroupedOrder) -> u64 {
        item.rows() as u64
    }

    fn encode(item: &GroupedOrder) -> Vec<u8> {
        let mut body = Vec::with_capacity(512);
        encode_order_into(&item.order, &mut body);
        body
    }

    async fn known(store: &Store, names: &[String]) -> Result<FxHashMap<String, KnownItem>, store::Error> {
        let orders = store::known_orders(&store.pool(), names).await?;
        let known =
            |order: store::KnownOrder| KnownItem { import_id: order.import_id, content_hash: order.content_hash };
        Ok(orders.into_iter().map(|(name, order)| (name, known(order))).collect())
    }

    fn dead(letter: &Entry) -> Option<(String, Option<i64>)> {
        let Incoming { order, import_id, .. } = Incoming::decode(letter).ok()?;
        Some((order.code().to_string(), import_id))
    }
}

impl Freight for GroupedRefunds {
    type Item = GroupedRefund;

    const NOUN: &'static str = "refunds";
    const STAGE: StageName = StageName::Refund;
    const WAY: &'static [StageName] = &[StageName::Refund];

    fn items(&self) -> Frames<'_, GroupedRefund> {
        self.refunds()
    }

    fn name(item: &GroupedRefund) -> &str {
        item.request.key.as_str()
    }

    fn content_hash(item: &GroupedRefund) -> i64 {
        item.request.content_hash()
    }

    fn rows(item: &GroupedRefund) -> u64 {
        item.rows
    }

    fn encode(item: &GroupedRefund) -> Vec<u8> {
        encode_refund(&item.request)
    }

    async fn known(store: &Store, names: &[String]) -> Result<FxHashMap<String, KnownItem>, store::Error> {
        let refunds = store::refund_standings(&store.pool(), names).await?;
        let known = |refund: store::RefundStanding| KnownItem {
            import_id: refund.import_id,
            content_hash: refund.request_hash,
        };
        Ok(refunds.into_iter().map(|(name, refund)| (name, known(refund))).collect())
    }

    fn dead(letter: &Entry) -> Option<(String, Option<i64>)> {
        let IncomingRefund { request, import_id } = IncomingRefund::decode(letter).ok()?;
        Some((request.key.to_string(), import_id))
    }
}
