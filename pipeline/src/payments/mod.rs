//! Money that moves at a provider: how questions and answers become rows, whoever asks or answers.
//!
//! The stages ask first; the [collector](crate::collector) asks again, and applies what providers tell by themselves.
//! All of them write through this module, which keeps four rules:
//!
//! - what is about to be asked is stored before it is asked, and no transaction is open while it is;
//! - what is not known is not refused: it stays pending, and is asked about until it is known;
//! - an answer is judged with its order locked, so that of two that come at once one finds what the other left;
//! - the first final answer counts. Money that comes after its order has failed goes back.

mod callbacks;
mod charges;
mod gateways;
mod refunds;
mod returns;

pub use charges::{Settleable, return_late_money};
pub use gateways::{Connected, Connector, GatewayError, Gateways};
pub use refunds::Granting;

use std::time::Duration;

use crate::store::Store;

/// How long to wait for money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentLimits {
    /// After this an attempt without an answer expires, and its order fails.
    pub payment_timeout: Duration,
    /// How long a gateway may take for a batch of calls: nobody else asks about the same before that.
    pub answer_max: Duration,
    /// How long a refund waits for its order to reach its end.
    pub refund_wait: Duration,
}

impl Default for PaymentLimits {
    fn default() -> Self {
        Self {
            payment_timeout: Duration::from_secs(600),
            answer_max: Duration::from_secs(15),
            refund_wait: Duration::from_secs(900),
        }
    }
}

/// How long a refund waits for an order that nobody knows: it may have overtaken the order on its way in.
const UNKNOWN_ORDER_WAIT_MAX: Duration = Duration::from_secs(60);

/// Most payments, or refunds, that are looked after together.
const ASK_MAX: i64 = 500;

/// First pause before a provider is asked again that gave no answer, in seconds.
const AGAIN_S: f64 = 1.0;

/// The desk at which payments and refunds are dealt with.
#[derive(Debug, Clone)]
pub struct Payments {
    store: Store,
    gateways: Gateways,
    limits: PaymentLimits,
}

impl Payments {
    /// The desk of an installation.
    pub fn new(store: Store, gateways: Gateways, limits: PaymentLimits) -> Self {
        Self { store, gateways, limits }
    }

    /// Where it all is kept.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// First pause before a provider is asked again that has promised an answer, in seconds: its callback may be lost.
    fn promised_s(&self) -> f64 {
        (self.limits.payment_timeout.as_secs_f64() / 20.0).clamp(AGAIN_S, 30.0)
    }

    /// How long what was taken to be asked about belongs to whoever took it, in seconds.
    fn lease_s(&self) -> f64 {
        self.limits.answer_max.as_secs_f64() * 2.0 + 5.0
    }
}
