//! What docs/STATES.md, docs/ERD.md and docs/CONTRACTS.md say is what the code and a migrated database have, both ways.

use std::collections::BTreeSet;

use pipeline::{
    domain::{
        CallbackOutcome, Cents, EventKind, FailureReason, LINES_PER_ORDER_MAX, ORDER_CODE_BYTES_MAX, OrderStatus,
        PaymentStatus, REFUND_KEY_BYTES_MAX, REFUND_REASON_BYTES_MAX, RefundStatus, Refusal,
    },
    message::{BODY_BYTES_MAX, DEAD_FIELDS_MAX, DeadReason},
    streams::DEAD_LETTERS_MAX,
};

use crate::harness::Stack;

const STATES: &str = include_str!("../../../docs/STATES.md");
const ERD: &str = include_str!("../../../docs/ERD.md");
const CONTRACTS: &str = include_str!("../../../docs/CONTRACTS.md");

#[test]
fn every_word_of_the_domain_is_in_states_and_no_other() {
    let words = |all: &[&str]| all.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
    let statuses: Vec<&str> = OrderStatus::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Order states"), words(&statuses));
    let reasons: Vec<&str> = FailureReason::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Failure reasons"), words(&reasons));
    let payments: Vec<&str> = PaymentStatus::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Payment states"), words(&payments));
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Event kinds"), words(&kinds));
    let refunds: Vec<&str> = RefundStatus::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Refund states"), words(&refunds));
    let refusals: Vec<&str> = Refusal::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Refusals"), words(&refusals));
    let outcomes: Vec<&str> = CallbackOutcome::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Callbacks"), words(&outcomes));
    let notifications: Vec<&str> = pipeline::domain::NotificationStatus::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(first_words(STATES, "## Notification states"), words(&notifications));
}

#[test]
fn states_says_which_states_are_final_and_which_reasons_may_pass_later() {
    for (row, status) in rows(STATES, "## Order states").iter().zip(OrderStatus::ALL) {
        assert_eq!(row[3], if status.is_final() { "yes" } else { "no" }, "{status}");
    }
    for (row, reason) in rows(STATES, "## Failure reasons").iter().zip(FailureReason::ALL) {
        assert_eq!(row[3], if reason.may_pass_later() { "yes" } else { "no" }, "{reason}");
    }
}

#[test]
fn the_diagrams_draw_every_state() {
    let diagrams: String = STATES.split("```mermaid").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let drawn: BTreeSet<&str> =
        diagrams.split(|character: char| !character.is_alphanumeric() && character != '_').collect();
    for word in
        OrderStatus::ALL.iter().map(|word| word.as_str()).chain(PaymentStatus::ALL.iter().map(|word| word.as_str()))
    {
        assert!(drawn.contains(word), "{word} is in no diagram");
    }
}

#[test]
fn the_reasons_of_dead_letters_are_those_of_the_code() {
    let all = std::iter::successors(Some(DeadReason::NoBody), |reason| dead_reason_after(*reason));
    let words: Vec<String> = all.map(|reason| reason.as_str().to_owned()).collect();
    let documented: Vec<String> = first_words(CONTRACTS, "### Dead letters")
        .into_iter()
        .filter(|word| !DEAD_FIELDS.contains(&word.as_str()))
        .collect();
    assert_eq!(documented, words);
}

const DEAD_FIELDS: &[&str] =
    &["reason", "error", "stage", "source_stream", "source_id", "deliveries", "first_at", "last_at", "fields_cut"];

/// Exhaustive: whoever adds a reason comes by here.
fn dead_reason_after(reason: DeadReason) -> Option<DeadReason> {
    match reason {
        DeadReason::NoBody => Some(DeadReason::TooLarge),
        DeadReason::TooLarge => Some(DeadReason::Undecodable),
        DeadReason::Undecodable => Some(DeadReason::InvalidOrder),
        DeadReason::InvalidOrder => Some(DeadReason::InvalidRefund),
        DeadReason::InvalidRefund => Some(DeadReason::InvalidCallback),
        DeadReason::InvalidCallback => Some(DeadReason::Conflict),
        DeadReason::Conflict => Some(DeadReason::UnknownOrder),
        DeadReason::UnknownOrder => Some(DeadReason::Deleted),
        DeadReason::Deleted => Some(DeadReason::RefusedByDatabase),
        DeadReason::RefusedByDatabase => Some(DeadReason::AttemptsExhausted),
        DeadReason::AttemptsExhausted => None,
    }
}

