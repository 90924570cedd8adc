//! Which values a column takes. Each bad row is the second row of order `A`, whose first row goes down with it.

use super::outcome::{HEADER, import_rows, import_text};

#[test]
fn what_is_not_a_positive_integer_of_plain_digits_is_rejected() {
    for (place, column) in [(2, "customer_id"), (3, "product_id"), (4, "quantity")] {
        for value in [
            "",
            "0",
            "-1",
            "1.5",
            "1e3",
            "+5",
            " 5 ",
            "5 ",
            "٥",
            "0x10",
            "NaN",
            "inf",
            "null",
            "1,",
            "\" 5\"",
            "½",
            "12345678901234567890",
            "9223372036854775808",
        ] {
            let mut fields = ["2", "A", "7", "4", "1", "1.00", "1.00"];
            fields[place] = value;
            if value == "1," {
                fields[place] = "\"1,\"";
            }
            let outcome = import_rows(format!("1,A,7,4,1,1.00,1.00\n{}\n", fields.join(",")));
            let expected = [format!("3 invalid_{column} {column}"), "2 order_rejected".to_owned()];
            assert_eq!(outcome.reasons(), expected, "{column} {value:?}");
        }
    }
}

#[test]
fn a_quantity_has_31_bits_and_an_id_63() {
    let outcome = import_rows(
        "1,A,9223372036854775807,9223372036854775807,2147483647,0.01,21474836.47\n\
         2,B,7,4,2147483648,0.01,21474836.48\n\
         3,C,7,4,4294967296,0.01,42949672.96\n\
         4,D,7,4,4294967297,0.01,0.01\n",
    );
    assert_eq!(outcome.codes(), ["A"]);
    assert_eq!(
        outcome.reasons(),
        ["3 invalid_quantity quantity", "4 invalid_quantity quantity", "5 invalid_quantity quantity"]
    );
}

#[test]
fn a_price_is_a_plain_decimal_with_at_most_two_places() {
    for price in [
        "",
        "-1.00",
        "1.005",
        "1.000",
        "1e3",
        "+1.00",
        " 1.00",
        "$1.00",
        "1,50",
        ".5",
        "5.",
        "1.2.3",
        "NaN",
        "100000000.00",
        "99999999999999999999",
    ] {
        let outcome = import_rows(format!("1,A,7,4,1,1.00,1.00\n2,A,7,4,1,\"{price}\",1.00\n"));
        assert_eq!(outcome.reasons(), ["3 invalid_unit_price unit_price", "2 order_rejected"], "{price:?}");
    }
    let outcome =
        import_rows("1,A,7,4,3,5,15\n2,A,7,4,3,5.5,16.50\n3,A,7,4,1,0,0.00\n4,A,7,4,1,99999999.99,99999999.99\n");
    assert_eq!((outcome.accepted_rows, outcome.orders[0].order.total().get()), (4, 10_000_003_149));
}

#[test]
fn a_total_is_quantity_times_price_exactly() {
    for (total, reason) in [
        ("59.98", "wrong_total"),
        ("19.99", "wrong_total"),
        ("0", "wrong_total"),
        ("", "invalid_total"),
        ("59.970", "invalid_total"),
        ("-59.97", "invalid_total"),
        ("5.997e1", "invalid_total"),
        ("NaN", "invalid_total"),
    ] {
        let outcome = import_rows(format!("1,A,7,4,1,1.00,1.00\n2,A,7,4,3,19.99,{total}\n"));
        assert_eq!(outcome.reasons(), [format!("3 {reason} total"), "2 order_rejected".to_owned()], "{total:?}");
    }
    assert_eq!(import_rows("1,A,7,4,3,19.90,59.7\n").accepted_rows, 1);
}

#[test]
fn a_row_that_no_order_could_hold_is_rejected_whatever_its_total_says() {
    let outcome = import_rows("1,A,7,4,2147483647,99999999.99,1.00\n");
    assert_eq!(outcome.reasons(), ["2 total_too_large total"]);
    let outcome = import_text("order_code,customer_id,product_id,quantity,unit_price\nA,7,4,2147483647,99999999.99\n");
    assert_eq!(outcome.reasons(), ["2 total_too_large unit_price"]);
}

