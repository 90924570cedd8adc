//! Names and values, of a query or of a form, where a name may come several times.

use std::collections::BTreeMap;

use minijinja::Value;
use serde::Deserialize;

use crate::http::query::encoded;

/// All of them, in their order.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// The first value of this name, without blanks at its ends; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.raw(name).unwrap_or_default().trim()
    }

    /// The first value of this name, untouched.
    pub(super) fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// These names with their values, for a template.
    pub(super) fn chosen(&self, names: &[&str]) -> Value {
        let pairs: BTreeMap<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), Value::from(self.get(name)))).collect();
        Value::from(pairs)
    }

    /// What is not empty, as hidden fields of a form have it: these names only.
    pub(super) fn some(&self, names: &[&str]) -> Vec<(&str, &str)> {
        let known = self.0.iter().filter(|(name, value)| names.contains(&&**name) && !value.trim().is_empty());
        known.map(|(name, value)| (name.as_str(), value.trim())).collect()
    }
}

/// Names and values as a query, without its question mark.
pub(super) fn query(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_it_was_written() {
        let fields = Fields(vec![
            ("id".into(), "1-0".into()),
            ("why".into(), " a b&c ".into()),
            ("id".into(), "2-0".into()),
            ("order".into(), String::new()),
        ]);
        assert_eq!(fields.all("id").collect::<Vec<_>>(), ["1-0", "2-0"]);
        assert_eq!((fields.get("why"), fields.raw("why"), fields.get("x")), ("a b&c", Some(" a b&c "), ""));
        assert_eq!(query(&fields.some(&["id", "why", "order"])), "id=1-0&why=a%20b%26c&id=2-0");
    }
}
