//! What is shown and chosen, and what a key does. Does nothing itself: what is to be done, it wishes.

mod letters;
mod prompt;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use pipeline::topology::StageName;

pub(super) use self::{
    letters::{Letter, Letters, Row},
    prompt::Prompt,
};
use super::{
    deeds::{Deed, Report},
    palette::Palette,
};
use crate::{
    monitor::{Snapshot, StageView},
    output::thousands,
};

/// A look at the servers takes a second, and may take three: figures that are older than this are told to be old.
const OLD: Duration = Duration::from_secs(6);

/// Rows that a page up or down skips.
const PAGE_ROWS: usize = 10;

/// Seconds between two pictures, as keys choose them.
const RATES: [char; 3] = ['1', '2', '5'];

/// Where the figures come from, for people.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) environment: Option<String>,
    pub(super) namespace: String,
}

/// Which list fills the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Stages,
    Letters,
}

/// What somebody wants that the view cannot do.
#[derive(Debug)]
pub(super) enum Wish {
    /// To leave.
    Quit,
    /// Something that servers are needed for.
    Do(Deed),
    /// That what is being done comes to its end.
    Stop,
}

/// What became of the last thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) well: bool,
}

/// What the screen shows.
pub(super) struct View {
    pub(super) place: Place,
    pub(super) palette: Palette,
    /// What is on the screen: the newest snapshot, unless it is frozen or a slower rate was chosen.
    pub(super) shown: Arc<Snapshot>,
    latest: Arc<Snapshot>,
    /// When the look that is shown came to its end, and the newest one, by our clock.
    looked: [Option<Instant>; 2],
    picture_at: Option<Instant>,
    /// How old what is shown is; `None` before the first look.
    pub(super) age: Option<Duration>,
    latest_age: Option<Duration>,
    /// Seconds between two pictures.
    pub(super) every: u64,
    pub(super) frozen: bool,
    pub(super) page: Page,
    selected: StageName,
    pub(super) letters: Letters,
    pub(super) filter: String,
    pub(super) prompt: Option<Prompt>,
    pub(super) help: bool,
    pub(super) notice: Option<Notice>,
    /// What is being done.
    pub(super) busy: Option<String>,
}

impl View {
    /// Before the first snapshot.
    pub(super) fn new(place: Place, palette: Palette) -> Self {
        let nothing = Arc::new(Snapshot::nothing_yet());
        Self {
            place,
            palette,
            shown: Arc::clone(&nothing),
            latest: nothing,
            looked: [None; 2],
            picture_at: None,
            age: None,
            latest_age: None,
            every: 1,
            frozen: false,
            page: Page::Stages,
            selected: StageName::ALL[0],
            letters: Letters::default(),
            filter: String::new(),
            prompt: None,
            help: false,
            notice: None,
            busy: None,
        }
    }

    /// A new snapshot is there.
    pub(super) fn receive(&mut self, latest: Arc<Snapshot>, now: Instant) -> Option<Wish> {
        if latest.seq != self.latest.seq {
            self.looked[1] = Some(now);
        }
        self.latest = latest;
        // Pictures come with the looks, which are not exactly a second apart.
        let due = Duration::from_millis(self.every * 1_000 - 500);
        let is_due = self.picture_at.is_none_or(|at| now.duration_since(at) >= due);
        let is_news = self.latest.stale.is_some() != self.shown.stale.is_some() || self.shown.seq == 0;
        if self.frozen || !(is_due || is_news) {
            return None;
        }
        self.show_latest(now);
        self.list_if_changed()
    }

    fn show_latest(&mut self, now: Instant) {
        self.shown = Arc::clone(&self.latest);
        self.looked[0] = self.looked[1];
        self.picture_at = Some(now);
        self.grow_older(now);
    }

    /// Letters died, or went.
    fn list_if_changed(&mut self) -> Option<Wish> {
        let count = self.counts();
        let changed = self.page == Page::Letters && !self.letters.loading && self.letters.count != Some(count);
        changed.then(|| self.list())
    }

    /// How many letters are kept, and how many of them are undecided.
    fn counts(&self) -> (u64, u64) {
        (self.shown.dead_letters.count, self.shown.dead_letters.undecided)
    }

    fn list(&mut self) -> Wish {
        self.letters.loading = true;
        self.letters.count = Some(self.counts());
        Wish::Do(Deed::List)
    }

    /// Time passes, whether there are snapshots or not.
    pub(super) fn grow_older(&mut self, now: Instant) {
        [self.age, self.latest_age] = self.looked.map(|looked| Some(now.duration_since(looked?)));
    }

    /// Whether even the newest figures are too old to go by.
    pub(super) fn is_stale(&self) -> bool {
        self.latest.stale.is_some() || self.latest_age.is_some_and(|age| age > OLD)
    }

    /// The stages that the filter lets through.
    pub(super) fn stages(&self) -> Vec<&StageView> {
        let filter = if self.page == Page::Stages { self.filter.to_lowercase() } else { String::new() };
        let matches = |stage: &&StageView| {
            [stage.stage.as_str(), stage.stream, stage.state.as_str()].iter().any(|text| text.contains(&filter))
        };
        self.shown.stages.iter().filter(matches).collect()
    }

    /// The stage that keys are about.
    pub(super) fn selected_stage(&self) -> Option<&StageView> {
        let stages = self.stages();
        stages.iter().find(|stage| stage.stage == self.selected).or(stages.first()).copied()
    }

