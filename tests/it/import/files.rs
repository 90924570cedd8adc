//! The file as a whole: what makes it unreadable, and what is told while it is read.

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use orderstream::import::{self, ReadError, ReadOptions};

use super::outcome::{HEADER, import, import_rows, import_text};

fn refused(file: impl Read) -> ReadError {
    import(file, &ReadOptions::default()).expect_err("refused")
}

#[test]
fn an_empty_file_is_an_error_and_a_header_alone_is_not() {
    for text in ["", "\n", "\u{feff}", " \r\n\r\n"] {
        assert_eq!(refused(text.as_bytes()).to_string(), "the file is empty: it has not even a header", "{text:?}");
    }
    for text in [HEADER, HEADER.trim_end()] {
        let outcome = import_text(text);
        assert_eq!((outcome.rows, outcome.orders.len(), outcome.rejects.len()), (0, 0, 0));
    }
}

#[test]
fn a_missing_or_doubled_column_is_an_error_that_names_it() {
    for column in ["order_code", "customer_id", "product_id", "quantity", "unit_price"] {
        let text = HEADER.replace(column, "other");
        assert!(
            matches!(refused(text.as_bytes()), ReadError::MissingColumn { column: missing, .. } if missing == column)
        );
    }
    for column in HEADER.trim_end().split(',') {
        let text = format!("{},{}\n", column.to_uppercase(), HEADER.trim_end());
        assert!(matches!(refused(text.as_bytes()), ReadError::DoubledColumn { column: doubled } if doubled == column));
    }
}

#[test]
fn another_encoding_is_named() {
    assert!(matches!(refused(&b"\xff\xfe\0\0i\0\0\0"[..]), ReadError::Utf32));
    assert!(matches!(refused(&b"\x1f\x8b\x08\0"[..]), ReadError::Compressed { format: "gzip", .. }));
    assert!(matches!(refused(&b"PK\x03\x04\x14\0"[..]), ReadError::Workbook));
    assert!(matches!(refused(&[0; 100_000][..]), ReadError::NotText));
}

#[test]
fn what_spreadsheets_write_gives_the_same_orders() {
    let rows = ["1,A,7,4,3,19.99,59.97", "2,\"B, ü\",7,4,1,1.50,1.50", "3,A,7,5,1,0.5,0.50"];
    let expected = import_rows(rows.join("\n"));
    assert_eq!(expected.codes(), ["A", "B, ü"]);
    let plain = format!("{HEADER}{}\n,,,,,,\n", rows.join("\r\n"));
    for delimiter in [",", ";", "\t", "|"] {
        // Nothing but tabs is a blank line.
        let empty = u64::from(delimiter != "\t");
        let separated: String = plain
            .split_inclusive('"')
            .enumerate()
            .map(|(piece, text)| if piece % 2 == 0 { text.replace(',', delimiter) } else { text.to_owned() })
            .collect();
        // With another delimiter, the point may be a comma.
        let commas = if delimiter == "," { separated.clone() } else { separated.replace('.', ",") };
        for text in [&separated, &commas] {
            for head in [String::new(), format!("sep={delimiter}\r\n")] {
                let text = format!("{head}{text}");
                let utf16 = |mark: &str, to: fn(u16) -> [u8; 2]| -> Vec<u8> {
                    format!("{mark}{text}").encode_utf16().flat_map(to).collect()
                };
                for bytes in [
                    text.clone().into_bytes(),
                    format!("\u{feff}{text}").into_bytes(),
                    utf16("\u{feff}", u16::to_le_bytes),
                    utf16("\u{feff}", u16::to_be_bytes),
                    utf16("", u16::to_le_bytes),
                    utf16("", u16::to_be_bytes),
                ] {
                    let outcome = import_text(&bytes);
                    let orders: Vec<_> = outcome.orders.into_iter().map(|order| order.order).collect();
                    let expected: Vec<_> = expected.orders.iter().map(|order| order.order.clone()).collect();
                    assert_eq!(orders, expected, "{delimiter:?} {text:?}");
                    assert_eq!((outcome.rejected_rows, outcome.form.oddities.empty_rows), (0, empty));
                    assert_eq!(outcome.form.delimiter.to_string(), delimiter);
                }
            }
        }
    }
}

