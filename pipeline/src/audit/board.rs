//! KPIs and leaderboards against their recomputation from Postgres, at the event that they show as applied.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::CheckResult;
use crate::{
    relay::{BoardSnapshot, day_board_end},
    store::{self, Error},
    topology::{Keyspace, Leaderboard, failed_field},
};

/// Hashes and sorted sets by the part of their key after the board's prefix; fields and members with their values.
type Tables = BTreeMap<String, BTreeMap<String, i64>>;

/// Compares the board with the events up to its cursor. `now_ms` is Redis' clock, read after the board.
pub(super) async fn check(
    snapshot: &mut PgConnection,
    keys: &Keyspace,
    shown: &BoardSnapshot,
    now_ms: u64,
) -> Result<Vec<CheckResult>, Error> {
    let last = store::last_event_seq(snapshot).await?;
    let expected = recompute(snapshot, keys, shown.cursor).await?;
    let [kpis, customers, products] = compare(&expected, shown, now_ms);
    Ok(vec![
        cursor(shown.cursor, last),
        kpis.result("board_kpis", "the KPIs of every day equal their recomputation", "figures"),
        customers.result(
            "board_customers",
            "the leaderboards of customers equal their recomputation, for all time and every day kept",
            "scores",
        ),
        products.result(
            "board_products",
            "the leaderboards of products equal their recomputation, for all time and every day kept",
            "scores",
        ),
        ends(shown),
    ])
}

fn cursor(cursor: i64, last: i64) -> CheckResult {
    let differences = if (0..=last).contains(&cursor) {
        Vec::new()
    } else {
        vec![format!("cursor: stands at event {cursor}, the last event is {last}")]
    };
    let examined = usize::try_from(cursor).unwrap_or(0);
    CheckResult::new(
        "board_cursor",
        "the board shows no event that Postgres does not have",
        examined,
        "events",
        differences,
    )
}

/// What the board should show at `cursor`.
async fn recompute(snapshot: &mut PgConnection, keys: &Keyspace, cursor: i64) -> Result<Tables, Error> {
    let prefix = keys.board_prefix();
    let name = |key: String| key.strip_prefix(&prefix).unwrap_or(&key).to_owned();
    let mut tables = Tables::new();
    for (day, figures) in store::day_figures(snapshot, cursor).await? {
        let sums = [
            ("completed", figures.completed),
            ("failed", figures.failed),
            ("revenue_cents", figures.revenue_cents),
            ("refunded_cents", figures.refunded_cents),
            ("paid_back_cents", figures.paid_back_cents),
        ];
        let failed = figures.failed_by.into_iter().map(|(reason, orders)| (failed_field(reason), orders));
        let table = sums.into_iter().chain(failed).map(|(field, value)| (field.to_owned(), value)).collect();
        tables.insert(name(keys.kpi(day)), table);
    }
    let mut add = |board: Leaderboard, day: NaiveDate, member: i64, score: i64| {
        for day in [None, Some(day)] {
            let table = tables.entry(name(keys.leaderboard(board, day))).or_default();
            *table.entry(member.to_string()).or_default() += score;
        }
    };
    for revenue in store::customer_revenue(snapshot, cursor).await? {
        add(Leaderboard::Customers, revenue.day, revenue.customer_id, revenue.cents);
    }
    for sold in store::pieces_sold(snapshot, cursor).await? {
        add(Leaderboard::Products, sold.day, sold.product_id, sold.pieces);
    }
    Ok(tables)
}

/// What one kind of table came to.
#[derive(Debug, Default)]
struct Comparison {
    compared: usize,
    differences: Vec<String>,
}

impl Comparison {
    fn result(self, name: &'static str, proves: &'static str, unit: &'static str) -> CheckResult {
        CheckResult::new(name, proves, self.compared, unit, self.differences)
    }
}

