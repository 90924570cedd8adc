//! What stands in the address of a request.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use chrono::{DateTime, NaiveDate, Utc};
use serde::de::DeserializeOwned;

use super::{
    App,
    problem::{Code, Problem},
};

/// The query, all of it known.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::new(Code::InvalidQuery, error.body_text())),
        }
    }
}

/// A parameter that says something else than it may.
pub(crate) fn invalid(name: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidQuery, format!("{name}: {detail}"))
}

/// A word of ours, if it is given.
pub(crate) fn word<T: std::str::FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, Problem>
where
    T::Err: std::fmt::Display,
{
    text.map(|text| text.parse().map_err(|error| invalid(name, error))).transpose()
}

/// How many of something: 1 to `most`.
pub(crate) fn bounded(name: &str, number: Option<u32>, default: u32, most: u32) -> Result<u32, Problem> {
    match number.unwrap_or(default) {
        number if (1..=most).contains(&number) => Ok(number),
        _ => Err(invalid(name, format!("from 1 to {most}"))),
    }
}

/// A UTC day, within what a calendar of Postgres and of ours both have.
pub(crate) fn day(name: &str, text: Option<&str>) -> Result<Option<NaiveDate>, Problem> {
    let parse = |text: &str| text.parse::<NaiveDate>().ok().filter(is_sensible);
    text.map(|text| parse(text).ok_or_else(|| invalid(name, "a day such as 2026-11-22"))).transpose()
}

/// A day or an instant.
pub(crate) fn instant(name: &str, text: Option<&str>) -> Result<Option<DateTime<Utc>>, Problem> {
    let sensible = |at: &DateTime<Utc>| is_sensible(&at.date_naive());
    let parse = |text: &str| crate::cli::parse_instant(text).ok().filter(sensible);
    let example = "a day (2026-11-22) or an instant (2026-11-22T10:00:00Z)";
    text.map(|text| parse(text).ok_or_else(|| invalid(name, example))).transpose()
}

fn is_sensible(day: &NaiveDate) -> bool {
    use chrono::Datelike;
    (1970..=9999).contains(&day.year())
}

/// A text as a part of a path.
pub(crate) fn encoded(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_code_is_its_path_is_plain() {
        assert_eq!(encoded("ORD-1"), "ORD-1");
        assert_eq!(encoded("a/b c?ü%"), "a%2Fb%20c%3F%C3%BC%25");
    }
}
