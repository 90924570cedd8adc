//! docs/METRICS.md, as a table of families.

use std::collections::{BTreeMap, BTreeSet};

use super::scrape::Shape;

const METRICS: &str = include_str!("../../../docs/METRICS.md");

/// What is documented, with type and labels.
pub(crate) fn families() -> BTreeMap<String, Shape> {
    let families: BTreeMap<String, Shape> = METRICS
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let name = cells[0].trim_matches('`');
            let &[_, kind, labels, _unit, _meaning, _absent] = &cells[..] else { return None };
            let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
            let labels: BTreeSet<String> = labels.filter(|label| !label.is_empty()).collect();
            name.starts_with("orderstream_").then(|| (name.to_owned(), (kind.to_owned(), labels)))
        })
        .collect();
    assert!(families.len() > 40, "{families:?}");
    families
}
