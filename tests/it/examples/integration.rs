//! docs/INTEGRATION.md, followed from its first command to its last.

use std::{fs, path::Path};

use tokio::process::Command;

use super::scene::{Language, Scene};
use crate::program::{harness::PATIENCE, python::python};

/// The blocks of a page in these languages, in sequence.
fn blocks<'a>(page: &'a str, languages: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let mut found = Vec::new();
    for block in page.split("\n```").skip(1).step_by(2) {
        let (language, code) = block.split_once('\n').expect("a block has lines");
        if languages.contains(&language) {
            found.push((language, code));
        }
    }
    found
}

#[tokio::test]
async fn whoever_follows_the_page_gets_to_its_end() {
    let mut scene = Scene::with_http().await;
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/INTEGRATION.md")).expect("the page");
    // The test's keys have another first part, and nothing else is changed.
    let page = page.replace("orderstream:{", &format!("{}:{{", scene.program.stack.namespace));
    let blocks = blocks(&page, &["sh", "python"]);
    assert!(blocks.len() >= 12, "{blocks:?}");
    for (language, code) in blocks {
        let mut command = match language {
            "sh" => Command::new("bash"),
            _ => Command::new(python().await),
        };
        let code = if language == "sh" { format!("set -euo pipefail\n{code}") } else { code.to_owned() };
        scene.with_environment(&mut command);
        let run = command.arg("-c").arg(&code).output();
        let done = tokio::time::timeout(PATIENCE, run).await;
        let done = done.unwrap_or_else(|_| panic!("this does not come to its end:\n{code}")).expect("it starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{code}\n{stdout}{stderr}");
        // redis-cli ends well even after an error.
        assert!(
            !stdout.starts_with("ERR") && !stdout.contains("WRONGTYPE") && !stdout.contains("NOGROUP"),
            "{code}\n{stdout}"
        );
        assert!(!stdout.trim().is_empty(), "{code}\nprints nothing");
    }

    scene.published(6).await;
    let ends = scene.program.ends().await;
    let completed: Vec<&str> =
        ends.iter().filter(|(_, end)| end.0 == "completed").map(|(code, _)| code.as_str()).collect();
    assert_eq!(completed, ["ORD-1", "ORD-2", "ORD-3"]);
    let refunds: Vec<(String, i64)> = sqlx::query_as("SELECT key, amount_cents FROM refunds ORDER BY key")
        .fetch_all(&scene.program.stack.reports.pool())
        .await
        .expect("refunds");
    let refunds: Vec<(&str, i64)> = refunds.iter().map(|(key, cents)| (key.as_str(), *cents)).collect();
    assert_eq!(refunds, [("r-1", 1_000), ("r-2", 500), ("r-3", 500)]);
    assert_eq!(scene.program.dead_letters().await, 1);
    scene.program.audit().await;
}

async fn order_by_http(language: Language) {
    let scene = Scene::with_http().await;
    for _ in 0..2 {
        let told = scene.run(language, "order_by_http", &["Bestellung 1/2 №3", "7", "3", "2", "19.99"]).await;
        assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["Bestellung", "1/2", "№3", "completed", "39.98"]);
    }
    let told = scene.run(language, "order_by_http", &["TOO-MANY", "7", "3", "2000", "1"]).await;
    assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["TOO-MANY", "failed", "out_of_stock", "2000.00"]);
    let refused = scene.refused(language, "order_by_http", &["ORD-2", "7", "3", "0", "19.99"]).await;
    assert!(refused.contains("invalid") && refused.contains("quantity"), "{refused}");
    assert_eq!(scene.program.stack.value::<i64>("SELECT count(*) FROM orders").await, 2);
    scene.program.audit().await;
}

#[tokio::test]
async fn python_orders_over_http() {
    order_by_http(Language::Python).await;
}

#[tokio::test]
async fn node_orders_over_http() {
    order_by_http(Language::Node).await;
}
