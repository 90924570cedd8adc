//! The newest dead letters, grouped by who gave them up and why.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use pipeline::streams::LetterId;

use crate::{
    cli::dead::{Which, YesNo},
    commands::top::deeds::Choice,
};

/// A dead letter, as far as it is shown. Whoever wrote the message may have written anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Letter {
    pub(in super::super) id: LetterId,
    pub(in super::super) stage: Option<String>,
    pub(in super::super) reason: Option<String>,
    pub(in super::super) order: Option<String>,
    pub(in super::super) error: Option<String>,
    pub(in super::super) died_at: Option<DateTime<Utc>>,
    pub(in super::super) replayed: bool,
}

/// Stage and reason; `None` in letters that no worker wrote.
type Key = (Option<String>, Option<String>);

/// Letters with the same stage and reason.
#[derive(Debug)]
pub(in super::super) struct Group<'a> {
    key: Key,
    pub(in super::super) open: bool,
    pub(in super::super) letters: Vec<&'a Letter>,
}

impl Group<'_> {
    /// Its name.
    pub(in super::super) fn words(&self) -> String {
        let (stage, reason) = &self.key;
        format!("{}, {}", stage.as_deref().unwrap_or("no stage"), reason.as_deref().unwrap_or("no reason"))
    }
}

/// A line of the list.
#[derive(Debug)]
pub(in super::super) enum Row<'a> {
    Group(Group<'a>),
    Letter(&'a Letter),
}

/// The list.
#[derive(Debug, Default)]
pub(in super::super) struct Letters {
    /// The newest first.
    list: Vec<Letter>,
    /// Whether a new list is on its way.
    pub(in super::super) loading: bool,
    /// How many there were when it was asked for, and how many of them undecided.
    pub(in super::super) count: Option<(u64, u64)>,
    /// Groups whose letters are shown.
    open: BTreeSet<Key>,
    cursor: usize,
}

impl Letters {
    /// A new list.
    pub(super) fn fill(&mut self, list: Vec<Letter>) {
        self.list = list;
    }

    /// How many are in the list.
    pub(in super::super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The groups whose name, or the letters in which something contains the filter: that with the newest letter first.
    fn groups(&self, filter: &str) -> Vec<Group<'_>> {
        let filter = filter.to_lowercase();
        let contains = |text: &Option<String>| text.as_ref().is_some_and(|text| text.to_lowercase().contains(&filter));
        let mut groups: Vec<Group<'_>> = Vec::new();
        let mut places = BTreeMap::new();
        for letter in &self.list {
            let matches = filter.is_empty()
                || [&letter.stage, &letter.reason, &letter.order, &letter.error].into_iter().any(contains)
                || letter.id.to_string().contains(&filter);
            if !matches {
                continue;
            }
            let key = (letter.stage.clone(), letter.reason.clone());
            let place = *places.entry(key.clone()).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Group { open: self.open.contains(&key), key, letters: Vec::new() });
            }
            groups[place].letters.push(letter);
        }
        groups
    }

    /// The lines.
    pub(super) fn rows(&self, filter: &str) -> Vec<Row<'_>> {
        let rows = self.groups(filter).into_iter().flat_map(|group| {
            let letters = if group.open { group.letters.clone() } else { Vec::new() };
            std::iter::once(Row::Group(group)).chain(letters.into_iter().map(Row::Letter))
        });
        rows.collect()
    }

    /// The line that keys are about.
    pub(in super::super) fn cursor(&self, rows: usize) -> usize {
        self.cursor.min(rows.saturating_sub(1))
    }

    pub(super) fn step(&mut self, by: isize, filter: &str) {
        let rows = self.rows(filter).len();
        self.cursor = self.cursor(rows).saturating_add_signed(by).min(rows.saturating_sub(1));
    }

    /// Opens the group, or closes the one that the line is in.
    pub(super) fn turn(&mut self, filter: &str) {
        let rows = self.rows(filter);
        let cursor = self.cursor(rows.len());
        let upward = rows.iter().enumerate().take(cursor + 1).rev();
        let group = upward.into_iter().find_map(|(at, row)| match row {
            Row::Group(group) => Some((at, group.key.clone())),
            Row::Letter(_) => None,
        });
        let Some((at, key)) = group else { return };
        self.cursor = at;
        if !self.open.remove(&key) {
            self.open.insert(key);
        }
    }

    /// What a replay of the chosen line is about. A group is meant with all its letters, also those that are not in the
    /// list; with a filter, only those that are shown.
    pub(super) fn choice(&self, filter: &str) -> Option<Choice> {
        let rows = self.rows(filter);
        match rows.get(self.cursor(rows.len()))? {
            Row::Letter(letter) => Some(Choice {
                which: Which { ids: vec![letter.id], ..Which::default() },
                words: format!("letter {}", letter.id),
            }),
            Row::Group(group) => {
                let stage = group.key.0.as_deref().and_then(|stage| stage.parse().ok());
                let reason = group.key.1.as_deref().and_then(|reason| reason.parse().ok());
                let which = match (stage, reason) {
                    (Some(stage), Some(reason)) if filter.is_empty() => Which {
                        stage: Some(stage),
                        reason: Some(reason),
                        replayed: Some(YesNo::No),
                        ..Which::default()
                    },
                    _ => Which { ids: group.letters.iter().map(|letter| letter.id).collect(), ..Which::default() },
                };
                Some(Choice { which, words: group.words() })
            }
        }
    }
}
