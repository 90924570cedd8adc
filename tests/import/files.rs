//! The file as a whole: what makes it unreadable, and what is told while it is read.

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use orderstream::import::{self, ReadError, ReadOptions};

use crate::outcome::{HEADER, import, import_rows, import_text};

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
    let utf16: Vec<u8> = "\u{feff}id,order_code".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(matches!(refused(&utf16[..]), ReadError::NotUtf8));
    let utf16: Vec<u8> = "\u{feff}id,order_code".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(matches!(refused(&utf16[..]), ReadError::NotUtf8));
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
