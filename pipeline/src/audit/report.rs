//! What the audit found.

use std::fmt;

use serde::Serialize;

use crate::store::{EXAMPLES_MAX, SqlCheck, SqlFinding};

/// The result of every check.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// In the order in which they were made.
    pub checks: Vec<CheckResult>,
}

impl Report {
    /// Whether no check found a difference.
    pub fn is_clean(&self) -> bool {
        self.failed().next().is_none()
    }

    /// The checks that found differences.
    pub fn failed(&self) -> impl Iterator<Item = &CheckResult> {
        self.checks.iter().filter(|check| check.differences > 0)
    }
}

/// The result of one check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckResult {
    /// Its name, in words joined by underscores.
    pub name: &'static str,
    /// The sentence that holds when there are no differences.
    pub proves: &'static str,
    /// How much was examined.
    pub figure: Figure,
    /// How many rows, keys or orders contradict the sentence.
    pub differences: u64,
    /// Up to 20 of them, each with what is wrong.
    pub examples: Vec<String>,
}

/// A number with its unit: `200000 orders`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// How many.
    pub value: u64,
    /// Of what, in the plural.
    pub unit: &'static str,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} {}", self.value, self.unit))
    }
}

impl CheckResult {
    pub(super) fn from_sql(check: &SqlCheck, finding: SqlFinding) -> Self {
        Self {
            name: check.name,
            proves: check.proves,
            // Both are counts of rows.
            figure: Figure { value: finding.examined.unsigned_abs(), unit: check.unit },
            differences: finding.differences.unsigned_abs(),
            examples: finding.examples,
        }
    }

    /// A check whose differences are all at hand; it names the first of them.
    pub fn new(
        name: &'static str,
        proves: &'static str,
        examined: usize,
        unit: &'static str,
        mut differences: Vec<String>,
    ) -> Self {
        let found = differences.len() as u64;
        differences.truncate(EXAMPLES_MAX);
        let figure = Figure { value: examined as u64, unit };
        Self { name, proves, figure, differences: found, examples: differences }
    }
}
