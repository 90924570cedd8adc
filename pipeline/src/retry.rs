//! How long to wait between tries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// 20 ms, doubling with jitter, up to 3 s, for ever.
pub(crate) fn delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(3))
        .with_jitter()
        .without_max_times()
        .build()
}
