//! The screen, line by line: what is most urgent at the top, and left out last where there is little room.

mod foot;
mod head;
mod help;
mod letters;
mod stages;
#[cfg(test)]
mod tests;

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    palette::{dim, reversed, strong},
    view::{Page, Prompt, View},
};
use crate::output::{acts, cut};

/// Below this there is no room for a table.
const WIDTH_MIN: u16 = 40;
/// See [`WIDTH_MIN`].
const HEIGHT_MIN: u16 = 10;

/// Draws everything.
pub(super) fn screen(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    if area.width < WIDTH_MIN || area.height < HEIGHT_MIN {
        frame.render_widget(Paragraph::new(format!("{WIDTH_MIN}×{HEIGHT_MIN} is needed")), area);
        return;
    }
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    // The last line is that of keys and questions, the one above tells what was done.
    let room = height - 2;
    let (lines, banner) = if view.help { (help::lines(width), None) } else { page(view, width, room) };
    let body = Rect { height: area.height - 2, ..area };
    frame.render_widget(Paragraph::new(lines), body);
    if !view.help && view.is_stale() {
        frame.buffer_mut().set_style(body, Style::new().fg(Color::Reset).bg(Color::Reset).add_modifier(Modifier::DIM));
    }
    if let Some(banner) = banner {
        let line = Rect { y: area.y + 1, height: 1, ..area };
        frame.render_widget(Paragraph::new(banner), line);
        frame.buffer_mut().set_style(line, Style::new().remove_modifier(Modifier::DIM));
    }
    let last = Rect { y: area.bottom() - 2, height: 1, ..area };
    frame.render_widget(Paragraph::new(notice(view, width)), last);
    last_line(frame, view, Rect { y: area.bottom() - 1, height: 1, ..area });
    hush(frame.buffer_mut());
}

/// No cell does anything to a terminal, whatever was drawn without a thought of that.
fn hush(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if cell.symbol().chars().any(acts) {
            cell.set_symbol("\u{fffd}");
        }
    }
}

/// The lines above the last two, and the banner that takes the second of them.
fn page<'a>(view: &'a View, width: usize, room: usize) -> (Vec<Line<'a>>, Option<Line<'a>>) {
    let mut lines = vec![head::first(view, width)];
    let banner = head::banner(view, width);
    if banner.is_some() {
        lines.push(Line::default());
    }
    let spacious = room > 18;
    let list = match view.page {
        Page::Stages => stages::lines(view, width),
        // The list scrolls in what is left.
        Page::Letters => Vec::new(),
    };
    // What the table leaves is for the sentence first, then a third for remarks, the rest for what stands below.
    let left = room.saturating_sub(lines.len() + list.len().max(4));
    lines.extend(head::sentence(view, width, left.max(1)));
    let left = room.saturating_sub(lines.len() + list.len().max(4));
    lines.extend(head::remarks(view, width, left.div_ceil(3)));
    if spacious {
        lines.push(Line::default());
    }
    match view.page {
        Page::Letters => lines.extend(letters::lines(view, width, room.saturating_sub(lines.len()))),
        Page::Stages => {
            lines.extend(list);
            if spacious {
                lines.push(Line::default());
            }
            lines.extend(foot::lines(view, width, room.saturating_sub(lines.len())));
        }
    }
    lines.truncate(room);
    (lines, banner)
}

fn notice(view: &View, width: usize) -> Line<'static> {
    match (&view.notice, &view.busy) {
        (Some(notice), _) => {
            let style = if notice.well { view.palette.good() } else { view.palette.warning() };
            let mark = if notice.well { "✓ " } else { "! " };
            Line::styled(shortened(&format!("{mark}{}", notice.text), width), style)
        }
        (None, Some(busy)) => Line::styled(shortened(&format!("… {busy} (Esc stops it)"), width), strong()),
        (None, None) => Line::default(),
    }
}

/// The question that waits for an answer, or what keys do.
fn last_line(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let width = usize::from(area.width);
    let Some(prompt) = &view.prompt else {
        frame.render_widget(Paragraph::new(keys(view, width)), area);
        return;
    };
    let (question, hint) = prompt.words();
    let input = match prompt {
        Prompt::Reason { why, .. } => why.as_str(),
        Prompt::Filter { .. } => view.filter.as_str(),
        Prompt::Confirm { .. } => "",
    };
    let mut spans = vec![Span::styled(question, strong()), Span::raw(" ")];
    // The end of a long text is what is being written.
    let before: usize = spans.iter().map(Span::width).sum();
    let room = width.saturating_sub(before + 1);
    let mut shown = input;
    while Span::raw(shown).width() > room {
        let mut rest = shown.chars();
        rest.next();
        shown = rest.as_str();
    }
    spans.push(Span::raw(shown.to_owned()));
    let cursor: usize = spans.iter().map(Span::width).sum();
    let hint = format!("  ({hint})");
    if cursor + 1 + Span::raw(&*hint).width() <= width {
        spans.push(Span::styled(hint, dim()));
    }
    frame.render_widget(Paragraph::new(Line::from(spans)), area);
    let x = area.x + u16::try_from(cursor.min(width - 1)).unwrap_or(0);
    frame.set_cursor_position(Position { x, y: area.y });
}

fn keys(view: &View, width: usize) -> Line<'static> {
    let page: &[(&str, &str)] = match view.page {
        Page::Stages => &[("p", "pause/resume"), ("d", "dead letters")],
        Page::Letters => &[("r", "replay"), ("Enter", "open/close"), ("d", "stages")],
    };
    let ends: &[(&str, &str)] = &[("/", "filter"), ("space", "freeze"), ("1 2 5", "rate")];
    let always = [("q", "quit"), ("?", "help"), ("↑↓", "select")];
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, what) in always.iter().chain(page).chain(ends) {
        let more = Span::raw(*key).width() + what.len() + 3;
        if used + more > width {
            continue;
        }
        used += more;
        spans.extend([Span::styled((*key).to_owned(), reversed()), Span::raw(format!(" {what}  "))]);
    }
    Line::from(spans)
}

/// A text in lines of at most so many columns, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let joint = usize::from(!line.is_empty());
        if Span::raw(&*line).width() + joint + Span::raw(word).width() > width && !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// A text in at most so many lines.
fn wrapped_to(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = wrapped(text, width);
    cut_to(&mut lines, width, most);
    lines
}

/// Leaves at most so many lines; an ellipsis says that there were more.
fn cut_to(lines: &mut Vec<String>, width: usize, most: usize) {
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            *last = shortened(&format!("{last} …"), width);
        }
    }
}

/// A text in at most so many columns. What does not fit is left out word by word: a number that was cut is another number.
fn shortened(text: &str, width: usize) -> String {
    if Span::raw(text).width() <= width {
        return text.to_owned();
    }
    // A blank and the ellipsis.
    const END: usize = 2;
    let mut short = String::new();
    for word in text.split_inclusive(' ') {
        if Span::raw(&*short).width() + Span::raw(word.trim_end()).width() + END > width {
            break;
        }
        short.push_str(word);
    }
    match short.trim_end() {
        // One long word: its beginning is better than nothing.
        "" => cut(text, width.saturating_sub(1)),
        short => format!("{short} …"),
    }
}
