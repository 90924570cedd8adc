//! Measures the import without its publishing: `cargo run --release --example import_speed [ROWS [MEMORY_MIB]]`.

use std::{env, fs::File, hint::black_box, ops::ControlFlow, time::Instant};

use anyhow::Context;
use orderstream::{
    generate::{self, GenerateOptions},
    import::{self, ReadOptions, encode_order_into},
};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let rows = number(1_000_000).context("ROWS must be a number")?;
    let memory_mib = number(256).context("MEMORY_MIB must be a number")?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("orders.csv");

    let generate_options = GenerateOptions { rows, ..GenerateOptions::default() };
    timed("generate", rows, || generate::write_file(&path, &generate_options, true))?;

    let memory_bytes_max = usize::try_from(memory_mib * 1024 * 1024)?;
    let options = ReadOptions { memory_bytes_max, ..ReadOptions::default() };
    let parsed = timed("parse and group", rows, || {
        import::read(File::open(&path)?, &options, &mut |_| Ok(()), &mut |_| ControlFlow::Continue(()))
            .context("reading")
    })?;
    println!("{} orders, on disk: {}", parsed.orders, parsed.grouped.is_on_disk());

    timed("iterate", rows, || parsed.grouped.orders().try_for_each(|order| order.map(|order| drop(black_box(order)))))?;
    let mut message = Vec::new();
    timed("iterate and encode", rows, || {
        parsed.grouped.orders().try_for_each(|order| {
            order.map(|order| {
                message.clear();
                encode_order_into(&order.order, &mut message);
                black_box(&message);
            })
        })
    })?;
    Ok(())
}

/// Runs `work` and prints rows per second.
fn timed<T, E>(name: &str, rows: u64, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let done = work()?;
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = rows as f64 / seconds;
    println!("{name:<20} {seconds:>8.3} s {rate:>12.0} rows/s");
    Ok(done)
}
