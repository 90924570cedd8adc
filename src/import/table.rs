//! Orders as they grow row by row, and the verdict on each.
//!
//! A table knows orders without holding their rows. That is how an order far larger than memory is judged: first every
//! row is noted, then, with all verdicts known, the rows are read again and only those of good orders are held.

use std::num::NonZeroU64;

use pipeline::domain::{Cents, CustomerId, LINES_PER_ORDER_MAX, TOTAL_CENTS_MAX};

use super::{codes::Codes, reject::Reason, row::Row};

/// What is known of an order. Lines are never zero, which keeps this small enough for a cache line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// Good rows.
    pub(super) rows: u64,
    /// The customer in the first good row, who is the order's.
    customer_id: CustomerId,
    total: Cents,
    /// The first row that names another customer.
    other_customer_line: Option<NonZeroU64>,
    /// The first bad row.
    bad_line: Option<NonZeroU64>,
    /// The first good row with which the order as a whole breaks a rule.
    broken: Option<(NonZeroU64, Rule)>,
}

/// A rule that concerns more than one row.
#[derive(Debug, Clone, Copy)]
enum Rule {
    OneCustomer,
    FewLines,
    BoundedTotal,
}

impl Default for Group {
    fn default() -> Self {
        let (rows, customer_id, total) = (0, CustomerId(0), Cents::ZERO);
        Self { rows, customer_id, total, other_customer_line: None, bad_line: None, broken: None }
    }
}

impl Group {
    /// Whether nothing of it may ship.
    pub(super) fn is_rejected(&self) -> bool {
        self.bad_line.is_some() || self.broken.is_some()
    }

    /// The first row that names another customer than the first row.
    pub(super) fn other_customer_line(&self) -> Option<u64> {
        self.other_customer_line.map(NonZeroU64::get)
    }

    /// Why one of its good rows is rejected, if it is.
    pub(super) fn reason(&self, line: u64) -> Option<Reason> {
        match (self.bad_line, self.broken) {
            (None, Some((broken, rule))) if broken.get() == line => Some(match rule {
                Rule::OneCustomer => Reason::SeveralCustomers { first: self.customer_id },
                Rule::FewLines => Reason::TooManyLines,
                Rule::BoundedTotal => Reason::TotalTooLarge,
            }),
            (Some(line), _) | (None, Some((line, _))) => Some(Reason::OrderRejected { line: line.get() }),
            (None, None) => None,
        }
    }

    /// Counts a row and checks the rules of `Order::new` as far as they concern more than one row, so that the row
    /// that breaks one can be named.
    fn note(&mut self, row: &Row, strict: bool) {
        if self.rows == 0 {
            self.customer_id = row.customer_id;
        }
        self.rows += 1;
        let is_other = row.customer_id != self.customer_id;
        if is_other && self.other_customer_line.is_none() {
            self.other_customer_line = NonZeroU64::new(row.line);
        }
        if self.broken.is_some() {
            return;
        }
        let total = self.total.checked_add(row.amount()).filter(|total| total.get() <= TOTAL_CENTS_MAX);
        self.total = total.unwrap_or(self.total);
        let rule = if strict && is_other {
            Some(Rule::OneCustomer)
        } else if self.rows > LINES_PER_ORDER_MAX as u64 {
            Some(Rule::FewLines)
        } else if total.is_none() {
            Some(Rule::BoundedTotal)
        } else {
            None
        };
        self.broken = NonZeroU64::new(row.line).zip(rule);
    }
}

/// Orders by code, and the rows that are held in memory.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) groups: Codes<Group>,
    pub(super) rows: Vec<HeldRow>,
    strict: bool,
}

/// A row in memory, in the file's order.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldRow {
    pub(super) row: Row,
    /// Its order's number.
    pub(super) group: u32,
}

/// Memory for a row: itself, and its place in the list by orders that is made in the end.
pub(super) const ROW_BYTES: usize = size_of::<HeldRow>() + size_of::<u32>();

/// Memory for an order in the lists that are made in the end.
const LISTED_BYTES: usize = 3 * size_of::<u32>();

impl Table {
    pub(super) fn new(strict: bool) -> Self {
        Self { groups: Codes::new(), rows: Vec::new(), strict }
    }

