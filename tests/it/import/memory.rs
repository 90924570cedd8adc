//! Files beyond the budget of memory give what others give.

use std::collections::HashSet;

use orderstream::{
    generate::{self, GenerateOptions},
    import::ReadOptions,
};
use proptest::{prelude::*, sample::Index};

use super::outcome::{HEADER, Outcome, import};

fn within(memory_bytes_max: usize, strict: bool, file: &[u8]) -> Outcome {
    let options = ReadOptions { memory_bytes_max, strict, ..ReadOptions::default() };
    import(file, &options).expect("readable")
}

/// Everything but where it was kept.
fn comparable(outcome: Outcome) -> Outcome {
    Outcome { on_disk: false, ..outcome }
}

#[test]
fn a_generated_file_is_the_same_order_by_order_when_it_spills() {
    let mut file = Vec::new();
    let options = GenerateOptions { rows: 50_000, mixed_customers: true, ..GenerateOptions::default() };
    generate::write(&mut file, &options).expect("in memory");
    let in_memory = within(usize::MAX, false, &file);
    assert!(!in_memory.on_disk);
    for memory_bytes_max in [20_000, 1_000_000] {
        let spilled = within(memory_bytes_max, false, &file);
        assert!(spilled.on_disk);
        assert!(comparable(spilled) == comparable(in_memory.clone()), "with {memory_bytes_max} bytes");
    }
}

#[test]
fn an_order_far_larger_than_memory_is_rejected_row_by_row() {
    let file = HEADER.to_owned() + &"1,A,7,4,1,1.00,1.00\n".repeat(100_000) + "1,B,7,4,1,1.00,1.00\n";
    let outcome = within(100_000, false, file.as_bytes());
    assert_eq!((outcome.codes(), outcome.rejected_rows), (vec!["B"], 100_000));
}

/// A row of one of few orders: mostly good, sometimes bad in one of several ways.
fn row() -> impl Strategy<Value = String> {
    let order = 0..40_u32;
    prop_oneof![
        60 => (order.clone(), 1..3_i64, 1..6_i64, 1..5_000_i64).prop_map(|(order, customer, quantity, cents)| {
            let amount = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
            format!("1,ORD-{order},{customer},4,{quantity},{},{}", amount(cents), amount(cents * quantity))
        }),
        1 => order.clone().prop_map(|order| format!("1,ORD-{order},7,4,0,1.00,0.00")),
        1 => order.clone().prop_map(|order| format!("1,\"ORD-{order},7,4,1,1.00,1.00")),
        1 => order.clone().prop_map(|order| format!("1,ORD-{order},7")),
        1 => order.prop_map(|order| format!("1,ORD-{order},7,4,900719,99999999.99,90071899990992.81")),
        1 => Just(String::new()),
    ]
}

/// Line and code of every row, as the crate `csv` reads them.
fn rows_of_another_reader(file: &[u8]) -> HashSet<(u64, String)> {
    let mut rows = HashSet::new();
    // It counts LF only; numbers of lines are asked for by the place in the file.
    let mut line_of = vec![1; file.len() + 1];
    let mut line = 1;
    for (at, byte) in file.iter().enumerate() {
        line_of[at] = line;
        line += u64::from(*byte == b'\n' || (*byte == b'\r' && file.get(at + 1) != Some(&b'\n')));
    }
    line_of[file.len()] = line;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    for row in reader.byte_records() {
        let row = row.expect("in memory");
        // It begins behind line ends that it has skipped.
        let mut at = usize::try_from(row.position().expect("a place").byte()).expect("small");
        while file.get(at).is_some_and(|byte| b"\r\n".contains(byte)) {
            at += 1;
        }
        if let Some(Ok(code)) = row.get(1).map(std::str::from_utf8) {
            rows.insert((line_of[at], code.to_owned()));
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_file_gives_the_same_under_any_budget(
        rows in prop::collection::vec(row(), 0..300),
        memory_bytes_max in prop_oneof![Just(0_usize), 8_000..40_000_usize],
        strict in any::<bool>(),
    ) {
        let file = format!("{HEADER}{}", rows.join("\n"));
        let in_memory = within(usize::MAX, strict, file.as_bytes());
        let spilled = within(memory_bytes_max, strict, file.as_bytes());
        prop_assert_eq!(comparable(spilled), in_memory);
    }

    /// That no row is lost or counted twice is checked by `import` for every file.
    #[test]
    fn a_damaged_file_loses_no_row(
        rows in prop::collection::vec(row(), 1..60),
        damage in prop::collection::vec((any::<Index>(), prop::sample::select(&b"\",\n\r\0\xff1-A "[..]), 0..3_u8), 0..40),
        memory_bytes_max in prop_oneof![Just(usize::MAX), Just(10_000_usize)],
    ) {
        let mut body = rows.join("\n").into_bytes();
        for (place, byte, kind) in damage {
            let place = place.index(body.len() + 1);
            match kind {
                0 => body.insert(place, byte),
                1 if place < body.len() => body[place] = byte,
                2 if place < body.len() => _ = body.remove(place),
                _ => body.truncate(body.len() * 9 / 10),
            }
        }
        let file = [HEADER.as_bytes(), &body].concat();
        let outcome = within(memory_bytes_max, false, &file);
        // Counted the plain way where there are no quotes: every line end ends a row, and empty lines are none.
        let lines = body.split(|byte| b"\r\n".contains(byte));
        let rows = lines.filter(|line| line.iter().any(|byte| !b" \t,".contains(byte))).count() as u64;
        match body.contains(&b'"') {
            true => prop_assert!(outcome.rows <= rows),
            false => prop_assert_eq!(outcome.rows, rows),
        }
        // Whatever becomes an order is a row in the eyes of another reader, too.
        let others = rows_of_another_reader(&file);
        for order in &outcome.orders {
            let code = order.order.code().as_str();
            prop_assert!(others.contains(&(order.first_line, code.to_owned())), "{} {code}", order.first_line);
        }
    }

    /// A file that is CSV has the rows that it was written with, whatever stands in them.
    #[test]
    fn what_a_csv_writer_writes_is_read_back(
        rows in prop::collection::vec(("[A-Z]{1,3}", "([a-z0-9,;\"\n\r \t]|EVIL,1,1,1,1\n){0,20}"), 0..30),
        delimiter in prop::sample::select(&b",;\t|"[..]),
        quote_all in any::<bool>(),
    ) {
        let style = if quote_all { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).quote_style(style).from_writer(Vec::new());
        writer.write_record(["note", "order_code", "customer_id", "product_id", "quantity", "unit_price"]).expect("in memory");
        for (code, note) in &rows {
            writer.write_record([note, code, "7", "4", "1", "1.00"]).expect("in memory");
        }
        let outcome = within(usize::MAX, false, &writer.into_inner().expect("in memory"));
        prop_assert_eq!(outcome.rejected_rows, 0, "{:?}", outcome.rejects);
        prop_assert_eq!(outcome.rows, rows.len() as u64);
        let mut codes: Vec<&str> = rows.iter().map(|(code, _)| code.as_str()).collect();
        let mut read: Vec<&str> =
            outcome.orders.iter().flat_map(|order| vec![order.order.code().as_str(); order.rows()]).collect();
        codes.sort_unstable();
        read.sort_unstable();
        prop_assert_eq!(read, codes);
    }
}