#[test]
fn the_bounds_of_messages_are_those_of_the_code() {
    for (what, bound) in [
        ("lines of an order", LINES_PER_ORDER_MAX.to_string()),
        ("bytes of an order code", ORDER_CODE_BYTES_MAX.to_string()),
        ("bytes of a refund's key", REFUND_KEY_BYTES_MAX.to_string()),
        ("bytes of a refund's reason", REFUND_REASON_BYTES_MAX.to_string()),
        ("unit price", Cents::PRICE_MAX.to_string()),
        ("total of an order", Cents::new(pipeline::domain::TOTAL_CENTS_MAX).to_string()),
        ("quantity of a line", i32::MAX.to_string()),
        ("bytes of a message's `body`", BODY_BYTES_MAX.to_string()),
        ("fields of its original that a dead letter keeps", DEAD_FIELDS_MAX.to_string()),
        ("dead letters of a partition", DEAD_LETTERS_MAX.to_string()),
    ] {
        let row = rows(CONTRACTS, "## Bounds").into_iter().find(|row| row[0] == what);
        assert_eq!(row.unwrap_or_else(|| panic!("{what} is not in the table"))[1], bound, "{what}");
    }
}

#[tokio::test]
async fn the_erd_draws_every_table_and_column_and_no_other() {
    let stack = Stack::get().await;
    let columns: Vec<(String, String, String, bool)> = sqlx::query_as(
        "SELECT c.table_name::text, c.column_name::text,
                replace(c.data_type, 'timestamp with time zone', 'timestamptz'),
                EXISTS (SELECT FROM information_schema.table_constraints t
                        JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name)
                        WHERE t.constraint_type = 'PRIMARY KEY' AND t.table_schema = c.table_schema
                          AND k.table_name = c.table_name AND k.column_name = c.column_name)
         FROM information_schema.columns c
         WHERE c.table_schema = 'public' AND c.table_name <> '_sqlx_migrations'",
    )
    .fetch_all(&stack.reports.pool())
    .await
    .expect("the catalogue of Postgres");
    let columns: BTreeSet<_> = columns.into_iter().collect();
    let drawn = drawn_columns();
    let differences: Vec<_> = columns.symmetric_difference(&drawn).collect();
    assert!(differences.is_empty(), "in the schema or in docs/ERD.md only: {differences:#?}");
}

#[tokio::test]
async fn states_names_every_check_of_the_schema() {
    let stack = Stack::get().await;
    let checks: Vec<(String, String)> = sqlx::query_as(
        "SELECT conname::text, conrelid::regclass::text FROM pg_constraint
         WHERE contype = 'c' AND connamespace = 'public'::regnamespace",
    )
    .fetch_all(&stack.reports.pool())
    .await
    .expect("the catalogue of Postgres");
    let checks: BTreeSet<_> = checks.into_iter().collect();
    let named = rows(STATES, "## What refuses what").into_iter().map(|row| (word(&row[0]), word(&row[1]))).collect();
    let differences: Vec<_> = checks.symmetric_difference(&named).collect();
    assert!(differences.is_empty(), "in the schema or in docs/STATES.md only: {differences:#?}");
}

/// Table, column, type and whether it is part of the primary key, as the diagram has them.
fn drawn_columns() -> BTreeSet<(String, String, String, bool)> {
    let mut columns = BTreeSet::new();
    let mut table = None;
    for line in ERD.lines().map(str::trim) {
        match (line.strip_suffix(" {"), table) {
            (Some(name), _) => table = Some(name),
            (None, Some(_)) if line == "}" => table = None,
            (None, Some(table)) => {
                let mut words = line.split_whitespace();
                let (Some(kind), Some(name)) = (words.next(), words.next()) else { panic!("{line:?} is no column") };
                columns.insert((table.to_owned(), name.to_owned(), kind.to_owned(), words.next() == Some("PK")));
            }
            (None, None) => {}
        }
    }
    columns
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

fn first_words(document: &str, heading: &str) -> Vec<String> {
    rows(document, heading).iter().map(|row| word(&row[0])).collect()
}

/// The word in a cell, without its backticks.
fn word(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}
