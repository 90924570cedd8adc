//! A walk through the messages that a stage has still to process: undelivered, or delivered and not acknowledged.

use std::collections::HashSet;

use redis::{Value, aio::MultiplexedConnection};

use super::{Error, Redis, reply};
use crate::{
    message::{Entry, EntryId},
    topology::StageName,
};

/// Most entries in one page.
const PAGE_ENTRIES_MAX: usize = 1_000;

/// Where the walk stands. It ends at the entry that was the last one when it began, however fast the stream grows.
#[derive(Debug)]
pub struct Unacknowledged {
    stream: String,
    group: &'static str,
    /// The first and last entry yet to be looked at; `None` when the walk is over.
    rest: Option<(EntryId, EntryId)>,
    last_delivered: EntryId,
}

impl Redis {
    /// Starts a walk through the stream of `stage`, at its group's low-water mark. Without a group the whole stream is
    /// unacknowledged: whoever joins first begins at its start.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn unacknowledged(
        &self,
        connection: &mut MultiplexedConnection,
        partition: u16,
        stage: StageName,
    ) -> Result<Unacknowledged, Error> {
        let stream = self.keys().stream(partition, stage);
        let (low_water, last_delivered) = match self.group_state(connection, partition, stage).await? {
            Some(group) => (group.low_water, group.last_delivered),
            None => (Some(EntryId::default()), EntryId::default()),
        };
        let mut newest = redis::cmd("XREVRANGE");
        newest.arg(&stream).arg("+").arg("-").arg("COUNT").arg(1);
        let newest = reply::entries("XREVRANGE", newest.query_async(connection).await?)?;
        let rest = low_water.zip(newest.first().map(|entry| entry.id));
        Ok(Unacknowledged { stream, group: stage.as_str(), rest, last_delivered })
    }
}

impl Unacknowledged {
    /// The next entries, or `None` when there are no more. A page may be empty.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn next_page(&mut self, connection: &mut MultiplexedConnection) -> Result<Option<Vec<Entry>>, Error> {
        let Some((from, to)) = self.rest else { return Ok(None) };
        let mut range = redis::cmd("XRANGE");
        range.arg(&self.stream).arg(from.to_string()).arg(to.to_string()).arg("COUNT").arg(PAGE_ENTRIES_MAX);
        let mut page = reply::entries("XRANGE", range.query_async(connection).await?)?;
        let Some(last) = page.last().map(|entry| entry.id) else {
            self.rest = None;
            return Ok(None);
        };
        self.rest = last.successor().filter(|_| page.len() == PAGE_ENTRIES_MAX).map(|from| (from, to));

        let delivered_to = last.min(self.last_delivered);
        if from <= delivered_to {
            // Entries that are acknowledged stay in the stream until they are trimmed.
            let pending = self.pending(connection, from, delivered_to).await?;
            page.retain(|entry| entry.id > delivered_to || pending.contains(&entry.id));
        }
        Ok(Some(page))
    }

    /// The ids between these two that are delivered and not acknowledged.
    async fn pending(
        &self,
        connection: &mut MultiplexedConnection,
        mut from: EntryId,
        to: EntryId,
    ) -> Result<HashSet<EntryId>, Error> {
        const COMMAND: &str = "XPENDING";
        let mut pending = HashSet::new();
        loop {
            let page: Result<Vec<Vec<Value>>, _> = redis::cmd(COMMAND)
                .arg(&self.stream)
                .arg(self.group)
                .arg(from.to_string())
                .arg(to.to_string())
                .arg(PAGE_ENTRIES_MAX)
                .query_async(connection)
                .await;
            let page = match page {
                Err(error) if error.code() == Some("NOGROUP") => return Ok(pending),
                page => page?,
            };
            let mut last = None;
            for row in &page {
                let id = reply::id(COMMAND, row.first().unwrap_or(&Value::Nil))?;
                last = Some(id);
                pending.insert(id);
            }
            match last {
                Some(last) if page.len() == PAGE_ENTRIES_MAX && last < to => match last.successor() {
                    Some(next) => from = next,
                    None => return Ok(pending),
                },
                _ => return Ok(pending),
            }
        }
    }
}
