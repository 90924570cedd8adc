//! Colours and marks. A colour only ever repeats what a word or a mark says.

use ratatui::style::{Color, Modifier, Style};

use crate::monitor::{StageState, State};

/// How text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    coloured: bool,
}

impl Palette {
    /// Without colours if `NO_COLOR` is set: see no-color.org.
    pub(super) fn of_environment() -> Self {
        Self { coloured: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self { coloured: false }
    }

    fn tone(self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of something that is well.
    pub(super) fn good(self) -> Style {
        self.tone(Color::Green)
    }

    /// Of something that somebody should look at.
    pub(super) fn warning(self) -> Style {
        self.tone(Color::Yellow)
    }

    /// Of something that somebody should look at now.
    pub(super) fn trouble(self) -> Style {
        self.tone(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Of the word for all.
    pub(super) fn state(self, state: State) -> Style {
        match state {
            State::Calm | State::Busy => self.good(),
            State::Warning | State::Unknown => self.warning(),
            State::Trouble => self.trouble(),
        }
    }

    /// Of the word for a stage.
    pub(super) fn stage(self, state: StageState) -> Style {
        match state {
            StageState::Idle => dim(),
            StageState::KeepingUp => self.good(),
            StageState::Behind | StageState::Paused | StageState::Unknown => self.warning(),
            StageState::NoWorker => self.trouble(),
        }
    }
}

/// Of what is there for those who look for it.
pub(super) fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

/// Of what names something.
pub(super) fn strong() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Of what is chosen, and of banners.
pub(super) fn reversed() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

/// The mark beside the word for all.
pub(super) fn mark(state: State) -> &'static str {
    match state {
        State::Calm => "✓",
        State::Busy => "▶",
        State::Warning => "!",
        State::Trouble => "✖",
        State::Unknown => "?",
    }
}
