//! Connections that are kept from one use to the next.

use std::time::{Duration, Instant};

use super::{Connection, Error, Redis};

/// A connection that has rested for longer is asked whether it is still there before it is used: the server may end idle
/// ones (its setting `timeout`), and a restart ends all. The question costs a round trip, which busy users are spared.
const REST_MAX: Duration = Duration::from_millis(100);

/// Longest wait for the answer to that question.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is kept: opened at its first use, opened anew when it turns out to be gone.
#[derive(Debug)]
pub struct KeptConnection {
    redis: Redis,
    open: Option<(Connection, Instant)>,
    rest_max: Duration,
}

impl KeptConnection {
    /// Nothing is connected yet.
    pub fn new(redis: &Redis) -> Self {
        Self { redis: redis.clone(), open: None, rest_max: REST_MAX }
    }

    /// For users who can spare the question: the connection is asked before each use.
    pub fn always_asked(redis: &Redis) -> Self {
        Self { rest_max: Duration::ZERO, ..Self::new(redis) }
    }

    /// The connection, to be used now.
    ///
    /// # Errors
    /// When there is none and Redis cannot be reached.
    pub async fn get(&mut self) -> Result<&mut Connection, Error> {
        let mut usable = None;
        if let Some((mut connection, used)) = self.open.take()
            && (used.elapsed() < self.rest_max || answers(&mut connection).await)
        {
            usable = Some(connection);
        }
        let connection = match usable {
            Some(connection) => connection,
            None => self.redis.connect().await?,
        };
        Ok(&mut self.open.insert((connection, Instant::now())).0)
    }

    /// Leaves the connection to itself: it failed, or was left in the middle of something.
    pub fn forget(&mut self) {
        self.open = None;
    }
}

async fn answers(connection: &mut Connection) -> bool {
    let ping = redis::cmd("PING");
    matches!(tokio::time::timeout(PING_TIMEOUT, ping.exec_async(connection)).await, Ok(Ok(())))
}
