//! What an order is and what may happen to it: pure types, parsed once at the border. No I/O, no crate of ours above it.

mod money;
mod order;
mod refund;
mod state;
mod text;

pub use money::{Cents, MoneyError};
pub use order::{
    CustomerId, InvalidOrder, LINES_PER_ORDER_MAX, Line, ORDER_CODE_BYTES_MAX, Order, OrderCode, OrderId, ProductId,
    TOTAL_CENTS_MAX,
};
pub use refund::{InvalidRefund, REFUND_KEY_BYTES_MAX, REFUND_REASON_BYTES_MAX, RefundKey, RefundRequest};
pub use state::{
    ActionOutcome, ActionVerb, ActionVia, ApiRole, CallbackKind, CallbackOutcome, EventKind, FailureReason,
    NotificationChannel, NotificationStatus, OrderStatus, PaymentStatus, RefundStatus, Refusal, UnknownWord,
};
pub use text::{is_like, is_unseen};
