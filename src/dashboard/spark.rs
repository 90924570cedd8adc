//! A sparkline: the path of a line and of the area below it.

use crate::{monitor, output::thousands};

/// The width of a sparkline, in its own units.
const WIDTH: f64 = 240.0;

/// Its height.
const HEIGHT: f64 = 40.0;

/// A small number of messages is no mountain: the scale reaches at least so far.
const TOP_MIN: f64 = 10.0;

/// A sparkline.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Drawn {
    /// The path of the line, with a gap where nothing is known.
    pub(super) line: String,
    /// The path of what is below it.
    pub(super) area: String,
    /// What it shows, for those who do not see it.
    pub(super) words: String,
}

/// Draws a row of numbers, the oldest on the left.
pub(super) fn draw(points: &[Option<u64>]) -> Drawn {
    let most = points.iter().flatten().max().copied();
    let top = most.map_or(TOP_MIN, |most| (most as f64).max(TOP_MIN));
    let step = WIDTH / (points.len().max(2) - 1) as f64;
    let (mut line, mut area) = (String::new(), String::new());
    let mut run: Vec<(f64, f64)> = Vec::new();
    let mut finish = |run: &mut Vec<(f64, f64)>| {
        let (Some(first), Some(last)) = (run.first().copied(), run.last().copied()) else { return };
        let path: Vec<String> = run.iter().map(|(x, y)| format!("{x:.0} {y:.1}")).collect();
        // A point alone is a dot.
        let dot = if run.len() == 1 { "h1" } else { "" };
        line.push_str(&format!("M{}{dot}", path.join("L")));
        area.push_str(&format!("M{:.0} {HEIGHT}L{}L{:.0} {HEIGHT}z", first.0, path.join("L"), last.0));
        run.clear();
    };
    for (index, point) in points.iter().enumerate() {
        match point {
            Some(value) => run.push((index as f64 * step, HEIGHT - 1.0 - *value as f64 / top * (HEIGHT - 4.0))),
            None => finish(&mut run),
        }
    }
    finish(&mut run);
    let words = match (most, points.last().copied().flatten()) {
        (None, _) => "the lag of the last minutes is not known".to_owned(),
        (Some(most), Some(now)) => {
            let minutes = monitor::span(points.len() as f64 * 5.0);
            format!("lag over {minutes}: at most {}, now {}", thousands(most), thousands(now))
        }
        (Some(most), None) => format!("lag: at most {}, now unknown", thousands(most)),
    };
    Drawn { line, area, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_a_gap_and_not_a_zero() {
        let drawn = draw(&[Some(0), Some(20), None, Some(5)]);
        assert_eq!(drawn.line, "M0 39.0L80 3.0M240 30.0h1");
        assert!(drawn.area.starts_with("M0 40L0 39.0L80 3.0L80 40z"), "{}", drawn.area);
        assert!(drawn.words.contains("at most 20, now 5"), "{}", drawn.words);
        assert!(draw(&[Some(3), None]).words.ends_with("now unknown"));
        assert_eq!(draw(&[None, None]).line, "");
        assert_eq!(draw(&[]).line, "");
    }
}
