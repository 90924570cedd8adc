//! `orderstream generate`.

use std::{io, time::Instant};

use anyhow::Context;
use serde_json::json;

use crate::{
    cli::GenerateArgs,
    config::Globals,
    exit::{Exit, Refusal},
    generate::{self, GenerateOptions},
    output::{self, thousands},
};

pub(super) fn run(args: &GenerateArgs, globals: &Globals) -> anyhow::Result<Exit> {
    let options = GenerateOptions {
        rows: args.rows,
        seed: args.seed,
        skew: args.skew,
        customers: args.customers,
        products: args.products,
        mixed_customers: args.mixed_customers,
    };
    let started = Instant::now();
    let written = match args.file.as_os_str() == "-" {
        true => generate::write(io::stdout().lock(), &options),
        false => generate::write_file(&args.file, &options, args.force),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(Refusal::new(Exit::Usage, error.to_string()).into());
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already: name another file, or add --force", args.file.display());
            return Err(Refusal::new(Exit::Conflict, message).into());
        }
        // `orderstream generate - | head` ends the reader first.
        Err(error) if args.file.as_os_str() == "-" && error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(Exit::Done);
        }
        written => written.with_context(|| format!("cannot write {}", args.file.display()))?,
    }
    // The file itself is what goes to standard output where that is its place.
    if globals.json && args.file.as_os_str() != "-" {
        output::json(&json!({ "file": args.file.display().to_string(), "rows": args.rows }))?;
    }
    if !globals.quiet {
        crate::output::note!("{} rows in {:.2} s", thousands(args.rows), started.elapsed().as_secs_f64());
    }
    Ok(Exit::Done)
}
