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
mod currencies;
mod due;
mod error;
mod events;
mod gateway_uses;
mod gateways;
mod idempotency;
mod import_records;
mod import_views;
mod imports;
mod ledger;
mod notifications;
mod order_lists;
mod orders;
mod parked;
mod payments;
mod reconciliations;
mod refund_views;
mod refunds;
mod refusal;
mod reservations;
mod setbacks;
mod settlements;
mod socket;
mod stock;
mod stock_views;
mod tokens;

pub use actions::{Action, ActionFilter, NewAction, find_action, insert_action, list_actions};
pub use audit::{EXAMPLES_MAX, OpenOrder, SqlCheck, SqlFinding, begin_snapshot, open_orders, sql_checks};
pub use callbacks::{
    CallbackRow, CallbacksOf, Insertion, Teller, WaitingCallback, callbacks_of, decide_callbacks, insert_callbacks,
    lock_waiting_callbacks,
};
pub use catalogue::{
    Customer, Product, RefusedRow, SEEDED_SKU_PREFIX, customer_names, has_real_products, is_catalogue_empty,
    load_customers, load_products, product_names, upsert_customers, upsert_products,
};
pub use connection::{PoolState, Store, WorkerSettings, commit};
pub use currencies::{Currencies, currencies};
pub use due::{
    DuePayment, PendingRefund, WaitingRefund, claim_due_payments, claim_due_refunds, claim_waiting_refunds,
    is_money_owed, pending_refunds,
};
pub use error::{Error, ErrorKind};
pub use events::{
    BoardEvent, CustomerRevenue, DayFigures, NewEvent, PiecesSold, append_events, board_events_after, customer_revenue,
    day_figures, event_age_after, last_event_seq, pieces_sold, pieces_sold_in, try_become_relay,
};
pub use gateway_uses::{
    GatewayLoad, StoredCharge, gateway_loads, has_confirmed, newest_charges, owes_answers, used_gateways,
};
pub use gateways::{
    GatewayKind, GatewayTerm, Installed, KnownGateway, NewGateway, SetGateway, change_gateways, current_gateway,
    gateway_terms, installed, known_gateways, record_key, reference_mark, set_gateway, variable_part,
};
pub use idempotency::{
    Claim, KeptAnswer, RequestKey, claim_request_key, delete_old_request_keys, keep_answer, reclaim_request_key,
    release_request_key, request_key_made_at,
};
pub use import_records::{
    AbandonedImports, ImportOutcome, KeptUpload, NewImport, OpenImport, abandon_import, abandoned_imports,
    kept_uploads, note_import_progress, note_import_status, open_imports, start_import, take_import,
};
pub use import_views::{ImportView, list_imports};
pub use imports::{ImportKind, KnownOrder, RefundStanding, is_import_open, known_orders, refund_standings};
pub use ledger::{LedgerPayment, LedgerRefund, LedgerSnapshot};
pub use notifications::{
    DueNotification, FirstTold, NextTry, NotificationFilter, NotificationRow, enqueue_notifications,
    events_without_notifications, has_untried_notifications, installation, list_notifications,
    mark_notification_failed, mark_notifications_sent, next_due_notification, release_notifications,
    requeue_dead_notifications, switch_notifications_on, take_due_notifications, try_become_notifier,
};
pub use order_lists::{FoundOrders, OrderFilter, search_orders};
pub use orders::{
    EventRow, Latency, OrderDetail, OrderLine, OrderSummary, PaymentRow, RefundRow, StateCount, find_order,
    import_latency, state_counts,
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
pub use refusal::Refusal;
pub use reservations::{ExistingOrder, NewOrders, draw_order_ids, insert_orders, known_customers, orders_by_code};
pub use setbacks::{keep_redis_mark, recent_setbacks, redis_mark, try_become_watcher};
pub use settlements::{SettleableOrder, lock_orders_in_id_order, mark_settled, release_held_stock};
pub use stock::{add_reserved, lock_products_in_id_order};
pub use stock_views::{ProductStock, StockDrift, StockFilter, list_stock, list_stock_drift, stock_drift};
pub use tokens::{ApiToken, UsedToken, find_token, has_tokens, insert_token, note_token_use, revoke_token, tokens};
