//! How to reach Redis.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisError,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

use super::refusal;
use crate::topology::Keyspace;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for a reply. Far above any read's block time: a read that timed out here while the server delivered
/// would leave its entries pending with a living consumer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may be silent before the kernel asks whether the other side is there, and then how often.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);

/// See [`KEEPALIVE_AFTER`].
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);

/// How long what was sent may stay unconfirmed before the kernel gives the connection up. Without it a machine that
/// vanished is noticed after a quarter of an hour.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(15);

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

    /// Whether time may heal it: Redis is away, restarting, loading, full, failing over, or has just lost a stream or
    /// group that the workers make anew. What else it refuses it will refuse again: somebody has to change something.
    pub fn is_transient(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        match error.kind() {
            ErrorKind::Io => !is_wrong_address(error),
            _ => {
                // In a pipeline each command has an error of its own; one that stays makes the whole hopeless.
                let refusals = error.clone().into_server_errors();
                refusals.is_some_and(|refusals| {
                    refusals.iter().all(|(_, it)| {
                        is_passing(it.code()) || refusal::passes(it.code(), it.details().unwrap_or_default())
                    })
                })
            }
        }
    }

    /// Whether Redis lets nobody in who comes like this: no password, or a wrong one.
    pub fn is_turned_away(&self) -> bool {
        let Self::Redis(error) = self else { return false };
        error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
    }

    /// Whether what answers is no Redis.
    pub fn is_foreign(&self) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == ErrorKind::Parse)
    }

    /// Whether Redis wants a password that the URL does not have.
    fn is_unauthenticated(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("NOAUTH"))
    }
}

/// Whether an error with this code passes by itself.
fn is_passing(code: &str) -> bool {
    matches!(code, "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "NOGROUP")
}

/// Whether there is something at the address that will never be our Redis: no permission for the socket, no trust in the
/// certificate.
fn is_wrong_address(error: &RedisError) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, PermissionDenied, Unsupported};
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), PermissionDenied | InvalidData | InvalidInput | Unsupported))
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
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(UNCONFIRMED_MAX);
        let server = url.into_connection_info()?.set_tcp_settings(tcp);
        Ok(Self { client: Client::open(server)?, keys: Keyspace::new(namespace) })
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Keyspace {
        &self.keys
    }

    /// Where the server is: its host and port, or its socket. Without user and password.
    pub fn address(&self) -> String {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => "an address of another kind".to_owned(),
        }
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
        let settings = match reply.map_err(Error::from) {
            Ok(settings) => settings,
            Err(error) if error.is_unreachable() || error.is_transient() || error.is_unauthenticated() => {
                return Err(error);
            }
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
