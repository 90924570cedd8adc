//! Going through what a file holds off the async threads: they may come from disk.

use std::{io, sync::Arc};

use tokio::sync::mpsc;

use super::{CHUNK_ITEMS, Freight};

/// Chunks that are prepared ahead.
const AHEAD: usize = 4;

/// All messages in chunks, each mapped on the reading thread. The last item may be an error.
pub(super) fn chunks<F: Freight, T: Send + 'static>(
    freight: &Arc<F>,
    map: impl Fn(F::Item) -> T + Send + 'static,
) -> mpsc::Receiver<io::Result<Vec<T>>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let freight = Arc::clone(freight);
    tokio::task::spawn_blocking(move || {
        let mut iterator = freight.items();
        loop {
            let chunk: io::Result<Vec<T>> = iterator.by_ref().take(CHUNK_ITEMS).map(|item| item.map(&map)).collect();
            let last = !matches!(&chunk, Ok(chunk) if chunk.len() == CHUNK_ITEMS);
            // The other side has gone: nobody wants more.
            if chunk.as_ref().is_ok_and(Vec::is_empty) || sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    });
    receiver
}
