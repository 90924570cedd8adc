//! What README.md and docs/CONTRACTS.md say of the command line and the import is what the program does, both ways.

use std::{collections::BTreeSet, fs, path::Path};

use clap::{CommandFactory, Parser};
use orderstream::{
    cli::{Cli, Command},
    exit::Exit,
    import::{LINE_BYTES_MAX, ROW_LINES_MAX, Reason, Unclosed},
};
use pipeline::domain::{Cents, CustomerId, InvalidOrder, InvalidRefund};

const README: &str = include_str!("../../README.md");
const CONTRACTS: &str = include_str!("../../docs/CONTRACTS.md");

#[test]
fn the_reasons_of_rejected_rows_are_those_of_the_code() {
    let all = std::iter::successors(Some(Reason::UnbalancedQuote { line: 1, why: Unclosed::Never }), |reason| {
        reason_after(*reason)
    });
    let codes: Vec<String> = all.map(|reason| reason.code().to_owned()).collect();
    let documented: Vec<String> = rows(CONTRACTS, "### Rejected rows").iter().map(|row| word(&row[0])).collect();
    assert_eq!(documented, codes);
}

/// Exhaustive: whoever adds a reason comes by here.
fn reason_after(reason: Reason) -> Option<Reason> {
    match reason {
        Reason::UnbalancedQuote { .. } => Some(Reason::LineTooLong),
        Reason::LineTooLong => Some(Reason::MisplacedQuote),
        Reason::MisplacedQuote => Some(Reason::CutOff { found: 1, expected: 2 }),
        Reason::CutOff { .. } => Some(Reason::TooFewColumns { found: 1, expected: 2 }),
        Reason::TooFewColumns { .. } => Some(Reason::TooManyColumns { found: 2, expected: 1 }),
        Reason::TooManyColumns { .. } => Some(Reason::InvalidUtf8),
        Reason::InvalidUtf8 => Some(Reason::InvalidOrderCode(InvalidOrder::CodeEmpty)),
        Reason::InvalidOrderCode(_) => Some(Reason::SpoiltCode),
        Reason::SpoiltCode => Some(Reason::InvalidCustomerId),
        Reason::InvalidCustomerId => Some(Reason::InvalidProductId),
        Reason::InvalidProductId => Some(Reason::InvalidQuantity),
        Reason::InvalidQuantity => Some(Reason::InvalidUnitPrice),
        Reason::InvalidUnitPrice => Some(Reason::InvalidTotal),
        Reason::InvalidTotal => Some(Reason::TotalTooLarge),
        Reason::TotalTooLarge => Some(Reason::WrongTotal { expected: Cents::ZERO }),
        Reason::WrongTotal { .. } => Some(Reason::SeveralCustomers { first: CustomerId(1) }),
        Reason::SeveralCustomers { .. } => Some(Reason::TooManyLines),
        Reason::TooManyLines => Some(Reason::OrderRejected { line: 1 }),
        Reason::OrderRejected { .. } => Some(Reason::InvalidRefundKey(InvalidRefund::KeyLength)),
        Reason::InvalidRefundKey(_) => Some(Reason::InvalidAmount),
        Reason::InvalidAmount => Some(Reason::InvalidReason),
        Reason::InvalidReason => Some(Reason::InvalidRestock),
        Reason::InvalidRestock => Some(Reason::ConflictingKey { line: 1 }),
        Reason::ConflictingKey { .. } => None,
    }
}

#[test]
fn the_exit_codes_are_those_of_the_code() {
    let all = std::iter::successors(Some(Exit::Done), |exit| exit_after(*exit));
    let codes: Vec<String> = all.map(|exit| exit.code().to_string()).collect();
    let documented: Vec<String> = rows(CONTRACTS, "## Command line")
        .iter()
        .filter(|row| row[0].chars().all(|character| character.is_ascii_digit()))
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(documented, codes);
}

/// Exhaustive: whoever adds an exit comes by here.
fn exit_after(exit: Exit) -> Option<Exit> {
    match exit {
        Exit::Done => Some(Exit::Failed),
        Exit::Failed => Some(Exit::Usage),
        Exit::Usage => Some(Exit::Rejected),
        Exit::Rejected => Some(Exit::Difference),
        Exit::Difference => Some(Exit::NotFound),
        Exit::NotFound => Some(Exit::Conflict),
        Exit::Conflict => Some(Exit::Unreachable),
        Exit::Unreachable => Some(Exit::Alert),
        Exit::Alert => Some(Exit::Interrupted),
        // `dev -- COMMAND` ends as its command did: no code of ours.
        Exit::Interrupted | Exit::Command(_) => None,
    }
}

