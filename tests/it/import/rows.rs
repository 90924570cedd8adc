//! The shape of a row: quotes, line ends, columns, length.

use std::io::Read;

use orderstream::import::{LINE_BYTES_MAX, ROW_LINES_MAX, ReadOptions};

use super::outcome::{HEADER, import, import_rows, import_text};

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
}

#[test]
fn quotes_may_stand_around_any_field() {
    let outcome = import_rows("\"1\",\"A,\"\"1\"\"\",\"7\",\"4\",\"3\",\"19.99\",\"59.97\"\r\n");
    assert_eq!(outcome.codes(), ["A,\"1\""]);
}

#[test]
fn rows_of_nothing_but_delimiters_are_no_rows() {
    let outcome =
        import_rows("1,A,7,4,1,1.00,1.00\n,,,,,,\n ,\t,,,,,\n\"\",\"\",,,,,\n,,,\n2,B,7,4,1,1.00,1.00\n,,,,,,");
    assert_eq!((outcome.codes(), outcome.rows, outcome.reasons()), (vec!["A", "B"], 2, vec![]));
    assert_eq!(outcome.form.oddities.empty_rows, 5);
    // One value, and it is a row.
    assert_eq!(import_rows("7,,,,,,\n").reasons(), ["2 invalid_order_code order_code"]);
}

/// A header with a column for notes.
const NOTED: &str = "order_code,customer_id,product_id,quantity,unit_price,note\n";

#[test]
fn a_quoted_note_goes_over_lines_and_none_of_them_is_an_order() {
    for end in ["\n", "\r\n", "\r"] {
        let text = format!(
            "{NOTED}A,1,1,1,10.00,first\nNOTE-1,1,1,1,10.00,\"please ring\nEVIL-1,2,2,50,0.01,x\n\nsay \"\"thanks\"\"\"\nB,1,1,1,1.00,\n"
        );
        let outcome = import_text(text.replace('\n', end));
        assert_eq!(outcome.codes(), ["A", "NOTE-1", "B"], "{end:?}");
        assert_eq!((outcome.rows, outcome.reasons()), (3, vec![]));
        let lines: Vec<u64> = outcome.orders.iter().map(|order| order.first_line).collect();
        assert_eq!(lines, [2, 3, 7], "numbers of lines are those of the file");
        assert_eq!(outcome.form.oddities.first_of_several_lines, Some(3));
    }
    // At the end of the file, and with an error behind it that names its own line.
    let outcome = import_text(format!("{NOTED}A,1,1,1,10.00,\"a\nb\"\nB,1,1,x,1.00,\nC,1,1,1,1.00,\"c\nd\""));
    assert_eq!((outcome.codes(), outcome.reasons()), (vec!["A", "C"], vec!["4 invalid_quantity quantity".to_owned()]));
}

#[test]
fn a_quote_that_is_never_closed_rejects_what_it_swallows() {
    for (row, column) in [
        ("2,\"A,7,4,1,1.00,1.00", "order_code"),
        ("\"2,A,7,4,1,1.00,1.00", "id"),
        ("2,A,7,4,1,1.00,\"1.00", "total"),
        ("2,A,7,4,\"1,1.00,1.00", "quantity"),
    ] {
        let outcome = import_rows(format!(
            "1,A,7,4,1,1.00,1.00\n0,D,7,4,1,1.00,1.00\n{row}\n3,B,7,4,1,1.00,1.00\n\n4,C,7,4,1,1.00,1.00\n"
        ));
        assert_eq!(outcome.codes(), ["D"], "{row}");
        let expected = [
            format!("4 unbalanced_quote {column}"),
            "5 unbalanced_quote".to_owned(),
            "7 unbalanced_quote".to_owned(),
            "2 order_rejected".to_owned(),
        ];
        assert_eq!(outcome.reasons(), expected, "{row}");
        let told = outcome.rejects[1].reason.to_string();
        assert!(told.starts_with("a quote in the row of line 4 is never closed"), "{told}");
    }
}

