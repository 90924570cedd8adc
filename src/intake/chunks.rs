//! Going through grouped orders off the async threads: they may come from disk.

use std::{io, sync::Arc};

use tokio::sync::mpsc;

use super::CHUNK_ORDERS;
use crate::import::{Grouped, GroupedOrder};

/// Chunks that are prepared ahead.
const AHEAD: usize = 4;

/// The orders in chunks, each mapped on the reading thread. The last item may be an error.
pub(super) fn chunks<T: Send + 'static>(
    orders: &Arc<Grouped>,
    map: impl Fn(GroupedOrder) -> T + Send + 'static,
) -> mpsc::Receiver<io::Result<Vec<T>>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let orders = Arc::clone(orders);
    tokio::task::spawn_blocking(move || {
        let mut iterator = orders.orders();
        loop {
            let chunk: io::Result<Vec<T>> = iterator.by_ref().take(CHUNK_ORDERS).map(|order| order.map(&map)).collect();
            let last = !matches!(&chunk, Ok(chunk) if chunk.len() == CHUNK_ORDERS);
            // The other side has gone: nobody wants more.
            if chunk.as_ref().is_ok_and(Vec::is_empty) || sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receiver
}
