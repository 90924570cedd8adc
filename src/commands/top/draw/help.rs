//! What keys do, and what columns mean.

use ratatui::text::{Line, Span};

use super::wrapped;
use crate::commands::top::palette::strong;

/// Columns of the keys.
const KEY: usize = 14;

const HELP: &[(&str, &str)] = &[
    ("↑ ↓  k j", "choose a stage, or a letter; PgUp PgDn Home End"),
    ("p", "pause the chosen stage, or resume it: asks for a reason first"),
    ("d", "dead letters: the newest, grouped by stage and reason; Enter opens a group"),
    ("r", "replay the chosen letter, or all of the chosen group: says how many first"),
    ("/", "show only what contains a text; Esc shows all"),
    ("1  2  5", "seconds between two pictures"),
    ("space", "freeze the picture, or go on"),
    ("q  Ctrl-C", "quit"),
    ("", ""),
    ("LAG", "messages that nobody has read; unknown where Redis cannot tell"),
    ("SECONDS", "age of the oldest of them"),
    ("TREND", "▲ grows by so many a second, ▼ when it is done at this rate, – neither, ? unknown"),
    ("PENDING", "messages in hand; OLDEST: age of the oldest, read or not"),
    ("LAG, 5 MIN", "▁ nothing, · unknown"),
    ("", ""),
    ("", "Any key goes back."),
];

/// The page.
pub(super) fn lines(width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (key, what) in HELP {
        for (at, what) in wrapped(what, width.saturating_sub(KEY)).into_iter().enumerate() {
            let key = if at == 0 { *key } else { "" };
            let gap = " ".repeat(KEY.saturating_sub(Span::raw(key).width()));
            lines.push(Line::from(vec![Span::styled(key, strong()), Span::raw(gap), Span::raw(what)]));
        }
    }
    lines
}