#[test]
fn an_order_of_which_a_row_is_swallowed_does_not_ship() {
    let outcome = import_text(format!("{NOTED}A,1,1,1,1.00,x\nB,1,1,1,1.00,x\nC,1,1,1,1.00,\"open\nA,1,1,1,1.00,x\n"));
    assert_eq!(outcome.codes(), ["B"]);
    assert_eq!(outcome.reasons(), ["4 unbalanced_quote note", "5 unbalanced_quote", "2 order_rejected"]);
}

#[test]
fn what_stands_behind_quotes_that_end_amid_text_is_never_an_order() {
    // The quote of line 2 is closed by the one that should open the note of line 4: what is text is not to be told.
    let evil = "EVIL-1,2,2,50,0.01,x";
    for broken in [
        format!(
            "A,1,1,1,10.00,\"5 inch\nB,1,1,1,10.00,x\nNOTE-1,1,1,1,10.00,\"please ring\n{evil}\nthanks\"\nC,1,1,1,1.00,x\n"
        ),
        format!("NOTE-1,1,1,1,10.00,\"see \"x\" please\n{evil}\nthanks\"\nC,1,1,1,1.00,x\n"),
        format!("NOTE-1,1,1,1,10.00, \"please ring\n{evil}\nthanks\"\nC,1,1,1,1.00,x\n"),
        // An even number of quotes, of which a program that doubles none closes only the last.
        format!("NOTE-1,1,1,1,10.00,\"he said \"please\n{evil}\nand\" thanks\"\nC,1,1,1,1.00,x\n"),
        // As MySQL and PHP write it: a backslash makes the quote a character, and the line break, too.
        format!("NOTE-1,1,1,1,10.00,\"say \\\"hi\\\n{evil}\\\nto the porter\\\"\"\nC,1,1,1,1.00,x\n"),
        format!("NOTE-1,1,1,1,10.00,\"say \\\"\n{evil}\nhi\\\"\"\nC,1,1,1,1.00,x\n"),
        format!("NOTE-1,1,1,1,10.00,\"say \\\", and\n{evil}\nthanks\"\nC,1,1,1,1.00,x\n"),
        format!("NOTE-1,1,1,1,10.00,\"please ring\n{evil}\nthanks\" x\nC,1,1,1,1.00,x\n"),
        format!("NOTE-1,1,1,1,10.00,\"{}\n{evil}\nthanks\"\n", "x".repeat(LINE_BYTES_MAX)),
        format!("NOTE-1,1,1,1,10.00,\"{}{evil}\nthanks\"\n", "x\n".repeat(ROW_LINES_MAX)),
        format!("NOTE-1,1,1,1,10.00,\"a\n{}\n{evil}\nthanks\"\n", "x".repeat(LINE_BYTES_MAX)),
        format!("NOTE-1,1,1,1,10.00,\"a\n{}\n{evil}\nthanks\"\n", "x".repeat(LINE_BYTES_MAX + 1)),
    ] {
        let outcome = import_text(format!("{NOTED}FIRST,1,1,1,1.00,x\n{broken}"));
        assert_eq!(outcome.codes(), ["FIRST"], "{}", &broken[..60]);
        assert!(outcome.reasons()[0].starts_with("3 unbalanced_quote"), "{:?}", &outcome.reasons()[..1]);
    }
    // A quote amid a bare field opens nothing, but a later field of its row may.
    let row = format!("NOTE-1,1,5\" pipe,1,10.00,\"please ring\n{evil}\nthanks\"\nC,1,1,1,1.00,x\n");
    let outcome = import_text(format!("{NOTED}{row}"));
    assert_eq!((outcome.codes(), outcome.reasons()), (vec!["C"], vec!["2 misplaced_quote product_id".to_owned()]));
}

