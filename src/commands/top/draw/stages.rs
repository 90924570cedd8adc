//! The table of stages: as many columns as there is room for.

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use crate::{
    commands::top::{
        palette::{Palette, dim, reversed, strong},
        view::View,
    },
    monitor::{StageState, StageView, Trend, rate, span},
    output::thousands,
};

/// What stands where there is nothing to show.
const NOTHING: &str = "–";

/// Columns of the mark before the chosen stage.
const MARK: usize = 2;

/// Points of five minutes.
const SPARK_POINTS: usize = 60;

/// Heights of a sparkline's points.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A point of a sparkline where the lag was unknown.
const UNKNOWN_POINT: char = '·';

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Stage,
    State,
    Lag,
    Seconds,
    Trend,
    Pending,
    Oldest,
    RateIn,
    RateOut,
    Retries,
    Dead,
    Workers,
    Spark,
}

/// As they stand on the screen.
const COLUMNS: [Column; 13] = [
    Column::Stage,
    Column::State,
    Column::Lag,
    Column::Seconds,
    Column::Trend,
    Column::Pending,
    Column::Oldest,
    Column::RateIn,
    Column::RateOut,
    Column::Retries,
    Column::Dead,
    Column::Workers,
    Column::Spark,
];

/// In which order they get their room.
const BY_URGENCY: [Column; 13] = [
    Column::Stage,
    Column::Lag,
    Column::Seconds,
    Column::State,
    Column::Trend,
    Column::Pending,
    Column::RateOut,
    Column::RateIn,
    Column::Spark,
    Column::Oldest,
    Column::Workers,
    Column::Dead,
    Column::Retries,
];

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Stage => "STAGE",
            Self::State => "STATE",
            Self::Lag => "LAG",
            Self::Seconds => "SECONDS",
            Self::Trend => "TREND",
            Self::Pending => "PENDING",
            Self::Oldest => "OLDEST",
            Self::RateIn => "IN/s",
            Self::RateOut => "OUT/s",
            Self::Retries => "RETRIES/min",
            Self::Dead => "DEAD/min",
            Self::Workers => "WORKERS",
            Self::Spark => "LAG, 5 MIN",
        }
    }

    /// The room that it gets whatever stands in it, so that the table stands still.
    const fn width_min(self) -> usize {
        match self {
            Self::Stage | Self::State => 11,
            Self::Lag => 9,
            Self::Trend => 14,
            Self::RateIn | Self::RateOut => 6,
            _ => self.title().len(),
        }
    }

    const fn is_number(self) -> bool {
        !matches!(self, Self::Stage | Self::State | Self::Trend | Self::Spark)
    }

    fn cell(self, stage: &StageView) -> String {
        match self {
            Self::Stage => stage.stage.to_string(),
            Self::State => stage.state.as_str().to_owned(),
            Self::Lag => stage.lag.map_or_else(|| "unknown".to_owned(), thousands),
            Self::Seconds => seconds(stage.lag_seconds),
            Self::Trend => trend(stage),
            Self::Pending => thousands(stage.pending),
            Self::Oldest if stage.oldest_seconds > 0.0 => span(stage.oldest_seconds),
            Self::Oldest => NOTHING.to_owned(),
            Self::RateIn => rate(stage.rate_in),
            Self::RateOut => rate(stage.rate_out),
            Self::Retries => rate(stage.retries_per_minute),
            Self::Dead => rate(stage.dead_per_minute),
            Self::Workers => thousands(stage.workers),
            Self::Spark => String::new(),
        }
    }

    fn style(self, stage: &StageView, palette: Palette) -> Style {
        match self {
            Self::Stage => strong(),
            Self::State => palette.stage(stage.state),
            Self::Lag if stage.lag.is_none() => palette.warning(),
            Self::Seconds if stage.state == StageState::Behind => palette.warning(),
            Self::Trend if matches!(stage.trend, Trend::Growing { .. }) => palette.warning(),
            Self::Trend if matches!(stage.trend, Trend::Shrinking { .. }) => palette.good(),
            Self::Workers if stage.state == StageState::NoWorker => palette.trouble(),
            Self::Dead if stage.dead_per_minute > 0.0 => palette.warning(),
            _ => Style::new(),
        }
    }
}

