//! Redis, as an operator sees it, through a connection that is made anew whenever it breaks.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result};
use fred::{
    prelude::{Client, ClientLike, FromValue, Value},
    types::{ClusterHash, CustomCommand},
};
use serde::Serialize;

use crate::stream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The stages: name of the consumer group, stream that it reads.
pub(super) const STAGES: [(&str, &str); 3] = [
    ("reservation", "orderstream:{0}:incoming"),
    ("payment", "orderstream:{0}:reserved"),
    ("settlement", "orderstream:{0}:paid"),
];

const DEAD: &str = "orderstream:{0}:dead";
const CURSOR: &str = "orderstream:{board}:cursor";

/// One stage's stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Gauge {
    /// Entries of the stream, acknowledged ones that are not trimmed yet included.
    pub(super) length: u64,
    /// Entries that were read and not acknowledged.
    pub(super) pending: u64,
    /// Whether some were never read.
    pub(super) unread: bool,
}

impl Gauge {
    /// Whether there is nothing to do.
    pub(super) fn is_drained(self) -> bool {
        self.pending == 0 && !self.unread
    }
}

/// A connection for commands and questions.
pub(super) struct Control {
    url: String,
    client: Option<Client>,
}

impl Control {
    /// To the server at `url`; connects with the first command.
    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), client: None }
    }

    /// Sends a command. After a failure the next one uses a new connection.
    pub(super) async fn ask<T: FromValue>(&mut self, command: &str, args: &[&str]) -> Result<T> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.connect().await?,
        };
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let custom = CustomCommand::new(command.to_owned(), ClusterHash::FirstKey, false);
        let answer = tokio::time::timeout(PATIENCE, client.custom(custom, args)).await;
        let answer = answer.with_context(|| format!("Redis does not answer {command}"))?;
        let answer = answer.with_context(|| format!("Redis refused {command}"))?;
        self.client = Some(client);
        Ok(answer)
    }

    /// The server was started anew: a connection to the one before would keep the next command waiting.
    pub(super) fn forget(&mut self) {
        self.client = None;
    }

    async fn connect(&self) -> Result<Client> {
        let client = stream::client(&self.url)?;
        let connected = tokio::time::timeout(PATIENCE, client.init()).await;
        connected.context("Redis does not answer")?.context("cannot reach Redis")?;
        Ok(client)
    }

    /// Whether it answers and has read its log.
    pub(super) async fn answers(&mut self) -> bool {
        self.ask::<String>("PING", &[]).await.is_ok_and(|pong| pong == "PONG")
    }

    /// The streams of all stages.
    pub(super) async fn gauges(&mut self) -> Result<[Gauge; 3]> {
        let mut gauges = [Gauge::default(); 3];
        for ((group, key), gauge) in STAGES.iter().zip(&mut gauges) {
            gauge.length = self.ask("XLEN", &[key]).await?;
            let known = match self.ask::<u64>("EXISTS", &[key]).await? {
                0 => Vec::new(),
                _ => self.maps("XINFO", &["GROUPS", key]).await?,
            };
            let Some(state) = known.iter().find(|state| text(state, "name") == *group) else {
                gauge.unread = gauge.length > 0;
                continue;
            };
            gauge.pending = number(state, "pending");
            // The lag of Redis 7.0 may be unknown, or far too high after a restart: whether anything is unread is not.
            let after = format!("({}", text(state, "last-delivered-id"));
            let next: Value = self.ask("XRANGE", &[key, &after, "+", "COUNT", "1"]).await?;
            gauge.unread = matches!(next, Value::Array(entries) if !entries.is_empty());
        }
        Ok(gauges)
    }

    /// How many entries the process holds, by stage.
    pub(super) async fn held_by(&mut self, process: u32) -> Result<[u64; 3]> {
        let mut held = [0; 3];
        for (stage, pending) in held.iter_mut().enumerate() {
            *pending = self.pending(process, stage).await?;
        }
        Ok(held)
    }

    /// Whether the process holds entries of a stage.
    pub(super) async fn holds(&mut self, process: u32, stage: usize) -> Result<bool> {
        Ok(self.pending(process, stage).await? > 0)
    }

    async fn pending(&mut self, process: u32, stage: usize) -> Result<u64> {
        let (group, key) = STAGES[stage];
        let consumers = self.maps("XINFO", &["CONSUMERS", key, group]).await?;
        let mine = consumers.iter().filter(|consumer| is_of(&text(consumer, "name"), process));
        Ok(mine.map(|consumer| number(consumer, "pending")).sum())
    }

    /// Dead letters by reason.
    pub(super) async fn dead_letters(&mut self) -> Result<HashMap<String, u64>> {
        let mut reasons = HashMap::new();
        let mut after = "-".to_owned();
        loop {
            let entries: Vec<(String, HashMap<String, Value>)> =
                self.ask("XRANGE", &[DEAD, &after, "+", "COUNT", "1000"]).await?;
            let Some((last, _)) = entries.last() else { return Ok(reasons) };
            after = format!("({last}");
            for (_, fields) in &entries {
                *reasons.entry(text(fields, "reason")).or_default() += 1;
            }
        }
    }

    /// The last event that the board shows.
    pub(super) async fn cursor(&mut self) -> Result<i64> {
        Ok(self.ask::<Option<i64>>("GET", &[CURSOR]).await?.unwrap_or(0))
    }

    /// A figure of `INFO`.
    pub(super) async fn info(&mut self, section: &str, name: &str) -> Result<u64> {
        let text: String = self.ask("INFO", &[section]).await?;
        Ok(stream::figure(&text, name).unwrap_or(0))
    }

    async fn maps(&mut self, command: &str, args: &[&str]) -> Result<Vec<HashMap<String, Value>>> {
        // Commands of two words are sent as one word and its first argument.
        self.ask(command, args).await
    }
}

/// Whether a consumer belongs to a process: its name is host, process, start and worker with colons between.
fn is_of(consumer: &str, process: u32) -> bool {
    consumer.rsplit(':').nth(2).is_some_and(|part| part == process.to_string())
}

fn text(map: &HashMap<String, Value>, name: &str) -> String {
    map.get(name).and_then(Value::as_string).unwrap_or_default()
}

fn number(map: &HashMap<String, Value>, name: &str) -> u64 {
    map.get(name).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_known_by_its_process() {
        assert!(is_of("host:with:colons:4711:5ff:0", 4711));
        assert!(!is_of("host:4711:471:0", 471));
        assert!(!is_of("somebody", 1));
    }
}
