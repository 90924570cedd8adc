//! Lengths of time on the command line.

use chrono::TimeDelta;

/// A time span of one unit.
pub(crate) fn parse_span(text: &str) -> Result<TimeDelta, String> {
    let span = || {
        let (at, unit) = text.char_indices().last()?;
        let number: i64 = text[..at].parse().ok().filter(|number| *number >= 0)?;
        match unit {
            's' => TimeDelta::try_seconds(number),
            'm' => TimeDelta::try_minutes(number),
            'h' => TimeDelta::try_hours(number),
            'd' => TimeDelta::try_days(number),
            _ => None,
        }
    };
    span().ok_or_else(|| format!("{text:?} is not a time span such as 90s, 10m, 2h or 3d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("10m", 600), ("2h", 7_200), ("3d", 259_200)] {
            assert_eq!(parse_span(text), Ok(TimeDelta::seconds(seconds)));
        }
        for wrong in ["", "s", "10", "-1s", "1.5h", "1w", "99999999999999999d", "10 m", "5é"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
    }
}
