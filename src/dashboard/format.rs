//! Numbers and times as people read them: the same on every page, and in what the scripts are sent.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use minijinja::{Error, ErrorKind, Value};
use pipeline::domain::Cents;

use crate::output;

/// What stands where there is nothing to show.
pub(super) const NOTHING: &str = "–";

/// A text between tags or in quotes: nothing in it begins or ends anything. As the engine's own, but paths stay readable.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['<', '>', '&', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'&' => "&amp;",
                b'"' => "&quot;",
                _ => "&#x27;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// Minor units as money.
pub(super) fn money(cents: i64) -> String {
    output::money(Cents::new(cents))
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

/// The time of the day of an instant, to the millisecond.
pub(super) fn clock(at: &str) -> String {
    match DateTime::parse_from_rfc3339(at) {
        Ok(at) => at.to_utc().format("%H:%M:%S%.3f").to_string(),
        Err(_) => NOTHING.to_owned(),
    }
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
    fn sizes_and_parts_are_short() {
        for (number, shown) in [(0.0, "0 B"), (999.0, "999 B"), (12_345.0, "12.3 KB"), (123_456_789.0, "123 MB")] {
            assert_eq!(bytes(number), shown);
        }
        assert_eq!((percent(1.0, 3.0), percent(0.0, 0.0)), ("33.3 %".to_owned(), "–".to_owned()));
    }

    #[test]
    fn nothing_in_a_text_begins_or_ends_anything() {
        let hostile = "</a> & <b x=\"'\">é/";
        assert_eq!(Escaped(hostile).to_string(), "&lt;/a&gt; &amp; &lt;b x=&quot;&#x27;&quot;&gt;é/");
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
