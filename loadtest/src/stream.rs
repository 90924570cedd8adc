//! Redis, as a stranger sees it: the documented stream keys, through a client of our own choice.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use fred::{
    prelude::{Builder, Client, ClientLike, Config, Key, KeysInterface, StreamsInterface, Value},
    types::InfoKind,
};

use crate::orders::Orders;

/// Where orders enter.
const INCOMING: Key = Key::from_static_str("orderstream:{0}:incoming");

/// Where messages end that can never succeed.
const DEAD: Key = Key::from_static_str("orderstream:{0}:dead");

/// The last event that KPIs and leaderboards show.
const CURSOR: Key = Key::from_static_str("orderstream:{board}:cursor");

/// The group that takes orders in.
const RESERVATION: &str = "reservation";

/// The one connection of the load generator.
#[derive(Clone)]
pub(crate) struct Stream {
    client: Client,
}

/// What Redis says about its append-only file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppendOnlyFile {
    /// Its size, bytes.
    pub(crate) size: u64,
    /// How often it was rewritten since the server started.
    pub(crate) rewrites: u64,
}

impl Stream {
    /// Connects to the server at `url`: `redis://…`, or a socket as `unix:///path` or `redis+unix:///path`.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let client = client(url)?;
        client.init().await.with_context(|| format!("cannot reach Redis at {url}"))?;
        Ok(Self { client })
    }

    /// Adds the orders of a range in one pipeline and returns the milliseconds of their entry ids: the time by the
    /// server's clock at which each order was accepted.
    pub(crate) async fn add(&self, orders: &Orders, range: std::ops::Range<usize>) -> Result<Vec<u64>> {
        let pipeline = self.client.pipeline();
        for index in range {
            let field = (Key::from_static_str("body"), Value::Bytes(orders.body(index)));
            let _: () = pipeline.xadd(INCOMING, false, None::<()>, "*", field).await?;
        }
        let ids: Vec<Bytes> = pipeline.all().await.context("XADD failed")?;
        ids.iter().map(|id| milliseconds(id)).collect()
    }

    /// Orders that were added and not yet taken in. The stream's length where Redis has lost count of the group's lag:
    /// never less than the truth, because the stream is trimmed only below what was acknowledged.
    pub(crate) async fn backlog(&self) -> Result<u64> {
        let groups: Vec<HashMap<String, Value>> = self.client.xinfo_groups(INCOMING).await.unwrap_or_default();
        let reservation = groups
            .iter()
            .find(|group| group.get("name").and_then(Value::as_str).is_some_and(|name| name == RESERVATION));
        let number = |name: &str| reservation?.get(name)?.as_u64();
        match number("lag").zip(number("pending")) {
            Some((lag, pending)) => Ok(lag + pending),
            None => Ok(self.client.xlen(INCOMING).await?),
        }
    }

    /// Messages that can never succeed, anybody's.
    pub(crate) async fn dead_letters(&self) -> Result<u64> {
        Ok(self.client.xlen(DEAD).await?)
    }

    /// The last event that the board shows.
    pub(crate) async fn cursor(&self) -> Result<i64> {
        Ok(self.client.get::<Option<i64>, _>(CURSOR).await?.unwrap_or(0))
    }

    /// The server's process id on its own machine.
    pub(crate) async fn process_id(&self) -> Result<Option<u32>> {
        Ok(self.info(InfoKind::Server, &["process_id"]).await?[0].and_then(|pid| u32::try_from(pid).ok()))
    }

    /// Memory in use, bytes.
    pub(crate) async fn memory(&self) -> Result<u64> {
        Ok(self.info(InfoKind::Memory, &["used_memory"]).await?[0].unwrap_or(0))
    }

    /// The append-only file, if there is one.
    pub(crate) async fn append_only_file(&self) -> Result<Option<AppendOnlyFile>> {
        let figures = self.info(InfoKind::Persistence, &["aof_enabled", "aof_current_size", "aof_rewrites"]).await?;
        Ok(match figures[..] {
            [Some(1), Some(size), rewrites] => Some(AppendOnlyFile { size, rewrites: rewrites.unwrap_or(0) }),
            _ => None,
        })
    }

    async fn info(&self, section: InfoKind, names: &[&str]) -> Result<Vec<Option<u64>>> {
        let text: String = self.client.info(Some(section)).await?;
        Ok(names.iter().map(|name| figure(&text, name)).collect())
    }
}

/// A client for the server at `url` that is not connected yet, and does not connect again by itself.
pub(crate) fn client(url: &str) -> Result<Client> {
    let mut builder = Builder::from_config(Config::from_url(&fred_url(url))?);
    // A pipeline is one write: fred flushes by itself after as many frames as this.
    builder.with_performance_config(|config| config.max_feed_count = 1_000);
    Ok(builder.build()?)
}

/// A figure in the text that `INFO` returns.
pub(crate) fn figure(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
}

/// The first half of an entry id.
fn milliseconds(id: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(id)?;
    match text.split_once('-') {
        Some((ms, _)) => Ok(ms.parse()?),
        None => bail!("XADD answered {text:?}, which is no entry id"),
    }
}

/// fred knows sockets only as `redis+unix://`.
fn fred_url(url: &str) -> String {
    match url.strip_prefix("unix:") {
        Some(path) => format!("redis+unix:{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use fred::prelude::ServerConfig;

    use super::*;

    #[test]
    fn sockets_and_hosts_are_understood() {
        for url in ["unix:///tmp/x/redis.sock", "redis+unix:///tmp/x/redis.sock"] {
            let config = Config::from_url(&fred_url(url)).expect("URL");
            assert_eq!(config.server, ServerConfig::Unix { path: "/tmp/x/redis.sock".into() });
        }
        let config = Config::from_url(&fred_url("redis://localhost:6380")).expect("URL");
        assert_eq!(config.server, ServerConfig::new_centralized("localhost", 6380));
    }

    #[test]
    fn info_and_entry_ids_are_read() {
        let info = "# Persistence\r\naof_enabled:1\r\naof_current_size:1234\r\n";
        assert_eq!(figure(info, "aof_current_size"), Some(1234));
        assert_eq!(figure(info, "aof_current"), None);
        assert_eq!(milliseconds(b"1700000000000-3").expect("id"), 1_700_000_000_000);
        assert!(milliseconds(b"QUEUED").is_err());
    }
}
