//! The newest dead letters, grouped.

use ratatui::text::{Line, Span};

use super::shortened;
use crate::{
    commands::top::{
        palette::{dim, reversed, strong},
        view::{Letter, Row, View},
    },
    output::{cut, thousands},
};

/// Characters of an order's code.
const ORDER_CHARS: usize = 24;

/// A title, and as many lines as there is room for, the chosen one among them.
pub(super) fn lines(view: &View, width: usize, room: usize) -> Vec<Line<'static>> {
    let rows = view.rows();
    let count = view.shown.dead_letters.count;
    let listed = view.letters.len();
    let of = match (listed as u64) < count {
        true => format!("the newest {} of {}", thousands(listed as u64), thousands(count)),
        false => thousands(listed as u64),
    };
    let filter = match view.filter.is_empty() {
        true => String::new(),
        false => format!(", only what contains {:?}: Esc shows all", view.filter),
    };
    let undecided = match view.shown.dead_letters.undecided {
        undecided if undecided < count => format!(", {} to decide about", thousands(undecided)),
        _ => String::new(),
    };
    let title = shortened(&format!("Dead letters: {of}{undecided}{filter}"), width);
    let mut lines = vec![Line::styled(title, strong())];
    if rows.is_empty() {
        let text = match (view.letters.loading, listed) {
            (true, 0) => "  Reading …",
            (false, 0) => "  There are none.",
            _ => "  None matches.",
        };
        lines.push(Line::raw(text));
        return lines;
    }
    let cursor = view.letters.cursor(rows.len());
    let room = room.saturating_sub(lines.len()).max(1);
    // The chosen line stays on the screen.
    let first = cursor.saturating_sub(room - 1);
    for (at, row) in rows.iter().enumerate().skip(first).take(room) {
        let mark = if at == cursor { "▸ " } else { "  " };
        let (text, style) = match row {
            Row::Group(group) => {
                let turned = if group.open { "▾" } else { "▹" };
                let letters = if group.letters.len() == 1 { "letter" } else { "letters" };
                let count = thousands(group.letters.len() as u64);
                (format!("{turned} {}: {count} {letters}", group.words()), strong())
            }
            Row::Letter(letter) => {
                (format!("    {}", told(letter)), if letter.replayed { dim() } else { Default::default() })
            }
        };
        let style = if at == cursor { style.patch(reversed()) } else { style };
        lines.push(Line::from(vec![Span::raw(mark), Span::styled(shortened(&text, width.saturating_sub(2)), style)]));
    }
    lines
}

fn told(letter: &Letter) -> String {
    let died = letter.died_at.map_or_else(|| "–".to_owned(), |at| at.format("%m-%d %H:%M:%S").to_string());
    let order = cut(letter.order.as_deref().unwrap_or("–"), ORDER_CHARS);
    let replayed = if letter.replayed { "replayed  " } else { "" };
    let error = letter.error.as_deref().unwrap_or_default();
    format!("{:20} {died}  {order:ORDER_CHARS$}  {replayed}{error}", letter.id.to_string())
}
