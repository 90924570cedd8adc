//! What is asked in the last line.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use pipeline::topology::StageName;

use crate::{commands::top::deeds::Choice, output::thousands};

/// Most characters that are taken.
const INPUT_CHARS_MAX: usize = 200;

/// A question that keys answer.
#[derive(Debug)]
pub(in super::super) enum Prompt {
    /// Why a stage is paused or resumed.
    Reason { stage: StageName, resume: bool, why: String },
    /// What rows must contain; `before` is for those who think better of it.
    Filter { before: String },
    /// Whether so many letters are to be replayed.
    Confirm {
        choice: Choice,
        count: u64,
        /// What would happen to the others; empty without any.
        otherwise: String,
    },
}

impl Prompt {
    /// The question, and which keys answer it.
    pub(in super::super) fn words(&self) -> (String, &'static str) {
        match self {
            Self::Reason { stage, resume: false, .. } => (format!("Why pause {stage}?"), "Enter pauses, Esc cancels"),
            Self::Reason { stage, resume: true, .. } => (format!("Why resume {stage}?"), "Enter resumes, Esc cancels"),
            Self::Filter { .. } => ("Filter:".to_owned(), "Enter keeps, Esc cancels"),
            Self::Confirm { choice, count, otherwise } => {
                let letters = if *count == 1 { "letter" } else { "letters" };
                let text = format!("Replay {} {letters}, {}{otherwise}?", thousands(*count), choice.words);
                (text, "y replays, Esc cancels")
            }
        }
    }
}

/// Does to a text what the key says.
pub(super) fn edit(text: &mut String, key: KeyEvent) {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::Char('u') if control => text.clear(),
        KeyCode::Char('w') if control => {
            let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
            text.truncate(kept);
        }
        KeyCode::Char(character) if !control && text.chars().count() < INPUT_CHARS_MAX => text.push(character),
        _ => {}
    }
}