#[test]
fn a_decimal_comma_is_read_where_it_cannot_be_anything_else() {
    let header = HEADER.replace(',', ";");
    for (price, total, reason) in [
        ("19,99", "59,97", None),
        ("19,9", "59.7", None),
        ("1.234,50", "3.703,50", Some("invalid_unit_price unit_price")),
        ("1,234", "3,702", Some("invalid_unit_price unit_price")),
        ("1,2,3", "3", Some("invalid_unit_price unit_price")),
        ("1,00", "3,000", Some("invalid_total total")),
    ] {
        let outcome = import_text(format!("{header}1;A;7;4;3;{price};{total}\n"));
        let expected: Vec<String> = reason.map(|reason| format!("2 {reason}")).into_iter().collect();
        assert_eq!(outcome.reasons(), expected, "{price}");
    }
    // Where commas separate, one in quotes is none of a price.
    assert_eq!(import_rows("1,A,7,4,1,\"1,00\",1.00\n").reasons(), ["2 invalid_unit_price unit_price"]);
}

#[test]
fn a_name_that_only_looks_right_is_told_by_what_nobody_sees() {
    for unseen in ['\u{200b}', '\u{feff}', '\u{ad}', '\u{202e}'] {
        let error = refused(HEADER.replace("customer_id", &format!("cust{unseen}omer_id")).as_bytes()).to_string();
        let number = format!("U+{:04X}", u32::from(unseen));
        assert!(error.contains("looks like customer_id") && error.contains(&number), "{error}");
    }
    // Blanks of any kind around a name do no harm.
    let outcome = import_text(HEADER.replace("customer_id", "\u{a0}customer_id\u{3000}") + "1,A,7,4,1,1.00,1.00\n");
    assert_eq!(outcome.codes(), ["A"]);
}

#[test]
fn a_header_without_end_is_refused_in_bounded_memory() {
    assert!(matches!(refused(io::repeat(b'x').take(100 << 20)), ReadError::HeaderTooLong));
}

#[test]
fn the_fingerprint_is_that_of_the_file() {
    // printf 'id,order_code,…\n1,A,7,4,1,1.00,1.00\n' | sha256sum
    let outcome = import_rows("1,A,7,4,1,1.00,1.00\n");
    assert_eq!(outcome.sha256, "7ff8908f093390034f4775e4755aa0cb9e239948f3f1e549f2a357d4a64de7c4");
}

#[test]
fn an_error_amid_the_file_says_where() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let error = refused(HEADER.as_bytes().chain(&b"1,A,7"[..]).chain(Broken));
    assert_eq!(error.to_string(), "reading failed after 68 bytes, in the line after line 1");
}

#[test]
fn progress_is_told_and_may_stop_the_import() {
    let text = HEADER.to_owned() + &"1,A,7,4,1,1.00,1.00\n".repeat(200_000);
    let mut calls = Vec::new();
    let error = import::read(text.as_bytes(), &ReadOptions::default(), &mut |_| Ok(()), &mut |progress| {
        calls.push((progress.bytes, progress.rows));
        if calls.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(error, Err(ReadError::Interrupted)));
    assert!(calls[0] < calls[1] && calls[1].1 < 200_000);
}

#[test]
fn the_import_may_be_stopped_while_orders_are_put_together() {
    let text = HEADER.to_owned() + &"1,A,7,4,1,1.00,1.00\n".repeat(200_000);
    let error = import::read(text.as_bytes(), &ReadOptions::default(), &mut |_| Ok(()), &mut |progress| {
        if progress.rows == 200_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(error, Err(ReadError::Interrupted)));
}

#[test]
fn a_directory_for_temporary_files_that_is_not_there_is_named() {
    let options = ReadOptions { memory_bytes_max: 0, spill_dir: "/nowhere".into(), ..ReadOptions::default() };
    let text = HEADER.to_owned() + "1,A,7,4,1,1.00,1.00\n";
    let error = import(text.as_bytes(), &options).expect_err("refused");
    assert_eq!(error.to_string(), "temporary files in /nowhere failed");
}

#[test]
fn a_sink_that_fails_stops_the_import() {
    let error = import::read(
        &b"id,order_code,customer_id,product_id,quantity,unit_price,total\nx\n"[..],
        &ReadOptions::default(),
        &mut |_| Err(io::ErrorKind::StorageFull.into()),
        &mut |_| ControlFlow::Continue(()),
    );
    assert!(matches!(error, Err(ReadError::Rejects(_))));
}
