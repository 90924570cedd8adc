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
    }
}