#[test]
fn a_code_is_bounded_printable_and_not_padded() {
    for code in ["", " ", " A", "A ", "A\u{a0}", "A\0", "\u{85}", &"x".repeat(129)] {
        let outcome = import_rows(format!("1,{code},7,4,1,1.00,1.00\n"));
        assert_eq!(outcome.reasons(), ["2 invalid_order_code order_code"], "{code:?}");
    }
    for code in ["'; DROP TABLE orders;--", "=cmd|' /C calc'!A0", "Übergröße-🦀", "\"a,b\"", "\"say \"\"hi\"\"\""]
    {
        assert_eq!(import_rows(format!("1,{code},7,4,1,1.00,1.00\n")).accepted_rows, 1, "{code:?}");
    }
}

#[test]
fn codes_that_look_like_others_are_rejected_and_take_their_orders_down() {
    for code in ["A\u{200b}", "A\u{ad}", "A\u{feff}", "\u{202e}A", "A\u{2060}", "A\u{fe0f}"] {
        let outcome = import_rows(format!("1,A,7,4,1,1.00,1.00\n2,{code},7,4,1,1.00,1.00\n3,B,7,4,1,1.00,1.00\n"));
        assert_eq!(outcome.codes(), ["B"], "{code:?}");
        assert_eq!(outcome.reasons(), ["3 invalid_order_code order_code", "2 order_rejected"], "{code:?}");
    }
    let outcome =
        import_rows("1,Caf\u{e9},7,4,1,1.00,1.00\n2,Cafe\u{301},7,4,1,1.00,1.00\n3,A\u{a0}1,7,4,1,1.00,1.00\n");
    assert!(outcome.codes().is_empty());
    let told: Vec<String> = outcome.rejects.iter().map(|reject| reject.reason.to_string()).collect();
    assert!(told[0].contains("NFC") && told[1].contains("U+00A0"), "{told:?}");
}

#[test]
fn a_padded_code_takes_the_order_down_that_it_was_meant_for() {
    let outcome = import_rows("1,A,7,4,1,1.00,1.00\n2, A,7,4,1,1.00,1.00\n");
    assert_eq!(outcome.reasons(), ["3 invalid_order_code order_code", "2 order_rejected"]);
}

#[test]
fn latin_1_is_rejected_row_by_row_and_column_by_column() {
    let rows = b"1,Gr\xf6\xdfe,7,4,1,1.00,1.00\n2,A,7,4,1,1.00,1.00\n\xe9,B,7,4,1,1.00,1.00\n4,B,7,4,1,1.00,1.00\n";
    let outcome = import_rows(rows);
    assert_eq!(outcome.codes(), ["A"]);
    assert_eq!(outcome.reasons(), ["2 invalid_utf8 order_code", "4 invalid_utf8 id", "5 order_rejected"]);
    assert_eq!(outcome.rejects[0].value, "Gr\u{fffd}\u{fffd}e");
}

#[test]
fn columns_come_in_any_order_and_the_optional_ones_may_be_absent() {
    let outcome = import_text("Unit_Price, QUANTITY ,product_id,customer_id,order_code\n19.99,3,4,17,ORD-1\n");
    let usual = import_rows("1,ORD-1,17,4,3,19.99,59.97\n");
    assert_eq!(outcome.orders, usual.orders);
    assert!(outcome.warnings.ignored_columns.is_empty());
}

#[test]
fn unknown_columns_are_ignored_with_a_warning() {
    let outcome = import_text(format!("note,{},colour\nhi,1,A,7,4,1,1.00,1.00,red\n", HEADER.trim_end()));
    assert_eq!(outcome.codes(), ["A"]);
    assert_eq!(outcome.warnings.ignored_columns, ["note", "colour"]);
}
