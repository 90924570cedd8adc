//! The letters that a command is about.

use anyhow::Result;
use chrono::{DateTime, Utc};
use pipeline::{
    message::EntryId,
    streams::{DeadLetter, Direction, LetterId, LetterWalk},
};

use super::{Desk, groups::group_of};
use crate::cli::dead::{Which, YesNo};

/// Letters that are fetched by their ids at once.
const IDS_PAGE: usize = 16;

/// A way through the letters that match, page by page. A clone goes the same way again, past the same letters: those
/// that died since are not on it.
#[derive(Clone)]
pub(crate) struct Selection {
    which: Which,
    now: DateTime<Utc>,
    from: From,
    /// Ids that are no letters.
    pub(super) missing: Vec<LetterId>,
    /// Letters looked at, whether they match or not.
    pub(super) seen: u64,
    /// Letters to look at.
    pub(super) total: u64,
    /// The last letter of the pages so far, whether it matched or not; `None` where ids were named.
    pub(super) looked_to: Option<LetterId>,
    /// The newest letter on the way, in whatever partition: what dies meanwhile comes after it.
    pub(super) up_to: Option<EntryId>,
}

#[derive(Clone)]
enum From {
    /// The rest of the ids.
    Ids(std::vec::IntoIter<LetterId>),
    /// The rest of the walks, one per partition.
    Walks(std::iter::Peekable<std::vec::IntoIter<LetterWalk>>),
}

impl Selection {
    /// Starts at the letter after `after`, in this direction.
    pub(crate) async fn new(
        desk: &mut Desk,
        mut which: Which,
        direction: Direction,
        after: Option<LetterId>,
    ) -> Result<Self> {
        let now_ms = desk.redis.now_ms(&mut desk.connection).await?;
        let now = i64::try_from(now_ms).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_else(Utc::now);
        let (mut total, mut up_to) = (0, None);
        let from = if which.ids.is_empty() {
            let mut walks = Vec::new();
            for partition in after.map_or(0, |after| after.partition)..desk.partitions {
                let beyond = after.filter(|after| after.partition == partition).map(|after| after.entry);
                total += desk.redis.dead_letters(&mut desk.connection, partition).await?;
                let mut walk = desk.redis.walk_dead_letters(&mut desk.connection, partition, direction, beyond).await?;
                if let Some(newest) = which.up_to {
                    walk.leave_out_after(newest);
                }
                up_to = up_to.max(walk.newest());
                walks.push(walk);
            }
            From::Walks(walks.into_iter().peekable())
        } else {
            let mut ids = std::mem::take(&mut which.ids);
            let mut seen = std::collections::HashSet::new();
            ids.retain(|id| seen.insert(*id));
            total = ids.len() as u64;
            From::Ids(ids.into_iter())
        };
        let up_to = which.up_to.or(up_to);
        Ok(Self { which, now, from, missing: Vec::new(), seen: 0, total, looked_to: None, up_to })
    }

    /// The next letters that match, or `None` when there are no more. A page may be empty.
    pub(crate) async fn next_page(&mut self, desk: &mut Desk) -> Result<Option<Vec<DeadLetter>>> {
        let mut page = Vec::new();
        match &mut self.from {
            From::Ids(ids) => {
                let some: Vec<LetterId> = ids.by_ref().take(IDS_PAGE).collect();
                if some.is_empty() {
                    return Ok(None);
                }
                for id in some {
                    let known = id.partition < desk.partitions;
                    let letter = match known {
                        true => desk.redis.dead_letter(&mut desk.connection, id).await?,
                        false => None,
                    };
                    match letter {
                        Some(letter) => page.push(letter),
                        None => self.missing.push(id),
                    }
                }
            }
            From::Walks(walks) => loop {
                let Some(walk) = walks.peek_mut() else { return Ok(None) };
                if let Some(letters) = walk.next_page(&desk.redis, &mut desk.connection).await? {
                    self.looked_to = letters.last().map(|letter| letter.id).or(self.looked_to);
                    page = letters;
                    break;
                }
                walks.next();
            },
        }
        self.seen += page.len() as u64;
        page.retain(|letter| matches(&self.which, self.now, letter));
        Ok(Some(page))
    }

    /// Names the ids that are no letters.
    pub(super) fn report_missing(&self) {
        for id in &self.missing {
            crate::output::note!("error: there is no dead letter {id}");
        }
    }
}

fn matches(which: &Which, now: DateTime<Utc>, letter: &DeadLetter) -> bool {
    // All but the ids, which were looked up, and the end of the way, which is not passed.
    let Which { ids: _, stage, reason, order, group, older_than, newer_than, replayed, up_to: _ } = which;
    let age = letter.died_at().map(|at| now - at);
    stage.is_none_or(|stage| letter.stage() == Some(stage))
        && reason.is_none_or(|reason| letter.reason() == Some(reason.as_str()))
        && older_than.is_none_or(|least| age.is_some_and(|age| age > least))
        && newer_than.is_none_or(|most| age.is_some_and(|age| age < most))
        && replayed.is_none_or(|replayed| letter.replayed.is_some() == (replayed == YesNo::Yes))
        && order.as_ref().is_none_or(|order| letter.order_code().as_ref() == Some(order))
        && group.as_ref().is_none_or(|group| group_of(letter) == *group)
}
