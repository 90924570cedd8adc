//! Good rows of rejected orders: they are rejected with the order, once its verdict is known.

use std::io;

use pipeline::domain::CustomerId;

use super::{
    frame::{self, Payload},
    reject::{Reason, Reject, RejectSink},
    row::Row,
};

/// A row that has nothing wrong in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sibling<'a> {
    pub(super) line: u64,
    pub(super) code: &'a str,
    pub(super) customer_id: CustomerId,
    pub(super) reason: Reason,
}

impl<'a> Sibling<'a> {
    pub(super) fn new(code: &'a str, row: &Row, reason: Reason) -> Self {
        Self { line: row.line, code, customer_id: row.customer_id, reason }
    }

    /// Hands the row to the caller of the import.
    pub(super) fn reject(&self, sink: &mut RejectSink<'_>) -> io::Result<()> {
        let customer = self.customer_id.to_string();
        let (column, value) = match self.reason {
            Reason::SeveralCustomers { .. } => (Some("customer_id"), customer.as_bytes()),
            _ => (None, &b""[..]),
        };
        sink(&Reject {
            line: self.line,
            refund_key: None,
            order_code: Some(self.code),
            column,
            value,
            reason: self.reason,
        })
    }

    /// Puts the row into `payload`; its line is the key of the frame.
    pub(super) fn encode(&self, payload: &mut Vec<u8>) {
        payload.clear();
        frame::put(payload, self.line);
        frame::put_text(payload, self.code);
        frame::put_customer(payload, self.customer_id);
        match self.reason {
            Reason::TooManyLines => frame::put(payload, 1),
            Reason::TotalTooLarge => frame::put(payload, 2),
            Reason::SeveralCustomers { first } => {
                frame::put(payload, 3);
                frame::put_customer(payload, first);
            }
            Reason::OrderRejected { line } => {
                frame::put(payload, 0);
                frame::put(payload, line);
            }
            other => unreachable!("{} is found in a row alone", other.code()),
        }
    }

    pub(super) fn decode(mut payload: Payload<'a>) -> io::Result<Self> {
        let line = payload.number()?;
        let code = payload.text()?;
        let customer_id = payload.customer()?;
        let reason = match payload.number()? {
            0 => Reason::OrderRejected { line: payload.number()? },
            1 => Reason::TooManyLines,
            2 => Reason::TotalTooLarge,
            3 => Reason::SeveralCustomers { first: payload.customer()? },
            _ => return Err(frame::damaged()),
        };
        Ok(Self { line, code, customer_id, reason })
    }
}