/// The header and a line a stage.
pub(super) fn lines(view: &View, width: usize) -> Vec<Line<'static>> {
    let stages = view.stages();
    let chosen = view.selected_stage().map(|stage| stage.stage);
    let columns = columns(&stages, width);
    let mut header = vec![Span::raw(" ".repeat(MARK))];
    for &(column, width) in &columns {
        header.push(Span::styled(aligned(column, column.title(), width), dim()));
    }
    let mut lines = vec![Line::from(header)];
    for stage in &stages {
        let is_chosen = chosen == Some(stage.stage);
        let mut spans = vec![Span::raw(if is_chosen { "▸ " } else { "  " })];
        for &(column, width) in &columns {
            let text = if column == Column::Spark { spark(&stage.spark, width - 1) } else { column.cell(stage) };
            let style = column.style(stage, view.palette);
            let style = if is_chosen && column == Column::Stage { style.patch(reversed()) } else { style };
            spans.push(Span::styled(aligned(column, &text, width), style));
        }
        lines.push(Line::from(spans));
    }
    if stages.is_empty() {
        let text = match view.shown.stages.is_empty() {
            true => "  No figures yet.".to_owned(),
            false => format!("  No stage contains {:?}: Esc shows all.", view.filter),
        };
        lines.push(Line::raw(text));
    } else if !view.filter.is_empty() {
        lines.push(Line::styled(format!("  Only what contains {:?}: Esc shows all.", view.filter), dim()));
    }
    lines
}

/// The columns that there is room for, with their widths: a blank is among them.
fn columns(stages: &[&StageView], width: usize) -> Vec<(Column, usize)> {
    let mut left = width.saturating_sub(MARK);
    let mut chosen = Vec::new();
    for column in BY_URGENCY {
        let longest = stages.iter().map(|stage| Span::raw(column.cell(stage)).width()).max().unwrap_or(0);
        let needed = longest.max(column.width_min()) + 1;
        // The blank after the last one is none.
        if needed <= left + 1 {
            left = left.saturating_sub(needed);
            chosen.push((column, needed));
        }
    }
    if let Some((_, width)) = chosen.iter_mut().find(|(column, _)| *column == Column::Spark) {
        *width = (*width + left).min(SPARK_POINTS + 1);
    }
    COLUMNS.iter().filter_map(|column| chosen.iter().find(|(chosen, _)| chosen == column).copied()).collect()
}

/// With a blank behind it.
fn aligned(column: Column, text: &str, width: usize) -> String {
    let gap = " ".repeat((width - 1).saturating_sub(Span::raw(text).width()));
    if column.is_number() { format!("{gap}{text} ") } else { format!("{text}{gap} ") }
}

/// Seconds as a number.
fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 0.05 => "0".to_owned(),
        s if s < 9.95 => format!("{s:.1}"),
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        s => thousands(s.round() as i64),
    }
}

fn trend(stage: &StageView) -> String {
    match (stage.trend, stage.clears_in_seconds) {
        (Trend::Growing { per_second }, _) => format!("▲ {}/s", rate(per_second)),
        (Trend::Shrinking { .. }, Some(seconds)) => format!("▼ clears {}", span(seconds)),
        (Trend::Shrinking { per_second }, None) => format!("▼ {}/s", rate(per_second)),
        (Trend::Steady, _) => NOTHING.to_owned(),
        (Trend::Unknown, _) => "?".to_owned(),
    }
}

/// Five minutes in so many columns, the newest at the right. A column has the highest of its points.
fn spark(points: &[Option<u64>], width: usize) -> String {
    let width = width.min(points.len());
    let highest = points.iter().flatten().copied().max().unwrap_or(0);
    let column = |at: usize| &points[at * points.len() / width..(at + 1) * points.len() / width];
    let bar = |points: &[Option<u64>]| match points.iter().flatten().max() {
        None => UNKNOWN_POINT,
        Some(0) => BARS[0],
        // What waits is never as low as nothing.
        Some(lag) => BARS[usize::try_from(lag.saturating_mul(7).div_ceil(highest.max(1))).unwrap_or(7).min(7)],
    };
    (0..width).map(|at| bar(column(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_tells_nothing_from_unknown_and_keeps_peaks() {
        assert_eq!(spark(&[Some(0), None, Some(1), Some(1_000)], 4), "▁·▂█");
        assert_eq!(spark(&[Some(0), Some(8), Some(0), None], 2), "█▁");
        assert_eq!(spark(&[None; 60], 10), "··········");
        assert_eq!(spark(&[], 10), "");
    }

    #[test]
    fn the_lag_and_its_seconds_are_there_at_every_width_and_lines_fit() {
        for width in 40..250 {
            let columns = columns(&[], width);
            let taken: usize = columns.iter().map(|(_, width)| width).sum();
            assert!(MARK + taken <= width + 1, "{width}: {columns:?}");
            for needed in [Column::Stage, Column::Lag, Column::Seconds] {
                assert!(columns.iter().any(|(column, _)| *column == needed), "{width}: {columns:?}");
            }
        }
        let all = columns(&[], 140);
        assert_eq!(all.len(), COLUMNS.len(), "{all:?}");
    }

    #[test]
    fn seconds_are_a_number() {
        for (value, shown) in [(0.0, "0"), (4.21, "4.2"), (42.4, "42"), (3_600.0, "3,600")] {
            assert_eq!(seconds(value), shown);
        }
    }
}
