//! The record of imports: who holds one, who may take it over, what is gone on with.

use pipeline::store::{self, ImportKind, ImportOutcome, NewImport, OpenImport};

use crate::harness::Stack;

const NEW: NewImport<'_> =
    NewImport { kind: ImportKind::Orders, file_name: "orders.csv", holder: "one", upload: Some("u.csv"), strict: true };

async fn status(stack: &Stack, id: i64) -> String {
    stack.value(&format!("SELECT status FROM imports WHERE id = {id}")).await
}

async fn open(stack: &Stack) -> OpenImport {
    store::open_imports(&stack.reports.pool()).await.expect("imports").pop().expect("an import")
}

#[tokio::test]
async fn an_import_that_was_given_up_goes_on_when_its_process_wakes() {
    let stack = Stack::get().await;
    let pool = stack.reports.pool();
    let id = store::start_import(&pool, NEW).await.expect("begun");
    let publishing = ImportOutcome { orders: 3, ..ImportOutcome::default() };
    store::note_import_status(&pool, id, "one", "publishing", &publishing).await.expect("noted");
    let silent = open(&stack).await;
    assert!(store::abandon_import(&pool, &silent).await.expect("ended"));
    assert!(!store::abandon_import(&pool, &silent).await.expect("ended"), "it has ended");
    assert_eq!(status(&stack, id).await, "interrupted");
    let abandoned = store::abandoned_imports(&pool).await.expect("imports");
    assert_eq!((abandoned.count, abandoned.newest, &*abandoned.file), (1, id, "orders.csv"));
    assert!(!store::note_import_progress(&pool, id, "another", 1, None).await.expect("noted"), "it is not his");
    assert!(store::note_import_progress(&pool, id, "one", 1, None).await.expect("noted"));
    assert_eq!(status(&stack, id).await, "publishing");
    assert_eq!(store::abandoned_imports(&pool).await.expect("imports").count, 0);
}

#[tokio::test]
async fn who_has_spoken_since_is_not_given_up() {
    let stack = Stack::get().await;
    let pool = stack.reports.pool();
    let id = store::start_import(&pool, NEW).await.expect("begun");
    let silent = open(&stack).await;
    assert!(store::note_import_progress(&pool, id, "one", 1, Some(2)).await.expect("noted"));
    assert!(!store::abandon_import(&pool, &silent).await.expect("tried"));
    assert_eq!(status(&stack, id).await, "reading");
}

#[tokio::test]
async fn an_import_is_taken_over_once_its_process_is_silent_and_is_then_no_longer_its() {
    let stack = Stack::get().await;
    let pool = stack.reports.pool();
    let id = store::start_import(&pool, NEW).await.expect("begun");
    assert!(!store::take_import(&pool, id, "two").await.expect("tried"), "it has just begun");
    stack.sql("UPDATE imports SET noted_at = now() - interval '11 s'").await;
    assert!(store::take_import(&pool, id, "two").await.expect("taken"));
    assert!(!store::take_import(&pool, id, "three").await.expect("tried"), "it has just been taken");
    assert!(!store::note_import_progress(&pool, id, "one", 1, None).await.expect("noted"), "it is lost");
    store::note_import_status(&pool, id, "one", "failed", &ImportOutcome::default()).await.expect("noted");
    assert_eq!(status(&stack, id).await, "reading", "who has lost it says nothing of it");
    // Left with its file, it is anybody's at once.
    let left = ImportOutcome { is_abandoned: true, ..ImportOutcome::default() };
    store::note_import_status(&pool, id, "two", "interrupted", &left).await.expect("noted");
    let kept = store::kept_uploads(&pool, &["u.csv".to_owned(), "v.csv".to_owned()]).await.expect("uploads");
    assert!(kept.len() == 1 && !kept[0].is_over && kept[0].strict, "{kept:?}");
    assert!(store::take_import(&pool, id, "three").await.expect("taken"));
    store::note_import_status(&pool, id, "three", "done", &ImportOutcome::default()).await.expect("noted");
    assert!(store::kept_uploads(&pool, &["u.csv".to_owned()]).await.expect("uploads")[0].is_over);
    assert!(!store::take_import(&pool, id, "four").await.expect("tried"), "it is done");
}

#[tokio::test]
async fn an_abandoned_import_is_forgotten_once_its_file_is_imported() {
    let stack = Stack::get().await;
    let pool = stack.reports.pool();
    let begin = async |file_name: &str, sha256: &str, status: &str| {
        let id = store::start_import(&pool, NewImport { file_name, ..NEW }).await.expect("begun");
        let outcome = ImportOutcome { sha256: Some(sha256.to_owned()), is_abandoned: true, ..ImportOutcome::default() };
        store::note_import_status(&pool, id, "one", status, &outcome).await.expect("noted");
    };
    let count = async || store::abandoned_imports(&pool).await.expect("imports").count;
    begin("a.csv", "aa", "interrupted").await;
    begin("b.csv", "bb", "interrupted").await;
    assert_eq!(count().await, 2);
    begin("a.csv", "other content", "done").await;
    assert_eq!(count().await, 2);
    begin("renamed.csv", "aa", "done").await;
    assert_eq!(count().await, 1);
    stack.sql("UPDATE imports SET finished_at = now() - interval '25 h'").await;
    assert_eq!(count().await, 0);
}
