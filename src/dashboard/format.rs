//! Numbers and times as people read them: the same on every page, and in what the scripts are sent.

use chrono::{DateTime, SecondsFormat, Utc};
use minijinja::{Error, ErrorKind, Value};
use pipeline::domain::Cents;

use crate::output;

/// What stands where there is nothing to show.
pub(super) const NOTHING: &str = "–";

/// How many of something in a second: two digits say enough where it is little.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if !rate.is_finite() || rate < 0.0 => NOTHING.to_owned(),
        rate if rate < 0.05 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate => whole(rate),
    }
}

/// A number without its fraction, grouped.
pub(super) fn whole(number: f64) -> String {
    // Saturates, and what is no number is 0.
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let rounded = number.round() as i64;
    output::thousands(rounded)
}

/// Minor units as money.
pub(super) fn money(cents: i64) -> String {
    output::money(Cents::new(cents))
}

/// A time span in its two largest units.
pub(super) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return NOTHING.to_owned();
    }
    if seconds < 0.05 {
        return "0 s".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturates")]
    let all = seconds.round() as u64;
    let (minutes, hours, days) = (all / 60, all / 3_600, all / 86_400);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    };
    match all {
        0..100 => format!("{all} s"),
        100..3_600 => two(minutes, "min", all % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// Bytes in the unit that fits.
pub(super) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let (mut rest, mut unit) = (bytes, 0);
    while rest >= 1_000.0 && unit + 1 < UNITS.len() {
        rest /= 1_000.0;
        unit += 1;
    }
    if unit == 0 || rest >= 100.0 { format!("{rest:.0} {}", UNITS[unit]) } else { format!("{rest:.1} {}", UNITS[unit]) }
}

/// A part of a whole; nothing of nothing is nothing.
pub(super) fn percent(part: f64, whole: f64) -> String {
    if whole <= 0.0 { NOTHING.to_owned() } else { format!("{:.1} %", part / whole * 100.0) }
}

/// How long ago something was, in its largest unit.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let passed = (now - at).num_seconds();
    let (word, amount) = match passed.abs() {
        0..2 => return "just now".to_owned(),
        seconds @ 2..100 => ("s", seconds),
        seconds @ 100..6_000 => ("min", seconds / 60),
        seconds @ 6_000..172_800 => ("h", seconds / 3_600),
        seconds => ("d", seconds / 86_400),
    };
    if passed < 0 { format!("in {amount} {word}") } else { format!("{amount} {word} ago") }
}

/// A time of the day and its date, as UTC.
pub(super) fn utc(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// An instant as an element: how long ago, with the instant itself in its title. Nothing is a dash.
pub(super) fn time_element(at: &Value) -> Result<Value, Error> {
    let text = match at.as_str() {
        Some(text) => text,
        None if at.is_none() => return Ok(Value::from(NOTHING)),
        None => return Err(Error::new(ErrorKind::InvalidOperation, "an instant is a text")),
    };
    // Some come from Redis, where anybody may have written.
    let Ok(at) = DateTime::parse_from_rfc3339(text) else { return Ok(Value::from(text)) };
    Ok(Value::from_safe_string(element_of(at.to_utc(), Utc::now())))
}

/// The element of an instant.
pub(super) fn element_of(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let machine = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("<time datetime=\"{machine}\" title=\"{}\">{}</time>", utc(at), ago(at, now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_two_largest_units() {
        for (span, shown) in [
            (0.0, "0 s"),
            (0.4, "0.4 s"),
            (42.2, "42 s"),
            (99.4, "99 s"),
            (100.0, "1 min 40 s"),
            (180.0, "3 min"),
            (7_500.0, "2 h 5 min"),
            (277_200.0, "3 d 5 h"),
            (f64::NAN, "–"),
            (-1.0, "–"),
        ] {
            assert_eq!(seconds(span), shown);
        }
    }

    #[test]
    fn rates_and_sizes_are_short() {
        for (number, shown) in [(0.0, "0"), (0.44, "0.4"), (9.99, "10"), (1_234.4, "1,234"), (f64::INFINITY, "–")] {
            assert_eq!(rate(number), shown);
        }
        for (number, shown) in [(0.0, "0 B"), (999.0, "999 B"), (12_345.0, "12.3 KB"), (123_456_789.0, "123 MB")] {
            assert_eq!(bytes(number), shown);
        }
        assert_eq!((percent(1.0, 3.0), percent(0.0, 0.0)), ("33.3 %".to_owned(), "–".to_owned()));
    }

    #[test]
    fn an_instant_is_relative_and_absolute_and_what_is_none_stays_a_text() {
        let now = Utc::now();
        assert_eq!(ago(now, now), "just now");
        assert_eq!(ago(now - chrono::TimeDelta::seconds(125), now), "2 min ago");
        assert_eq!(ago(now + chrono::TimeDelta::hours(3), now), "in 3 h");
        let shown = time_element(&Value::from("2026-11-22T10:00:00Z")).expect("an element").to_string();
        assert!(
            shown.starts_with("<time datetime=\"2026-11-22T10:00:00Z\" title=\"2026-11-22 10:00:00 UTC\">"),
            "{shown}"
        );
        let hostile = time_element(&Value::from("<b>")).expect("a text");
        assert!(!hostile.is_safe(), "it is escaped");
    }
}
