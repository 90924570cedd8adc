//! A row of an order on its way through a partition.

use std::io;

use super::{
    frame::{self, Payload},
    row::Row,
};

/// What comes back of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Divided {
    /// A good row.
    Row(Row),
    /// The line of a bad row.
    Bad(u64),
}

impl Divided {
    /// Appends the row, whose order's code stands before it.
    pub(super) fn put(&self, payload: &mut Vec<u8>) {
        match self {
            Self::Row(row) => {
                frame::put(payload, row.line);
                frame::put_customer(payload, row.customer_id);
                frame::put_line(payload, &row.order_line);
            }
            Self::Bad(line) => frame::put(payload, *line),
        }
    }

    /// Reads what [`Divided::put`] has appended.
    pub(super) fn decode(mut payload: Payload<'_>) -> io::Result<Self> {
        let line = payload.number()?;
        Ok(if payload.is_empty() {
            Self::Bad(line)
        } else {
            Self::Row(Row { line, customer_id: payload.customer()?, order_line: payload.line()? })
        })
    }
}
