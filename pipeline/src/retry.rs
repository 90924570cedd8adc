//! How long to wait between tries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// 20 ms, doubling with jitter, up to 3 s, for ever.
pub fn delays() -> impl Iterator<Item = Duration> {
    delays_up_to(Duration::from_secs(3))
}

/// 20 ms, doubling with jitter, up to `longest`, for ever.
pub fn delays_up_to(longest: Duration) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times()
        .build()
}
