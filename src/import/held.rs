//! Good orders in memory, listed by order.

use super::{row::Row, table::Table};

/// A table whose verdicts are final.
#[derive(Debug)]
pub(super) struct Held {
    table: Table,
    /// Numbers of the good orders, by first appearance.
    good: Vec<u32>,
    /// Where the rows of each good order begin in `places`, and the end.
    starts: Vec<u32>,
    /// Places in the table's rows, order by order: four bytes to move for each row instead of the row itself.
    places: Vec<u32>,
}

impl Held {
    /// Lists the rows of good orders. All of them are held, since the budget that bounds the table counted them.
    pub(super) fn new(table: Table) -> Self {
        let (mut good, mut starts) = (Vec::new(), vec![0]);
        // For each order the place of its next row in the list.
        let mut next = Vec::with_capacity(table.groups.len());
        let mut end = 0;
        for (number, group) in table.groups.iter() {
            next.push(end);
            if !group.is_rejected() {
                end += u32::try_from(group.rows).expect("bounded by the budget");
                good.push(number);
                starts.push(end);
            }
        }
        let mut places = vec![0; end as usize];
        for (place, held) in (0..).zip(&table.rows) {
            if !table.groups.value(held.group).is_rejected() {
                let next = &mut next[held.group as usize];
                places[*next as usize] = place;
                *next += 1;
            }
        }
        Self { table, good, starts, places }
    }

    /// Number of good orders.
    pub(super) fn len(&self) -> usize {
        self.good.len()
    }

    /// The n-th good order by first appearance: its code, and its rows, of which there is at least one.
    pub(super) fn get(&self, nth: usize) -> (&str, impl ExactSizeIterator<Item = &Row>) {
        let places = &self.places[self.starts[nth] as usize..self.starts[nth + 1] as usize];
        let rows = places.iter().map(|&place| &self.table.rows[place as usize].row);
        (self.table.groups.code(self.good[nth]), rows)
    }
}