#[test]
fn the_bound_of_a_line_is_that_of_the_code() {
    let row = rows(CONTRACTS, "## Bounds").into_iter().find(|row| row[0] == "bytes of a CSV line");
    assert_eq!(row.expect("in the table")[1], LINE_BYTES_MAX.to_string());
    let row = rows(CONTRACTS, "## Bounds").into_iter().find(|row| row[0] == "lines of a CSV row");
    assert_eq!(row.expect("in the table")[1], ROW_LINES_MAX.to_string());
}

#[test]
fn the_configuration_table_has_every_flag_with_a_variable_and_its_default() {
    let mut flags = BTreeSet::new();
    let root = Cli::command();
    for command in std::iter::once(&root).chain(root.get_subcommands()) {
        for flag in command.get_arguments() {
            let (Some(long), Some(variable)) = (flag.get_long(), flag.get_env()) else { continue };
            let defaults: Vec<_> = flag.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
            flags.insert((format!("--{long}"), variable.to_string_lossy().into_owned(), defaults.join(",")));
        }
    }
    let documented = rows(README, "## Configuration")
        .iter()
        .filter(|row| row[0].starts_with("`--"))
        .map(|row| (word(&row[0]), word(&row[1]), word(&row[2])))
        .collect();
    let differences: Vec<_> = flags.symmetric_difference(&documented).collect();
    assert!(differences.is_empty(), "in the program or in README.md only: {differences:#?}");
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let mut named = 0;
    for row in rows(README, "## Promises") {
        for (file, test) in row[1].split("<br>").filter_map(|backing| backing.trim().split_once("`: `")) {
            let (file, test) = (word(file), word(test));
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
            let source = fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(source.contains(&format!("fn {test}(")), "{file} has no test {test}");
            named += 1;
        }
    }
    assert!(named > 0, "the table of promises names no test");
}

#[test]
fn the_unit_for_systemd_has_flags_that_exist_and_waits_for_their_deadlines() {
    let program = "/usr/local/bin/orderstream";
    let unit = include_str!("../../examples/orderstream.service");
    let setting = |name: &str| {
        let value = unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("the unit has no {name}"))
    };
    let Command::Run(run) = Cli::parse_from(setting("ExecStart").split_whitespace()).command else {
        panic!("it runs the workers");
    };
    assert!(run.http.address.is_some());
    let deadlines = run.workers.drain_deadline + run.http.http_timeout + run.http.http_notice;
    let stop: u64 = setting("TimeoutStopSec").parse().expect("seconds");
    assert!(stop > deadlines, "{stop} s are too short for {deadlines} s");
    assert_eq!(setting("RestartPreventExitStatus"), Exit::Usage.code().to_string());
    let words = unit.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let variables = words.filter(|word| word.starts_with("ORDERSTREAM_") || word.ends_with("_URL_FILE"));
    for variable in variables.collect::<BTreeSet<_>>() {
        let documented = format!("`{variable}`");
        assert!(README.contains(&documented), "README.md does not know {variable}");
    }

    // What systemd says of it, with the program that was built; where there is a systemd.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("orderstream.service");
    fs::write(&path, unit.replace(program, env!("CARGO_BIN_EXE_orderstream"))).expect("written");
    match std::process::Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(verified) => {
            let told = String::from_utf8_lossy(&verified.stderr);
            assert!(verified.status.success() && !told.contains("orderstream.service"), "{told}");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}"),
    }
}

/// The rows of the tables between a heading and the next, without their headers.
fn rows(document: &str, heading: &str) -> Vec<Vec<String>> {
    let mut lines = document.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "there is no heading {heading:?}");
    let section: Vec<&str> = lines.take_while(|line| !line.starts_with('#')).collect();
    let mut rows = Vec::new();
    for (index, line) in section.iter().enumerate() {
        let is_header = section.get(index + 1).is_some_and(|next| next.starts_with("|---"));
        if line.starts_with("| ") && !is_header {
            rows.push(line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect());
        }
    }
    assert!(!rows.is_empty(), "there is no table under {heading:?}");
    rows
}

/// The word in a cell, without its backticks.
fn word(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}
