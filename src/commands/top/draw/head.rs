//! The top of the screen: what this is, how old, how well it goes.

use ratatui::text::{Line, Span};

use super::{cut_to, shortened, wrapped, wrapped_to};
use crate::{
    commands::top::{
        palette::{mark, reversed, strong},
        view::View,
    },
    monitor::span,
    output::{cut, inert},
};

/// Lines that the sentence may take.
const SENTENCE_LINES: usize = 3;

/// Columns from which on the date is shown with the time.
const WIDTH_OF_DATE: usize = 100;

/// What is shown, of when, and the word for it.
pub(super) fn first(view: &View, width: usize) -> Line<'static> {
    let snapshot = &view.shown;
    let state = format!("{} {}", mark(snapshot.state), snapshot.state.as_str());
    let of = match view.age {
        None => "no figures yet".to_owned(),
        Some(age) => {
            let format = if width < WIDTH_OF_DATE { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" };
            format!("{}, {} old", snapshot.at.format(format), span(age.as_secs_f64().floor()))
        }
    };
    let pace = match (view.frozen, view.every) {
        (true, _) => "  frozen".to_owned(),
        (false, 1) => String::new(),
        (false, every) => format!("  every {every} s"),
    };
    let environment = view.place.environment.as_deref().map(|name| format!("{name}/")).unwrap_or_default();
    let place = format!("  {}{}", inert(environment.as_bytes(), false), view.place.namespace);
    let right =
        [of.as_str(), pace.as_str(), "  ", state.as_str()].map(|text| Span::raw(text).width()).iter().sum::<usize>();
    // In a narrow window, what it is gives way to how it is.
    let name = if "orderstream".len() + 2 + right <= width { "orderstream" } else { "" };
    let place = if name.is_empty() { String::new() } else { cut(&place, width.saturating_sub(name.len() + right + 3)) };
    let gap = width.saturating_sub(name.len() + Span::raw(&*place).width() + right);
    Line::from(vec![
        Span::styled(name, strong()),
        Span::raw(place),
        Span::raw(" ".repeat(gap)),
        Span::raw(of),
        Span::styled(pace, strong()),
        Span::raw("  "),
        Span::styled(state, view.palette.state(snapshot.state)),
    ])
}

/// What makes the figures old.
pub(super) fn banner(view: &View, width: usize) -> Option<Line<'static>> {
    let age = view.age.map_or_else(
        || "there are no figures".to_owned(),
        |age| format!("these figures are {} old", span(age.as_secs_f64().floor())),
    );
    let (text, style) = match &view.shown.stale {
        Some(away) => {
            let text = format!("✖ STALE: Redis does not answer, {age} ({})", inert(away.error.as_bytes(), false));
            (text, view.palette.trouble())
        }
        None if view.is_stale() => (format!("✖ STALE: no news, {age}"), view.palette.trouble()),
        None if view.frozen => (format!("FROZEN: {age}; space goes on"), view.palette.warning()),
        None => return None,
    };
    let text = shortened(&text, width);
    let gap = " ".repeat(width.saturating_sub(Span::raw(&*text).width()));
    Some(Line::styled(format!("{text}{gap}"), style.patch(reversed())))
}

/// The sentence, in so many lines at most.
pub(super) fn sentence(view: &View, width: usize, most: usize) -> Vec<Line<'static>> {
    let sentence = inert(view.shown.sentence.as_bytes(), false);
    let lines = wrapped_to(&sentence, width, most.min(SENTENCE_LINES));
    lines.into_iter().map(|line| Line::styled(line, strong())).collect()
}

/// The remarks, in so many lines at most.
pub(super) fn remarks(view: &View, width: usize, most: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<String> = Vec::new();
    for remark in &view.shown.remarks {
        let remark = wrapped(&inert(remark.as_bytes(), false), width.saturating_sub(2));
        lines
            .extend(remark.iter().enumerate().map(|(at, line)| format!("{}{line}", if at == 0 { "· " } else { "  " })));
    }
    cut_to(&mut lines, width, most);
    lines.into_iter().map(Line::raw).collect()
}
