//! `orderstream dead groups`: letters that died of the same thing, counted together.

use std::collections::HashMap;

use anyhow::Result;
use chrono::{DateTime, Utc};
use pipeline::{
    message::EntryId,
    streams::{DeadLetter, Direction, LetterId},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Desk, selection::Selection, shown};
use crate::{
    cli::dead::GroupsArgs,
    commands::orders::time,
    config::Globals,
    exit::Exit,
    output::{self, cut, thousands},
};

/// Letters that are looked at.
const LETTERS_MAX: u64 = 20_000;

/// Bytes of letters that are looked at.
const BYTES_MAX: usize = 32 << 20;

/// Groups that are told apart; texts from anybody may make any number of them.
const GROUPS_MAX: usize = 200;

/// Most characters of what the errors of a group have in common.
const PATTERN_CHARS_MAX: usize = 300;

/// Letters that died at the same stage for the same reason, with errors that differ in numbers and names only.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    /// Its name for filters: the same letters have the same one everywhere.
    pub(crate) group: String,
    /// Null in entries that no worker wrote.
    pub(crate) stage: Option<String>,
    /// Null in entries that no worker wrote.
    pub(crate) reason: Option<String>,
    /// What their errors have in common; `#` stands for what has digits, `"…"` for what is quoted.
    pub(crate) error: String,
    /// How many letters.
    pub(crate) count: u64,
    /// Of those, replayed.
    pub(crate) replayed: u64,
    /// Of those, not replayed: what is left to do.
    pub(crate) waiting: u64,
    /// Letters whose message was replayed before and died again.
    pub(crate) came_back: u64,
    /// When the last one died.
    pub(crate) newest: Option<DateTime<Utc>>,
    /// When the first one died.
    pub(crate) oldest: Option<DateTime<Utc>>,
    /// The newest of them.
    pub(crate) example: LetterId,
}

/// All groups, those with the most letters first.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
    /// Letters in groups beyond those that are told apart.
    pub(crate) others: u64,
    /// How many letters were looked at, from the newest on: what is said is said of these.
    pub(crate) of: u64,
    /// How many letters there are.
    pub(crate) total: u64,
    /// The newest of them: what dies later comes after it.
    pub(crate) up_to: Option<EntryId>,
}

/// The group of a letter.
pub(crate) fn group_of(letter: &DeadLetter) -> String {
    let mut hash = Sha256::new();
    for part in [letter.our("stage"), letter.reason(), Some(&*pattern(letter.our("error").unwrap_or_default()))] {
        let part = part.unwrap_or_default();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// An error without what differs from letter to letter: words with a digit, and what is quoted.
pub(crate) fn pattern(error: &str) -> String {
    let mut pattern = String::new();
    let mut rest = error;
    while let Some(first) = rest.chars().next() {
        if pattern.len() > PATTERN_CHARS_MAX * 4 {
            break;
        }
        let is_word = |character: char| character.is_alphanumeric() || "_-.:/".contains(character);
        if matches!(first, '"' | '`' | '\'') {
            // Up to the other quote. An apostrophe has none, or follows a letter.
            let after = &rest[1..];
            let follows_word = pattern.chars().next_back().is_some_and(char::is_alphanumeric);
            if !follows_word && let Some(end) = closing(after, first) {
                pattern.push_str("\"…\"");
                rest = &after[end + 1..];
                continue;
            }
        }
        if is_word(first) {
            let end = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            match word.contains(|character: char| character.is_ascii_digit()) {
                true => pattern.push('#'),
                false => pattern.push_str(word),
            }
            rest = tail;
            continue;
        }
        pattern.push(first);
        rest = &rest[first.len_utf8()..];
    }
    cut(&pattern, PATTERN_CHARS_MAX)
}

/// Where the other quote is; one behind a backslash is none.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return Some(at),
            _ => {}
        }
    }
    None
}

