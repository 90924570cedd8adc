//! How to reach Redis.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};

use crate::topology::Keyspace;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a reply. Far above any read's block time: a read that timed out here while the server delivered
/// would leave its entries pending with a living consumer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// A failed exchange with Redis.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis, or the way to it, failed.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Redis answered something that the command does not answer.
    #[error("unexpected reply to {command}: {reply}")]
    Reply {
        /// The command.
        command: &'static str,
        /// What came, shortened.
        reply: String,
    },
}

/// As if the way to Redis had failed.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Redis(error.into())
    }
}

impl Error {
    /// Whether Redis no longer knows the stream or its group.
    pub fn is_group_missing(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("NOGROUP"))
    }

    /// Whether the way to Redis failed, rather than Redis refusing.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_io_error() || error.is_connection_dropped())
    }
}

/// Something about the server's settings that would lose orders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
pub struct SafetyProblem {
    /// What is wrong.
    pub problem: String,
    /// The command that puts it right.
    pub remedy: &'static str,
}

/// A Redis server and the keys of one installation on it. Every connection is opened by whoever uses it.
#[derive(Debug, Clone)]
pub struct Redis {
    client: Client,
    keys: Keyspace,
}

impl Redis {
    /// A server by its URL (`redis://`, `rediss://`, `unix://`) and the namespace of the keys.
    ///
    /// # Errors
    /// When the URL cannot be read. Nothing is connected yet.
    pub fn new(url: &str, namespace: &str) -> Result<Self, Error> {
        Ok(Self { client: Client::open(url)?, keys: Keyspace::new(namespace) })
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Keyspace {
        &self.keys
    }

    /// Opens a connection of one's own.
    ///
    /// # Errors
    /// When the server cannot be reached within five seconds, or refuses.
    pub async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        Ok(self.client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// Looks for settings that would lose orders: an eviction policy that deletes streams, or no append-only file.
    ///
    /// # Errors
    /// When the server cannot be reached. A server that hides its settings (`CONFIG` denied) is believed.
    pub async fn safety_problems(&self) -> Result<Vec<SafetyProblem>, Error> {
        let mut connection = self.connect().await?;
        let reply = redis::cmd("CONFIG")
            .arg("GET")
            .arg("maxmemory-policy")
            .arg("appendonly")
            .query_async::<Vec<String>>(&mut connection)
            .await;
        let settings = match reply {
            Ok(settings) => settings,
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(_) => return Ok(Vec::new()),
        };
        let setting = |name: &str| settings.chunks(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
        let mut problems = Vec::new();
        if let Some(policy) = setting("maxmemory-policy").filter(|&policy| policy != "noeviction") {
            problems.push(SafetyProblem {
                problem: format!("Redis may evict streams with all their orders (maxmemory-policy is {policy})"),
                remedy: "set it with: redis-cli CONFIG SET maxmemory-policy noeviction",
            });
        }
        if setting("appendonly") == Some("no") {
            problems.push(SafetyProblem {
                problem: "Redis keeps its streams in memory only (appendonly is no)".to_owned(),
                remedy: "set it with: redis-cli CONFIG SET appendonly yes",
            });
        }
        Ok(problems)
    }
}