    /// The rows of letters that the filter lets through.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        self.letters.rows(&self.filter)
    }

    /// Somebody pressed a key.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Wish> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Wish::Quit);
        }
        self.notice = None;
        if let Some(prompt) = self.prompt.take() {
            return self.answer(prompt, key);
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?') => self.help = true,
            KeyCode::Esc if self.busy.is_some() => return Some(Wish::Stop),
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => self.turn_to(Page::Stages),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-(PAGE_ROWS.cast_signed())),
            KeyCode::PageDown => self.step(PAGE_ROWS.cast_signed()),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char(rate) if RATES.contains(&rate) => {
                self.every = u64::from(rate.to_digit(10).unwrap_or(1));
            }
            KeyCode::Char(' ') => {
                self.frozen = !self.frozen;
                if !self.frozen {
                    self.show_latest(Instant::now());
                    return self.list_if_changed();
                }
            }
            KeyCode::Char('/') => self.prompt = Some(Prompt::Filter { before: self.filter.clone() }),
            KeyCode::Char('d') if self.page == Page::Letters => self.turn_to(Page::Stages),
            KeyCode::Char('d') => {
                self.turn_to(Page::Letters);
                return Some(self.list());
            }
            KeyCode::Char('p') if self.page == Page::Stages => self.ask_for_reason(),
            KeyCode::Char('r') if self.page == Page::Letters => return self.count(),
            KeyCode::Enter | KeyCode::Left | KeyCode::Right if self.page == Page::Letters => {
                self.letters.turn(&self.filter);
            }
            _ => {}
        }
        None
    }

    fn turn_to(&mut self, page: Page) {
        if self.page != page {
            self.filter.clear();
        }
        self.page = page;
    }

    /// Chooses another row, so many further down.
    fn step(&mut self, by: isize) {
        match self.page {
            Page::Letters => self.letters.step(by, &self.filter),
            Page::Stages => {
                let stages: Vec<StageName> = self.stages().iter().map(|stage| stage.stage).collect();
                let at = stages.iter().position(|stage| *stage == self.selected).unwrap_or(0);
                let last = stages.len().saturating_sub(1);
                if let Some(stage) = stages.get(at.saturating_add_signed(by).min(last)) {
                    self.selected = *stage;
                }
            }
        }
    }

    fn is_free(&mut self) -> bool {
        if let Some(busy) = &self.busy {
            self.notice = Some(Notice { text: format!("Wait: {busy} (Esc stops it)."), well: false });
        }
        self.busy.is_none()
    }

    fn ask_for_reason(&mut self) {
        if !self.is_free() {
            return;
        }
        if let Some(stage) = self.selected_stage() {
            self.prompt =
                Some(Prompt::Reason { stage: stage.stage, resume: stage.paused.is_some(), why: String::new() });
        }
    }

    /// Before letters are replayed, it is told how many.
    fn count(&mut self) -> Option<Wish> {
        if !self.is_free() {
            return None;
        }
        let choice = self.letters.choice(&self.filter)?;
        self.busy = Some(format!("counting {}", choice.words));
        Some(Wish::Do(Deed::Count(choice)))
    }

    fn answer(&mut self, mut prompt: Prompt, key: KeyEvent) -> Option<Wish> {
        if key.code == KeyCode::Esc {
            if let Prompt::Filter { before } = prompt {
                self.filter = before;
            }
            return None;
        }
        match (&mut prompt, key.code) {
            (Prompt::Confirm { .. }, KeyCode::Char('n' | 'N')) | (Prompt::Filter { .. }, KeyCode::Enter) => {
                return None;
            }
            (Prompt::Confirm { choice, count, .. }, KeyCode::Char('y' | 'Y')) => {
                self.busy = Some(format!("replaying {} letters", thousands(*count)));
                return Some(Wish::Do(Deed::Replay(choice.clone())));
            }
            (Prompt::Reason { stage, resume, why }, KeyCode::Enter) => {
                let (stage, why) = (*stage, why.trim().to_owned());
                self.busy = Some(format!("{} {stage}", if *resume { "resuming" } else { "pausing" }));
                let deed = if *resume { Deed::Resume { stage, why } } else { Deed::Pause { stage, why } };
                return Some(Wish::Do(deed));
            }
            (Prompt::Reason { why, .. }, _) => prompt::edit(why, key),
            (Prompt::Filter { .. }, _) => prompt::edit(&mut self.filter, key),
            (Prompt::Confirm { .. }, _) => {}
        }
        self.prompt = Some(prompt);
        None
    }

    /// What was wished is done.
    pub(super) fn learn(&mut self, report: Report) -> Option<Wish> {
        match report {
            Report::Letters(listed) => {
                self.letters.loading = false;
                match listed {
                    Ok(letters) => self.letters.fill(letters),
                    Err(text) => self.notice = Some(Notice { text, well: false }),
                }
                return None;
            }
            // Who writes something else now must not say yes by it.
            Report::Counted { .. } if self.prompt.is_some() || self.help || self.page != Page::Letters => {
                let text = "Counted, but not asked: press r again.".to_owned();
                self.notice = Some(Notice { text, well: false });
            }
            Report::Counted { choice, count, otherwise } if count > 0 => {
                self.prompt = Some(Prompt::Confirm { choice, count, otherwise });
            }
            Report::Counted { choice, otherwise, .. } => {
                let text = format!("There is nothing to replay in {}{otherwise}.", choice.words);
                self.notice = Some(Notice { text, well: false });
            }
            Report::Done { text, well } => self.notice = Some(Notice { text, well }),
        }
        self.busy = None;
        (self.page == Page::Letters && self.prompt.is_none() && !self.letters.loading).then(|| self.list())
    }
}
