//! Below the table: the day, dead letters, the relay, processes, alerts.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::wrapped;
use crate::{
    alerts::Severity,
    commands::top::{palette::strong, view::View},
    monitor::{AlertView, ProcessView, span},
    output::{amount, cut, inert, thousands},
};

/// Columns of the names at the left.
const NAME: usize = 14;

/// A part: its name, and what there is to say.
struct Part {
    name: &'static str,
    text: String,
    style: Style,
}

impl Part {
    fn of(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into(), style: Style::new() }
    }
}

/// As much as there is room for.
pub(super) fn lines(view: &View, width: usize, room: usize) -> Vec<Line<'static>> {
    let mut parts = Vec::new();
    let alerts = alerts(view);
    let fires = view.shown.alerts.iter().any(|alert| alert.state == "firing");
    if fires {
        parts.extend(alerts);
        parts.extend(figures(view));
        parts.extend(processes(view));
    } else {
        parts.extend(figures(view));
        parts.extend(alerts);
        parts.extend(processes(view));
    }
    let mut lines = Vec::new();
    for Part { name, text, style } in parts {
        for (at, text) in wrapped(&text, width.saturating_sub(NAME)).into_iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            lines.push(Line::from(vec![Span::styled(format!("{name:NAME$}"), strong()), Span::styled(text, style)]));
        }
    }
    if lines.len() > room && room > 0 {
        lines.truncate(room - 1);
        lines.push(Line::raw(format!("{:NAME$}… a taller window shows more", "")));
    }
    lines.truncate(room);
    lines
}

fn figures(view: &View) -> Vec<Part> {
    let snapshot = &view.shown;
    if snapshot.seq == 0 {
        return Vec::new();
    }
    let today = &snapshot.today;
    let reasons = listed(today.failed_by.iter().map(|(reason, count)| (reason.as_str(), i128::from(*count))));
    let orders = format!(
        "{} orders: {} completed, {} failed{reasons}",
        thousands(today.completed + today.failed),
        thousands(today.completed),
        thousands(today.failed),
    );
    let currency = today.currencies.label();
    let amount = |cents: i64| amount(pipeline::domain::Cents::new(cents), &currency);
    let face_value = if today.currencies.is_mixed() { ", at face value" } else { "" };
    let sums = format!(
        "revenue {}, refunds of it {}; paid back today {}{face_value}",
        amount(today.revenue_cents),
        amount(today.refunded_cents),
        amount(today.paid_back_cents),
    );

    let letters = &snapshot.dead_letters;
    let reasons = listed(letters.reasons.iter().map(|(reason, count)| (reason.as_str(), i128::from(*count))));
    let of = match letters.looked_at < letters.count && !reasons.is_empty() {
        true => format!(" of the newest {}", thousands(letters.looked_at)),
        false => String::new(),
    };
    let newest = letters.newest_seconds.map(|age| format!(", the newest {} ago", span(age))).unwrap_or_default();
    let replayed = match letters.count.saturating_sub(letters.undecided) {
        0 => String::new(),
        replayed => format!("; {} more were replayed", thousands(replayed)),
    };
    let parked = match snapshot.parked_orders {
        Some(0) => String::new(),
        Some(orders) => format!("; {} orders wait for theirs", thousands(orders)),
        None => "; how many orders wait is unknown".to_owned(),
    };
    let dead = Part {
        style: if letters.undecided > 0 { view.palette.warning() } else { Style::new() },
        ..Part::of("Dead letters", format!("{}{reasons}{of}{newest}{replayed}{parked}", thousands(letters.undecided)))
    };
    let relay = &snapshot.relay;
    let event = |event: Option<i64>, without: &str| event.map_or_else(|| without.to_owned(), thousands);
    let relay = format!(
        "event {} of {}, {} behind",
        event(relay.cursor, "none"),
        event(relay.last_event, "unknown"),
        event(relay.behind, "unknown"),
    );
    let mut figures = vec![Part::of("Today", orders), Part::of("", sums), dead, Part::of("Relay", relay)];
    if let Some(drift @ 1..) = snapshot.drift {
        let text = format!("{} products' reserved pieces differ from open orders", thousands(drift));
        figures.push(Part { style: view.palette.trouble(), ..Part::of("Stock", text) });
    }
    figures
}

/// In brackets, the most frequent first.
fn listed<'a>(counts: impl Iterator<Item = (&'a str, i128)>) -> String {
    let mut counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(name, count)| format!("{} {}", cut(&inert(name.as_bytes(), false), 40), thousands(count)))
        .collect();
    if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
}

fn alerts(view: &View) -> Vec<Part> {
    let snapshot = &view.shown;
    let firing: Vec<&AlertView> = snapshot.alerts.iter().filter(|alert| alert.state == "firing").collect();
    if firing.is_empty() {
        let text = if snapshot.alerts.is_empty() { "nobody has looked yet" } else { "none fires" };
        return vec![Part::of("Alerts", text)];
    }
    let part = |(at, alert): (usize, &&AlertView)| {
        let since = alert.since.map(|since| format!(" since {} UTC", since.format("%H:%M:%S"))).unwrap_or_default();
        let (mark, style) = match alert.severity {
            Severity::Critical => ("✖", view.palette.trouble()),
            Severity::Warning => ("!", view.palette.warning()),
        };
        let text = format!("{mark} {}: {}{since}: {}", alert.severity.as_str(), alert.rule, alert.message);
        let name = if at == 0 { "Alerts" } else { "" };
        Part { style, ..Part::of(name, inert(text.as_bytes(), false)) }
    };
    firing.iter().enumerate().map(part).collect()
}

fn processes(view: &View) -> Vec<Part> {
    let snapshot = &view.shown;
    if snapshot.seq == 0 {
        return Vec::new();
    }
    if snapshot.processes.is_empty() {
        return vec![Part { style: view.palette.warning(), ..Part::of("Processes", "! none") }];
    }
    let part = |(at, process): (usize, &ProcessView)| {
        let state = match (process.is_live(), process.draining) {
            (false, _) => format!("! silent for {}", span(process.silent_seconds)),
            (true, true) => "! ending".to_owned(),
            (true, false) => format!("{}/s", crate::monitor::rate(process.rate)),
        };
        let style = if process.is_live() && !process.draining { Style::new() } else { view.palette.warning() };
        let up = (snapshot.at - process.started_at).num_seconds().max(0);
        #[expect(clippy::cast_precision_loss, reason = "a span of years")]
        let up = span(up as f64);
        let http = process.http.as_deref().map(|http| format!(", http {http}")).unwrap_or_default();
        let text = format!(
            "{} {} {state}, up {up}, {}{http}: {}",
            process.host,
            process.pid,
            process.version,
            process.roles.join(" ")
        );
        let name = if at == 0 { "Processes" } else { "" };
        Part { style, ..Part::of(name, inert(text.as_bytes(), false)) }
    };
    snapshot.processes.iter().enumerate().map(part).collect()
}
