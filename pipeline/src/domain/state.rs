//! The closed vocabulary of the tables: states, reasons, kinds. `docs/STATES.md` draws how they follow each other.

use std::{fmt, str::FromStr};

/// A word that the schema does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of {known}")]
pub struct UnknownWord {
    /// What was read.
    pub word: String,
    /// What could have been read, separated by commas.
    pub known: String,
}

/// An enum whose variants are words in tables, messages and flags: one list, read and written the same everywhere.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word for it in tables, messages and flags.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { word: word.to_owned(), known: [$($word,)+].join(", ") }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

vocabulary! {
    /// Where an order stands.
    OrderStatus {
        /// Holds stock for all its lines; not paid.
        Reserved = "reserved",
        /// Holds stock; an asynchronous gateway owes a callback.
        Paying = "paying",
        /// Paid, and its pieces have left the stock. Final.
        Completed = "completed",
        /// Refused for a reason; holds nothing. Final.
        Failed = "failed",
    }
}

impl OrderStatus {
    /// Whether no stage will move the order again.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

vocabulary! {
    /// What the holder of a token may do over HTTP. Each role may do what those before it may.
    ApiRole {
        /// Look.
        Viewer = "viewer",
        /// Add orders and refunds, steer what runs.
        Operator = "operator",
        /// Everything.
        Admin = "admin",
    }
}

vocabulary! {
    /// By which way somebody acted on the running pipeline.
    ActionVia {
        /// The command line.
        Cli = "cli",
        /// The HTTP API.
        Http = "http",
        /// The pages in the browser.
        Dashboard = "dashboard",
        /// The view in the terminal.
        Top = "top",
    }
}

vocabulary! {
    /// What somebody did to the running pipeline.
    ActionVerb {
        /// A stage takes no more work.
        Pause = "pause",
        /// It goes on.
        Resume = "resume",
        /// Messages of silent consumers are there for others.
        Claim = "claim",
        /// Dead letters are on their way again.
        Replay = "replay",
        /// One is, with another body.
        EditAndReplay = "edit_and_replay",
        /// Dead letters are gone for good.
        Discard = "discard",
        /// Asking for a refund on a page: the others are known by their keys.
        Refund = "refund",
        /// Another payment provider takes new payments.
        SetProvider = "set_provider",
        /// It is recorded which provider took the payments of an earlier version.
        LocateProvider = "locate_provider",
        /// A provider has another address.
        MoveProvider = "move_provider",
        /// A provider's account has another key.
        AcceptKey = "accept_key",
    }
}

vocabulary! {
    /// How an action ended.
    ActionOutcome {
        /// As it was meant.
        Done = "done",
        /// Nothing was changed, by a rule.
        Refused = "refused",
        /// A server was away, or something is broken: how far it came is not known in every case.
        Failed = "failed",
        /// It stopped half-way, and can go on.
        Interrupted = "interrupted",
    }
}

vocabulary! {
    /// Why an order failed, in order of precedence: the first that applies is recorded.
    FailureReason {
        /// The customer is not in the catalogue.
        UnknownCustomer = "unknown_customer",
        /// A line names a product that is not in the catalogue.
        UnknownProduct = "unknown_product",
        /// Some product has fewer free pieces than the order asks for, over all its lines.
        OutOfStock = "out_of_stock",
        /// The gateway said no.
        PaymentDeclined = "payment_declined",
        /// The gateway did not answer in time.
        PaymentExpired = "payment_expired",
        /// Its message was set aside as a dead letter, and an operator discarded the letter.
        Abandoned = "abandoned",
    }
}

impl FailureReason {
    /// Whether the same order, placed again under another code, could succeed without anyone changing it.
    pub const fn may_pass_later(self) -> bool {
        match self {
            Self::OutOfStock | Self::PaymentDeclined | Self::PaymentExpired | Self::Abandoned => true,
            Self::UnknownCustomer | Self::UnknownProduct => false,
        }
    }
}

vocabulary! {
    /// Where a payment attempt stands.
    PaymentStatus {
        /// Stored before the gateway was asked; the answer is not known.
        Pending = "pending",
        /// The gateway took the money.
        Approved = "approved",
        /// The gateway said no.
        Declined = "declined",
        /// No answer came in time.
        Expired = "expired",
        /// The money came when the order had failed; it goes back.
        Late = "late",
    }
}

vocabulary! {
    /// Where a refund stands.
    RefundStatus {
        /// Its order has not reached its end.
        Waiting = "waiting",
        /// Granted; the gateway has not answered.
        Pending = "pending",
        /// The money went back. Final.
        Succeeded = "succeeded",
        /// Not granted, for a reason. Final.
        Refused = "refused",
        /// Granted, but the gateway will not give the money back. Final.
        Failed = "failed",
    }
}

vocabulary! {
    /// Why a refund came to nothing, in order of precedence.
    Refusal {
        /// No order of this code came in time.
        UnknownOrder = "unknown_order",
        /// The order failed: nothing was paid.
        OrderFailed = "order_failed",
        /// The order did not reach its end in time.
        NotSettled = "not_settled",
        /// More than what is left of the payment.
        ExceedsPaid = "exceeds_paid",
        /// The whole rest was asked for, and there is none.
        NothingLeft = "nothing_left",
        /// Only the pieces were asked for, or are left, and another refund brings them back.
        AlreadyRestocked = "already_restocked",
        /// The gateway will not give the money back.
        GatewayRefused = "gateway_refused",
    }
}

vocabulary! {
    /// What a payment provider tells.
    CallbackKind {
        /// The money is ours.
        ChargeApproved = "charge.approved",
        /// The provider said no.
        ChargeDeclined = "charge.declined",
        /// The provider has the charge and will say later.
        ChargePending = "charge.pending",
        /// The money went back.
        RefundSucceeded = "refund.succeeded",
        /// The provider will not give it back.
        RefundFailed = "refund.failed",
        /// The provider has the refund and will say later.
        RefundPending = "refund.pending",
    }
}

vocabulary! {
    /// What became of a callback.
    CallbackOutcome {
        /// Not looked at yet, or what it speaks of is not there yet.
        Waiting = "waiting",
        /// It brought news, and they were written down.
        Applied = "applied",
        /// It said what was known.
        Repeated = "repeated",
        /// It says the opposite of what was known, which stays. Somebody has to ask the provider.
        Contradicts = "contradicts",
        /// It names another amount or currency: not believed. Somebody has to ask the provider.
        Mismatched = "mismatched",
        /// What it speaks of never came.
        Unmatched = "unmatched",
    }
}

vocabulary! {
    /// A fact that changes KPIs or notifies somebody.
    EventKind {
        /// An order completed; the amount is its total.
        Completed = "completed",
        /// An order failed; the amount is its total.
        Failed = "failed",
        /// Money went back; the amount is the refund's.
        Refunded = "refunded",
        /// A refund came to nothing; the amount is what was asked for, 0 for the whole rest.
        RefundRefused = "refund_refused",
    }
}

vocabulary! {
    /// A way of telling somebody of an event.
    NotificationChannel {
        /// A line in the log.
        Log = "log",
        /// A mail to the customer.
        Mail = "mail",
        /// A signed request to a program of the shop's.
        Webhook = "webhook",
    }
}

vocabulary! {
    /// Where a notification stands.
    NotificationStatus {
        /// Not delivered; tried until it is.
        Pending = "pending",
        /// The other side has taken it. Final.
        Sent = "sent",
        /// Refused for good, or too often; an operator may have it tried again.
        Dead = "dead",
    }
}