    /// Memory in use, or needed in the end.
    pub(super) fn bytes(&self) -> usize {
        self.groups.bytes() + self.groups.len() * LISTED_BYTES + self.rows.len() * ROW_BYTES
    }

    /// Takes a good row into the account of its order, without holding it; rows come in the file's order.
    pub(super) fn note(&mut self, code: &str, row: &Row) -> u32 {
        let group = self.groups.intern(code);
        self.groups.value_mut(group).note(row, self.strict);
        group
    }

    /// Holds a row in memory.
    pub(super) fn hold(&mut self, group: u32, row: Row) {
        self.rows.push(HeldRow { row, group });
    }

    /// Rejects an order for a row that could not be read.
    pub(super) fn poison(&mut self, code: &str, line: u64) {
        let group = self.groups.intern(code);
        let bad_line = &mut self.groups.value_mut(group).bad_line;
        *bad_line = [*bad_line, NonZeroU64::new(line)].into_iter().flatten().min();
    }
}

#[cfg(test)]
mod tests {
    use pipeline::domain::{Line, Order, OrderCode, ProductId};
    use proptest::prelude::*;

    use super::*;

    fn row(line: u64, customer: i64, quantity: i32, cents: i64) -> Row {
        let order_line = Line { product_id: ProductId(1), quantity, unit_price: Cents::new(cents) };
        Row { line, customer_id: CustomerId(customer), order_line }
    }

    #[test]
    fn an_order_fits_a_cache_line_with_the_place_of_its_code() {
        assert_eq!(size_of::<Group>(), 64 - 2 * size_of::<u32>());
    }

    fn group(rows: &[Row], strict: bool) -> Group {
        let mut group = Group::default();
        rows.iter().for_each(|row| group.note(row, strict));
        group
    }

    #[test]
    fn the_row_that_breaks_a_rule_is_named_and_the_others_point_to_it() {
        let rows: Vec<_> = (2..).take(LINES_PER_ORDER_MAX + 2).map(|line| row(line, 7, 1, 100)).collect();
        let group = group(&rows, false);
        assert_eq!(group.reason(2), Some(Reason::OrderRejected { line: 1002 }));
        assert_eq!(group.reason(1002), Some(Reason::TooManyLines));
        assert_eq!(group.reason(1003), Some(Reason::OrderRejected { line: 1002 }));
    }

    #[test]
    fn a_bad_row_goes_before_a_broken_rule() {
        let mut table = Table::new(true);
        table.note("A", &row(2, 7, 1, 100));
        table.note("A", &row(3, 8, 1, 100));
        table.poison("A", 9);
        table.poison("A", 5);
        assert_eq!(table.groups.value(0).reason(3), Some(Reason::OrderRejected { line: 5 }));
    }

    #[test]
    fn another_customer_is_a_rejection_only_when_strict() {
        let rows = [row(2, 7, 1, 100), row(3, 7, 1, 100), row(4, 8, 1, 100), row(5, 9, 1, 100)];
        let lax = group(&rows, false);
        assert!(!lax.is_rejected());
        assert_eq!((lax.customer_id, lax.other_customer_line()), (CustomerId(7), Some(4)));
        let strict = group(&rows, true);
        assert_eq!(strict.reason(4), Some(Reason::SeveralCustomers { first: CustomerId(7) }));
        assert_eq!(strict.reason(5), Some(Reason::OrderRejected { line: 4 }));
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_the_domain(
            lines in prop::collection::vec((1..=900_000, 0..=9_999_999_999_i64), 1..8),
            repeated in prop_oneof![9 => Just(1_usize), 1 => Just(LINES_PER_ORDER_MAX / 4)],
        ) {
            let rows: Vec<_> = (2..).zip(lines.iter().cycle().take(lines.len() * repeated))
                .map(|(line, &(quantity, cents))| row(line, 7, quantity, cents))
                .collect();
            let code = OrderCode::new("A").expect("a code");
            let order = Order::new(code, CustomerId(7), rows.iter().map(|row| row.order_line).collect());
            prop_assert_eq!(group(&rows, false).is_rejected(), order.is_err());
        }
    }
}
