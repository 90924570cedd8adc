//! Everything that is kept in Postgres: all SQL of the project stands below this module.
//!
//! Functions say what they do to rows. Those of the stages take whole batches as arrays, so that a batch costs a
//! handful of statements whatever its size. **Lock order**, everywhere: existing orders by id, then products by id, then
//! the event counter. A reservation locks no existing order; its new ones nobody else can see.

mod audit;
mod catalogue;
mod connection;
mod error;
mod events;
mod imports;
mod ledger;
mod orders;
mod parked;
mod payments;
mod reconciliations;
mod reservations;
mod settlements;
mod stock;

pub use audit::{EXAMPLES_MAX, OpenOrder, SqlCheck, SqlFinding, begin_snapshot, open_orders, sql_checks};
pub use catalogue::{
    Customer, Product, SEEDED_SKU_PREFIX, has_real_products, is_catalogue_empty, upsert_customers, upsert_products,
};
pub use connection::{Store, WorkerSettings, commit};
pub use error::{Error, ErrorKind};
pub use events::{
    BoardEvent, CustomerRevenue, DayFigures, PiecesSold, append_events, board_events_after, customer_revenue,
    day_figures, last_event_seq, pieces_sold, pieces_sold_between, try_become_relay,
};
pub use imports::{ImportOutcome, KnownOrder, known_orders, note_import_status, start_import};
pub use ledger::{LedgerPayment, LedgerRefund, LedgerSnapshot};
pub use orders::{
    EventRow, Latency, OrderDetail, OrderFilter, OrderLine, OrderSummary, PaymentRow, RefundRow, StateCount,
    find_order, import_latency, list_orders, state_counts,
};
pub use parked::{Abandonment, abandon_parked_order, foresee_abandonment, park_orders, parked_orders, unpark_orders};
pub use payments::{NewPayments, PayableOrder, insert_payments, payable_orders};
pub use reconciliations::{
    Reconciliation, StrandedOrder, note_reconciliation, now, oldest_open_order, orders_in_turn, parked_before,
    reconciliations, try_become_reconciler,
};
pub use reservations::{ExistingOrder, NewOrders, draw_order_ids, insert_orders, known_customers, orders_by_code};
pub use settlements::{SettleableOrder, lock_orders_in_id_order, mark_settled, release_held_stock};
pub use stock::{add_reserved, lock_products_in_id_order};
