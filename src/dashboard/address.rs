//! Addresses of pages with their filters, and what stands in them.

use chrono::{DateTime, Days, NaiveDate, Utc};

use crate::http::{problem::Problem, query};

/// The address of a page, filter by filter.
pub(super) struct Address {
    text: String,
    has_query: bool,
}

impl Address {
    /// A page, with what its address says already.
    pub(super) fn of(path: impl Into<String>) -> Self {
        let text = path.into();
        Self { has_query: text.contains('?'), text }
    }

    /// Adds a filter, if there is one.
    pub(super) fn with(mut self, name: &str, value: Option<impl std::fmt::Display>) -> Self {
        if let Some(value) = value {
            self.text.push(if self.has_query { '&' } else { '?' });
            self.has_query = true;
            self.text.push_str(name);
            self.text.push('=');
            self.text.push_str(&query::encoded(&value.to_string()));
        }
        self
    }

    /// It as text.
    pub(super) fn text(self) -> String {
        self.text
    }
}

/// What was typed into a field; an empty field is none.
pub(super) fn typed(field: &Option<String>) -> Option<&str> {
    field.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// A number that was typed into a field.
pub(super) fn number(name: &str, field: &Option<String>) -> Result<Option<i64>, Problem> {
    let parse =
        |text: &str| text.replace(',', "").parse().map_err(|_| query::invalid(name, "a whole number is needed"));
    typed(field).map(parse).transpose()
}

/// A UTC day from its first instant to that of the next.
pub(super) fn day_bounds(day: NaiveDate) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc();
    (start(day), start(day.checked_add_days(Days::new(1)).unwrap_or(NaiveDate::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_encoded_and_empty_ones_left_out() {
        let address =
            Address::of("/orders").with("q", Some("a&b=c d")).with("day", None::<&str>).with("after", Some(7));
        assert_eq!(address.text(), "/orders?q=a%26b%3Dc%20d&after=7");
        assert_eq!(Address::of("/orders").with("q", None::<i64>).text(), "/orders");
    }

    #[test]
    fn an_empty_field_is_none() {
        assert_eq!(typed(&Some("  ".to_owned())), None);
        assert_eq!(typed(&Some(" x ".to_owned())), Some("x"));
        assert_eq!(number("n", &Some("1,234".to_owned())).ok(), Some(Some(1234)));
        assert!(number("n", &Some("x".to_owned())).is_err());
    }
}