/// Compares value by value, tables that only one side knows included: KPIs, customers, products. A value of 0 is the
/// same as none.
fn compare(expected: &Tables, shown: &BoardSnapshot, now_ms: u64) -> [Comparison; 3] {
    static NOTHING: BTreeMap<String, i64> = BTreeMap::new();
    let mut kinds = <[Comparison; 3]>::default();
    let names: BTreeSet<&String> = expected.keys().chain(shown.values.keys()).collect();
    for name in names {
        let kind = &mut kinds[if name.starts_with("kpi:") {
            0
        } else if name.starts_with("leaderboard:customers") {
            1
        } else {
            2
        }];
        let is_shown = shown.values.contains_key(name);
        // Redis has deleted it, in time.
        if !is_shown && planned_end(name).is_some_and(|end| end.saturating_mul(1_000).cast_unsigned() <= now_ms) {
            continue;
        }
        let expected = expected.get(name).unwrap_or(&NOTHING);
        let shown = shown.values.get(name).unwrap_or(&NOTHING);
        let members: BTreeSet<&String> = expected.keys().chain(shown.keys()).collect();
        for member in members {
            let value = |table: &BTreeMap<String, i64>| table.get(member).copied().unwrap_or(0);
            kind.compared += 1;
            if value(expected) != value(shown) {
                let (shows, says) = (value(shown), value(expected));
                kind.differences.push(format!("{name} {member}: shows {shows}, but Postgres says {says}"));
            }
        }
    }
    kinds
}

/// Checks that the leaderboards of a day end in time, and that nothing else does.
fn ends(shown: &BoardSnapshot) -> CheckResult {
    let tell = |end: Option<&i64>| match end {
        Some(end) => format!("at Unix second {end}"),
        None => "never".to_owned(),
    };
    let differences = shown
        .values
        .keys()
        .filter(|name| shown.ends.get(*name) != planned_end(name).as_ref())
        .map(|name| {
            let (ends, planned) = (tell(shown.ends.get(name)), tell(planned_end(name).as_ref()));
            format!("{name}: ends {ends}, but should end {planned}")
        })
        .collect();
    CheckResult::new(
        "board_ends",
        "the leaderboards of a day end 90 days after it; KPIs and the leaderboards for all time never do",
        shown.values.len(),
        "keys",
        differences,
    )
}

/// When a table should end, in Unix seconds.
fn planned_end(name: &str) -> Option<i64> {
    let (_, day) = name.strip_prefix("leaderboard:")?.split_once(':')?;
    day.parse().ok().map(day_board_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(rows: &[(&str, &str, i64)]) -> Tables {
        let mut tables = Tables::new();
        for (name, member, value) in rows {
            tables.entry((*name).to_owned()).or_default().insert((*member).to_owned(), *value);
        }
        tables
    }

    fn differences(expected: &[(&str, &str, i64)], shown: &[(&str, &str, i64)]) -> [usize; 3] {
        let shown = BoardSnapshot { values: tables(shown), ..BoardSnapshot::default() };
        compare(&tables(expected), &shown, 1_800_000_000_000).map(|kind| kind.differences.len())
    }

    #[test]
    fn every_value_is_compared_from_both_sides() {
        const C: &str = "leaderboard:customers";
        assert_eq!(differences(&[(C, "1", 5)], &[(C, "1", 5)]), [0, 0, 0]);
        assert_eq!(differences(&[(C, "1", 5)], &[(C, "1", 6)]), [0, 1, 0]);
        assert_eq!(differences(&[(C, "1", 5)], &[(C, "2", 5)]), [0, 2, 0]);
        assert_eq!(differences(&[], &[("kpi:2026-11-22", "failed", 1)]), [1, 0, 0]);
        assert_eq!(differences(&[("leaderboard:products", "1", 1)], &[]), [0, 0, 1]);
    }

    #[test]
    fn zero_is_the_same_as_none() {
        assert_eq!(differences(&[("leaderboard:customers", "1", 0)], &[]), [0, 0, 0]);
        assert_eq!(differences(&[], &[("kpi:2026-11-22", "failed", 0)]), [0, 0, 0]);
    }

    #[test]
    fn a_day_board_may_be_gone_once_its_time_is_over() {
        // The clock stands at 2027-01-15.
        assert_eq!(differences(&[("leaderboard:products:2026-10-16", "1", 1)], &[]), [0, 0, 0]);
        assert_eq!(differences(&[("leaderboard:products:2026-10-17", "1", 1)], &[]), [0, 0, 1]);
    }

    #[test]
    fn only_the_leaderboards_of_a_day_end() {
        assert_eq!(planned_end("leaderboard:customers:2026-10-16"), Some(1_799_971_200));
        for name in ["leaderboard:customers", "kpi:2026-10-17", "leaderboard:customers:today"] {
            assert_eq!(planned_end(name), None, "{name}");
        }
    }
}
