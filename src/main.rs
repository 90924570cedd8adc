//! `orderstream`: parse, pick a command, run it.

use std::process::ExitCode;

use orderstream::{cli::Cli, commands, exit};

fn main() -> ExitCode {
    pipeline::failpoint::setup();
    match Cli::read() {
        Ok(cli) => exit::report(commands::run(cli)),
        Err(error) => exit::report_usage(&error),
    }
}
