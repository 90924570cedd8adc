//! The shape of a row: quotes, line ends, columns, length.

use std::io::Read;

use orderstream::import::{LINE_BYTES_MAX, ReadOptions};

use crate::outcome::{HEADER, import, import_rows, import_text};

#[test]
fn every_line_end_and_a_byte_order_mark_give_the_same_orders() {
    let text = format!("{HEADER}1,A,7,4,1,1.00,1.00\n\n2,B,7,4,2,1.00,2.00\n3,A,7,5,1,1.00,1.00\n");
    let expected = import_text(&text);
    assert_eq!((expected.codes(), expected.rows), (vec!["A", "B"], 3));
    let mixed = text.replacen('\n', "\r\n", 1).replacen("\n2", "\r2", 1);
    let unended = text.trim_end().to_owned();
    for text in [text.replace('\n', "\r\n"), text.replace('\n', "\r"), mixed, unended] {
        for bom in ["", "\u{feff}"] {
            let outcome = import_text(format!("{bom}{text}"));
            assert_eq!((outcome.orders, outcome.rows), (expected.orders.clone(), 3), "{bom}{text:?}");
        }
    }
}

#[test]
fn blank_lines_are_not_rows_but_count_as_lines() {
    let outcome = import_text(format!("\n \t\n{HEADER}\n  \n1,A,7,4,0,1.00,1.00\n\n"));
    assert_eq!((outcome.rows, outcome.reasons()), (1, vec!["6 invalid_quantity quantity".to_owned()]));
    // What follows so many blanks is not seen, so that they are not taken for nothing.
    assert_eq!(import_rows(" ".repeat(LINE_BYTES_MAX + 1)).reasons(), ["2 line_too_long"]);
    assert_eq!(import_rows(",,,,,,\n").reasons(), ["2 invalid_order_code order_code"]);
}

#[test]
fn quotes_may_stand_around_any_field() {
    let outcome = import_rows("\"1\",\"A,\"\"1\"\"\",\"7\",\"4\",\"3\",\"19.99\",\"59.97\"\r\n");
    assert_eq!(outcome.codes(), ["A,\"1\""]);
}

#[test]
fn an_unbalanced_quote_rejects_its_row_and_swallows_nothing() {
    for (row, column) in [
        ("2,\"A,7,4,1,1.00,1.00", "order_code"),
        ("\"2,A,7,4,1,1.00,1.00", "id"),
        ("2,A,7,4,1,1.00,\"1.00", "total"),
        ("2,A,7,4,\"1,1.00,1.00", "quantity"),
    ] {
        let outcome = import_rows(format!("1,A,7,4,1,1.00,1.00\n{row}\n3,B,7,4,1,1.00,1.00\n4,C,7,4,1,1.00,1.00\n"));
        assert_eq!(outcome.codes(), ["B", "C"], "{row}");
        assert_eq!(outcome.reasons(), [format!("3 unbalanced_quote {column}"), "2 order_rejected".to_owned()], "{row}");
    }
}

#[test]
fn a_quoted_line_break_rejects_both_halves_and_the_order() {
    let outcome = import_rows("1,A,7,4,1,1.00,1.00\n2,\"A\n\",7,4,1,1.00,1.00\n3,B,7,4,1,1.00,1.00\n");
    assert_eq!(outcome.codes(), ["B"]);
    assert_eq!(outcome.reasons(), ["3 unbalanced_quote order_code", "4 unbalanced_quote id", "2 order_rejected"]);

    // Without further columns before the code, the second half has the right number of columns.
    let outcome = import_text(
        "order_code,customer_id,product_id,quantity,unit_price\n\"A\nB\",7,4,1,1.00\nA,7,4,1,1.00\nC,7,4,1,1.00\n",
    );
    assert_eq!(outcome.codes(), ["C"]);
    assert_eq!(
        outcome.reasons(),
        ["2 unbalanced_quote order_code", "3 misplaced_quote order_code", "4 order_rejected"]
    );
}

#[test]
fn a_quote_amid_a_field_is_rejected() {
    for row in ["2,A\"1,7,4,1,1.00,1.00", "2,\"A\"1,7,4,1,1.00,1.00", "2,\"A\" ,7,4,1,1.00,1.00"] {
        assert_eq!(import_rows(row).reasons(), ["2 misplaced_quote order_code"], "{row}");
    }
}

#[test]
fn a_row_has_as_many_columns_as_the_header() {
    for (row, reason) in [
        ("2,A,7,4,1,1.00", "too_few_columns"),
        ("2,A,7", "too_few_columns"),
        ("2,A", "too_few_columns"),
        ("2,A,7,4,1,1.00,1.00,", "too_many_columns"),
        ("2,A,7,4,1,1,050.00,1050.00", "too_many_columns"),
    ] {
        let outcome = import_rows(format!("1,A,7,4,1,1.00,1.00\n{row}\n3,B,7,4,1,1.00,1.00\n"));
        assert_eq!(outcome.reasons(), [format!("3 {reason}"), "2 order_rejected".to_owned()], "{row}");
        assert_eq!(outcome.rejects[0].value, row);
    }
}

#[test]
fn a_file_that_ends_amid_a_row_says_so() {
    for (row, rejected) in [
        ("3,A,7,4,1,1.0", vec!["4 cut_off", "2 order_rejected"]),
        ("3,A,", vec!["4 cut_off", "2 order_rejected"]),
        ("3,A", vec!["4 cut_off"]),
    ] {
        let outcome = import_rows(format!("1,A,7,4,1,1.00,1.00\n2,B,7,4,1,1.00,1.00\n{row}"));
        assert_eq!(outcome.reasons(), rejected, "{row}");
    }
    // Cut within the last column, the total tells.
    let outcome = import_rows("1,A,7,4,3,19.99,59.9");
    assert_eq!(outcome.reasons(), ["2 wrong_total total"]);
}

#[test]
fn a_line_over_the_bound_is_rejected_with_its_order() {
    let long = "x".repeat(LINE_BYTES_MAX + 1);
    let outcome = import_rows(format!(
        "1,A,7,4,1,1.00,1.00\n2,A,7,4,1,1.00,{long}\n3,B,7,4,1,1.00,1.00\n{long}\n2,\"B,7,{long}\n5,C,7,4,1,1.00,1.00\n"
    ));
    assert_eq!(outcome.codes(), ["C"]);
    assert_eq!(
        outcome.reasons(),
        ["3 line_too_long", "5 line_too_long", "6 line_too_long", "2 order_rejected", "4 order_rejected"]
    );
}

#[test]
fn a_line_of_hundreds_of_megabytes_is_one_rejected_row() {
    let file = HEADER
        .as_bytes()
        .chain(&b"1,A,7,"[..])
        .chain(std::io::repeat(b'9').take(300 << 20))
        .chain(&b"\n2,A,7,4,1,1.00,1.00\n3,B,7,4,1,1.00,1.00\n"[..]);
    let outcome = import(file, &ReadOptions::default()).expect("readable");
    assert_eq!(outcome.codes(), ["B"]);
    assert_eq!(outcome.reasons(), ["2 line_too_long", "3 order_rejected"]);
}
