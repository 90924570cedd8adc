//! Everything that is kept in Postgres: all SQL of the project stands below this module.
//!
//! Functions say what they do to rows. Those of the stages take whole batches as arrays, so that a batch costs a
//! handful of statements whatever its size. **Lock order**, everywhere: existing orders by id, then products by id, then
//! the event counter. A reservation locks no existing order; its new ones nobody else can see.

mod actions;
mod audit;
mod callbacks;
mod catalogue;
mod connection;
mod due;
mod error;
mod events;
mod idempotency;
mod import_views;
mod imports;
mod ledger;
mod notifications;
mod orders;
mod parked;
mod payments;
mod reconciliations;
mod refund_views;
mod refunds;
mod reservations;
mod settlements;
mod stock;
mod stock_views;
mod tokens;

pub use actions::{Action, ActionFilter, NewAction, find_action, insert_action, list_actions};
pub use audit::{EXAMPLES_MAX, OpenOrder, SqlCheck, SqlFinding, begin_snapshot, open_orders, sql_checks};
pub use callbacks::{
    CallbackRow, CallbacksOf, Insertion, WaitingCallback, callbacks_of, decide_callbacks, insert_callbacks,
    lock_waiting_callbacks,
};
pub use catalogue::{
    Customer, Product, SEEDED_SKU_PREFIX, customer_names, has_real_products, is_catalogue_empty, product_names,
    upsert_customers, upsert_products,
};
pub use connection::{PoolState, Store, WorkerSettings, commit};
pub use due::{
    DuePayment, PendingRefund, WaitingRefund, claim_due_payments, claim_due_refunds, claim_waiting_refunds,
    is_money_owed, pending_refunds,
};
pub use error::{Error, ErrorKind};
pub use events::{
    BoardEvent, CustomerRevenue, DayFigures, NewEvent, PiecesSold, append_events, board_events_after, customer_revenue,
    day_figures, last_event_seq, pieces_sold, pieces_sold_between, try_become_relay,
};
pub use idempotency::{
    Claim, KeptAnswer, RequestKey, claim_request_key, delete_old_request_keys, keep_answer, release_request_key,
};
pub use import_views::{ImportView, list_imports};
pub use imports::{
    ImportKind, ImportOutcome, KnownOrder, RefundStanding, known_orders, note_import_progress, note_import_status,
    refund_standings, start_import,
};
pub use ledger::{LedgerPayment, LedgerRefund, LedgerSnapshot};
pub use notifications::{
    DueNotification, NextTry, NotificationFilter, NotificationRow, enqueue_notifications, events_without_notifications,
    has_untried_notifications, installation, list_notifications, mark_notification_failed, mark_notifications_sent,
    next_due_notification, release_notifications, requeue_dead_notifications, take_due_notifications,
    try_become_notifier,
};
pub use orders::{
    EventRow, FoundOrders, Latency, OrderDetail, OrderFilter, OrderLine, OrderSummary, PaymentRow, RefundRow,
    StateCount, find_order, import_latency, list_orders, search_orders, state_counts,
};
pub use parked::{Abandonment, abandon_parked_order, foresee_abandonment, park_orders, parked_orders, unpark_orders};
pub use payments::{
    LockedPayment, NewPayments, PayableOrder, PaymentChange, begin_payments, change_payments, insert_payments,
    lock_payments_of_orders, order_ids_by_code, payable_orders,
};
pub use reconciliations::{
    Reconciliation, StrandedOrder, note_reconciliation, now, oldest_open_order, orders_in_turn, parked_before,
    reconciliations, try_become_reconciler,
};
pub use refund_views::{RefundFilter, RefundView, find_refund, list_refunds};
pub use refunds::{
    KnownRefund, LockedRefund, NewRefund, RefundEnd, RefundTimes, RefundableOrder, add_refunded, end_refunds,
    insert_automatic_refunds, lock_refundable_orders, lock_refunds_with_orders, postpone_refunds, refunds_by_key,
    return_stock, write_refunds,
};
pub use reservations::{ExistingOrder, NewOrders, draw_order_ids, insert_orders, known_customers, orders_by_code};
pub use settlements::{SettleableOrder, lock_orders_in_id_order, mark_settled, release_held_stock};
pub use stock::{add_reserved, lock_products_in_id_order};
pub use stock_views::{ProductStock, StockDrift, StockFilter, list_stock, list_stock_drift, stock_drift};
pub use tokens::{ApiToken, UsedToken, has_tokens, insert_token, revoke_token, tokens, use_token};
