//! Rows into orders.

use orderstream::import::ReadOptions;
use pipeline::domain::{Cents, CustomerId, LINES_PER_ORDER_MAX, ProductId};

use super::outcome::{HEADER, import, import_rows};

#[test]
fn scattered_rows_become_orders_in_order_of_first_appearance() {
    let outcome = import_rows("1,B,7,4,1,1.00,1.00\n2,A,8,4,2,1.00,2.00\n3,B,7,5,3,1.00,3.00\n4,A,8,4,2,1.00,2.00\n");
    assert_eq!(outcome.codes(), ["B", "A"]);
    let order = &outcome.orders[0].order;
    assert_eq!((order.customer_id(), order.total(), outcome.orders[0].first_line), (CustomerId(7), Cents::new(400), 2));
    let quantities: Vec<_> = order.lines().iter().map(|line| (line.product_id, line.quantity)).collect();
    assert_eq!(quantities, [(ProductId(4), 1), (ProductId(5), 3)]);
    // The same product twice is two lines.
    assert_eq!(outcome.orders[1].order.lines().len(), 2);
}

#[test]
fn a_bad_row_takes_its_order_down_wherever_it_stands() {
    let good = "1,A,7,4,1,1.00,1.00\n";
    let bad = "2,A,7,4,0,1.00,0.00\n";
    let other = "3,B,7,4,1,1.00,1.00\n";
    for (rows, expected) in [
        ([bad, good, other], ["2 invalid_quantity quantity", "3 order_rejected"]),
        ([good, bad, other], ["3 invalid_quantity quantity", "2 order_rejected"]),
        ([good, other, bad], ["4 invalid_quantity quantity", "2 order_rejected"]),
    ] {
        let outcome = import_rows(rows.concat());
        assert_eq!(outcome.codes(), ["B"]);
        assert_eq!(outcome.reasons(), expected);
        assert_eq!((outcome.rejected_orders, outcome.rejected_rows, outcome.accepted_rows), (1, 2, 1));
    }
}

#[test]
fn several_customers_are_a_warning_or_when_strict_a_rejection() {
    let text = format!(
        "{HEADER}1,A,7,4,1,1.00,1.00\n2,B,7,4,1,1.00,1.00\n3,A,8,4,1,1.00,1.00\n4,A,9,4,1,1.00,1.00\n5,B,7,4,1,1.00,1.00\n"
    );
    let lax = import(text.as_bytes(), &ReadOptions::default()).expect("readable");
    assert_eq!(lax.codes(), ["A", "B"]);
    assert_eq!(lax.orders[0].order.customer_id(), CustomerId(7));
    assert_eq!(lax.warnings.orders_with_several_customers, 1);
    assert_eq!(lax.warnings.first_several_customers_line, Some(4));

    let strict = ReadOptions { strict: true, ..ReadOptions::default() };
    for memory_bytes_max in [strict.memory_bytes_max, 0] {
        let options = ReadOptions { memory_bytes_max, ..strict.clone() };
        let outcome = import(text.as_bytes(), &options).expect("readable");
        assert_eq!(outcome.codes(), ["B"]);
        assert_eq!(outcome.reasons(), ["2 order_rejected", "4 several_customers customer_id", "5 order_rejected"]);
        assert_eq!(outcome.rejects[1].value, "8");
        assert_eq!(outcome.warnings.orders_with_several_customers, 0);
    }
}

#[test]
fn an_order_has_at_most_a_thousand_lines() {
    let row = "1,A,7,4,1,1.00,1.00\n";
    assert_eq!(import_rows(row.repeat(LINES_PER_ORDER_MAX)).orders.len(), 1);
    let outcome = import_rows(row.repeat(LINES_PER_ORDER_MAX + 2) + "1,B,7,4,1,1.00,1.00\n");
    assert_eq!(outcome.codes(), ["B"]);
    assert_eq!(outcome.rejected_rows, 1_002);
    assert_eq!(outcome.reasons()[1_000], "1002 too_many_lines");
}

#[test]
fn an_order_has_a_bounded_total() {
    let row = "1,A,7,4,1000,99999999.99,99999999990.00\n";
    let outcome = import_rows(format!("{row}{row}"));
    assert_eq!(outcome.reasons(), ["2 order_rejected", "3 total_too_large"]);
}
