//! `orderstream`: parse, pick a command, run it.

use std::process::ExitCode;

use clap::Parser;
use orderstream::{cli::Cli, commands, exit};

fn main() -> ExitCode {
    pipeline::failpoint::setup();
    let cli = Cli::parse();
    exit::report(commands::run(cli))
}