#[test]
fn a_text_without_a_field_of_its_own_is_no_order_and_what_follows_it_is() {
    let (evil, good) = ("EVIL,2,2,50,0.01,x\n", "Z,1,1,1,1.00,x\n");
    let x = "x".repeat(LINE_BYTES_MAX + 1);
    for text in [
        // Texts near each other, of which the second has a field of its own: no row between them is certain.
        format!("A,1,1,1,1.00,note: \"a\n{evil}b\"\n{}B,1,1,1,1.00,\"c\n{evil}d\"\n", evil.repeat(ROW_LINES_MAX - 1)),
        format!("A,1,1,1,\"1.0\n0\",note: \"c\n{evil}d\"\n"),
        format!("A,1,1,1,1.00,note: \"a\n{evil}{x}\n{evil}d\"\n"),
    ] {
        let outcome = import_text(format!("{NOTED}{text}{good}"));
        assert_eq!(outcome.codes(), ["Z"], "{}", &text[..40]);
        assert!(outcome.reasons().iter().all(|reason| reason.contains("unbalanced_quote")), "{:?}", outcome.reasons());
    }
    // Line breaks of another kind than those of the file, where not all that they end are rows.
    let head = format!("{NOTED}{good}").replace('\n', "\r\n");
    for (text, codes) in [
        ("A,1,1,1,1.00,a\nEVIL,2,2,50,0.01,x\nthanks\r\n", vec!["Z", "Y"]),
        ("A,1,1,1,1.00,a\rEVIL,2,2,50,0.01,x\rthanks\r\n", vec!["Z", "Y"]),
        ("A,1,1,1,1.00,a\nEVIL,2,2,50,0.01,x\n\nthanks,\"b\r\n", vec!["Z"]),
        ("A,1,1,1,1.00,x\nB,1,1,1,1.00,x\n\n", vec!["Z", "A", "B", "Y"]),
        ("A,1,1,1,1.00,\"a\nEVIL,2,2,50,0.01,x\"\r\n", vec!["Z", "A", "Y"]),
    ] {
        let outcome = import_text(format!("{head}{text}Y,1,1,1,1.00,x\r\n"));
        assert_eq!(outcome.codes(), codes, "{text:?}");
    }
    let unix = "A,1,1,1,1.00,a\r\nEVIL,2,2,50,0.01,x\r\nthanks\n";
    assert_eq!(import_text(format!("{NOTED}{good}{unix}Y,1,1,1,1.00,x\n")).codes(), ["Z", "Y"]);
    // Quotes of a line of which the end is not known.
    for text in [format!("A,1,1,1,1.00,note: \"{x}\n{evil}"), format!("A,1,1,1,1.00,note: \"a\n{x},\"\n{evil}")] {
        assert_eq!(import_text(format!("{NOTED}{text}{good}")).codes(), [""; 0], "{}", &text[..40]);
    }
}

#[test]
fn a_row_within_its_bounds_is_read_however_many_lines_it_has() {
    for note in ["x\n".repeat(ROW_LINES_MAX - 1), "x".repeat(LINE_BYTES_MAX - 40) + "\nx"] {
        let outcome = import_text(format!("{NOTED}A,1,1,1,1.00,\"{note}\"\nB,1,1,1,1.00,x\n"));
        assert_eq!((outcome.codes(), outcome.rejected_rows), (vec!["A", "B"], 0));
    }
}

#[test]
fn a_quoted_line_break_in_a_code_rejects_its_row_and_order() {
    let outcome = import_rows("1,A,7,4,1,1.00,1.00\n2,\"A\n\",7,4,1,1.00,1.00\n3,B,7,4,1,1.00,1.00\n");
    assert_eq!(outcome.codes(), ["B"]);
    assert_eq!(outcome.reasons(), ["3 invalid_order_code order_code", "2 order_rejected"]);
}

#[test]
fn a_quote_amid_a_field_is_rejected() {
    for row in ["2,A\"1,7,4,1,1.00,1.00", "2,\"A\" 1\" B\",7,4,1,1.00,1.00", "2,\"A\" ,7,4,1,1.00,1.00"] {
        assert_eq!(import_rows(row).reasons(), ["2 misplaced_quote order_code"], "{row}");
    }
    // A program that doubles no quotes has not closed this one yet.
    assert_eq!(import_rows("2,\"A\"1,7,4,1,1.00,1.00").reasons(), ["2 unbalanced_quote order_code"]);
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
        "1,A,7,4,1,1.00,1.00\n2,A,7,4,1,1.00,{long}\n3,B,7,4,1,1.00,1.00\n{long}\n2,\"B\",7,{long}\n5,C,7,4,1,1.00,1.00\n"
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