/// Counts the letters that match, from the newest on, as many as there are up to a bound: a look, not an account.
pub(crate) async fn groups(desk: &mut Desk, which: crate::cli::dead::Which) -> Result<Groups> {
    let mut selection = Selection::new(desk, which, Direction::NewestFirst, None).await?;
    let mut found = Groups { total: selection.total, up_to: selection.up_to, ..Groups::default() };
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut bytes = 0;
    while selection.seen < LETTERS_MAX
        && bytes < BYTES_MAX
        && let Some(page) = selection.next_page(desk).await?
    {
        for letter in page {
            bytes += letter.bytes();
            let name = group_of(&letter);
            let at = match known.get(&name) {
                Some(at) => *at,
                None if found.groups.len() == GROUPS_MAX => {
                    found.others += 1;
                    continue;
                }
                None => {
                    known.insert(name.clone(), found.groups.len());
                    found.groups.push(Group::of(name, &letter));
                    found.groups.len() - 1
                }
            };
            found.groups[at].add(&letter);
        }
    }
    found.of = selection.seen;
    found.groups.sort_by_key(|group| std::cmp::Reverse((group.waiting, group.count)));
    Ok(found)
}

impl Group {
    fn of(group: String, letter: &DeadLetter) -> Self {
        Self {
            group,
            stage: letter.our("stage").map(str::to_owned),
            reason: letter.reason().map(str::to_owned),
            error: pattern(letter.our("error").unwrap_or_default()),
            count: 0,
            replayed: 0,
            waiting: 0,
            came_back: 0,
            newest: None,
            oldest: None,
            example: letter.id,
        }
    }

    fn add(&mut self, letter: &DeadLetter) {
        self.count += 1;
        match letter.replayed {
            Some(_) => self.replayed += 1,
            None => self.waiting += 1,
        }
        self.came_back += u64::from(letter.replays() > 0);
        self.newest = self.newest.max(letter.died_at());
        self.oldest = match (self.oldest, letter.died_at()) {
            (Some(oldest), Some(at)) => Some(oldest.min(at)),
            (oldest, at) => oldest.or(at),
        };
    }
}

pub(super) async fn run(desk: &mut Desk, args: GroupsArgs, globals: &Globals) -> Result<Exit> {
    let found = groups(desk, args.which).await?;
    if globals.json {
        output::json(&found)?;
        return Ok(Exit::Done);
    }
    if found.groups.is_empty() {
        crate::output::note!("no dead letters match");
        return Ok(Exit::Done);
    }
    let rows = found.groups.iter().map(|group| {
        let word = |word: &Option<String>| word.as_deref().map_or_else(|| "-".to_owned(), shown);
        vec![
            thousands(group.count),
            thousands(group.waiting),
            thousands(group.came_back),
            word(&group.stage),
            word(&group.reason),
            group.newest.map_or_else(|| "-".to_owned(), time),
            group.group.clone(),
            shown(&group.error),
        ]
    });
    output::table(
        &["LETTERS", "NOT REPLAYED", "CAME BACK", "STAGE", "REASON", "NEWEST", "GROUP", "ERROR"],
        &[0, 1, 2],
        rows.collect(),
    )?;
    if found.others > 0 {
        crate::output::note!("{} more letters are in further groups", thousands(found.others));
    }
    if found.of < found.total {
        crate::output::note!("the newest {} of {} letters were looked at", thousands(found.of), thousands(found.total));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_and_names_are_alike() {
        for (error, expected) in [
            ("EOF while parsing at line 1 column 32", "EOF while parsing at line # column #"),
            (r#"unit_price "0.001" has more than two places"#, r#"unit_price "…" has more than two places"#),
            ("order ORD-17 (id 4711) is unknown", "order # (id #) is unknown"),
            (r#"key "a\"b" and 'c' and `d`"#, r#"key "…" and "…" and "…""#),
            ("the worker didn't answer", "the worker didn't answer"),
            ("a lonely \" quote", "a lonely \" quote"),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", "#"),
            ("äöü 1", "äöü #"),
            ("", ""),
        ] {
            assert_eq!(pattern(error), expected);
        }
    }

    #[test]
    fn a_pattern_is_short_whatever_the_error() {
        assert!(pattern(&"x y ".repeat(100_000)).chars().count() <= PATTERN_CHARS_MAX + 1);
        assert!(pattern(&"\"".repeat(100_001)).chars().count() <= PATTERN_CHARS_MAX + 1);
    }
}
