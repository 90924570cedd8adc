//! The good orders of a file, in order of first appearance.

use std::io;

use pipeline::domain::{Order, OrderCode};

use super::{
    frame::{self, Payload},
    held::Held,
    runs::{Merged, Runs},
};

/// Good orders, in memory or on disk. They can be gone through as often as needed, also by several at once.
#[derive(Debug)]
pub struct Grouped(pub(super) Runs);

/// An order, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupedOrder {
    /// The order; it has a line for each row.
    pub order: Order,
    /// The line of its first row in the file.
    pub first_line: u64,
}

impl GroupedOrder {
    /// Rows that the order has in the file.
    pub fn rows(&self) -> usize {
        self.order.lines().len()
    }
}

impl Grouped {
    /// The orders in order of first appearance. An error is one of the temporary files, and ends the iteration.
    pub fn orders(&self) -> Frames<'_, GroupedOrder> {
        Frames::new(&self.0, decode)
    }

    /// Whether the orders outgrew memory and wait in temporary files.
    pub fn is_on_disk(&self) -> bool {
        self.0.is_on_disk()
    }
}

/// Goes through what a file holds, in the file's order.
#[derive(Debug)]
pub struct Frames<'a, T> {
    source: Source<'a>,
    decode: fn(Payload<'_>) -> io::Result<T>,
}

#[derive(Debug)]
enum Source<'a> {
    Merged(Merged<'a>),
    Failed(Option<io::Error>),
}

impl<'a, T> Frames<'a, T> {
    pub(super) fn new(runs: &'a Runs, decode: fn(Payload<'_>) -> io::Result<T>) -> Self {
        let source = runs.merged().map_or_else(|error| Source::Failed(Some(error)), Source::Merged);
        Self { source, decode }
    }
}

impl<T> Iterator for Frames<'_, T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        let decode = self.decode;
        let next = match &mut self.source {
            Source::Merged(merged) => merged.next().and_then(|payload| payload.map(decode).transpose()),
            Source::Failed(error) => return error.take().map(Err),
        };
        if next.is_err() {
            self.source = Source::Failed(None);
        }
        next.transpose()
    }
}

/// Puts a good order into `payload`; its first line is the key of the frame.
pub(super) fn encode(held: &Held, nth: usize, payload: &mut Vec<u8>) {
    let (code, rows) = held.get(nth);
    let lines = rows.len() as u64;
    payload.clear();
    for (place, row) in rows.enumerate() {
        if place == 0 {
            frame::put(payload, row.line);
            frame::put_text(payload, code);
            frame::put_customer(payload, row.customer_id);
            frame::put(payload, lines);
        }
        frame::put_line(payload, &row.order_line);
    }
}

/// The rules of the domain were applied row by row before; that they hold is checked once more by their owner.
fn decode(mut payload: Payload<'_>) -> io::Result<GroupedOrder> {
    let first_line = payload.number()?;
    let code = payload.text()?;
    let customer_id = payload.customer()?;
    let mut lines = Vec::with_capacity(usize::try_from(payload.number()?).map_err(io::Error::other)?);
    while !payload.is_empty() {
        lines.push(payload.line()?);
    }
    let order = OrderCode::new(code).and_then(|code| Order::new(code, customer_id, lines));
    let order = order.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(GroupedOrder { order, first_line })
}
