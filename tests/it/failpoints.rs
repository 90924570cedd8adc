//! The program fails at every step of its work: as if a server had not answered, by a panic, by the death of its process,
//! by being stopped. Whoever takes over finishes the work, once. The places are in the code as `failpoint::hit`.

mod money;
mod places;
mod scene;
mod special;
mod stopped;

use std::{collections::BTreeSet, fs, path::Path};

use pipeline::topology::StageName;
use places::{Action, Place};
use scene::{all_of, worker_recovers};

fn cases(role: &str) -> Vec<(Place, Vec<Action>)> {
    let runs = places::runs();
    places::of(role).into_iter().flat_map(|place| runs.iter().map(move |actions| (place, actions.clone()))).collect()
}

#[tokio::test]
async fn reservation_recovers_from_every_fault_at_every_step() {
    all_of(cases("reservation"), worker_recovers).await;
}

#[tokio::test]
async fn payment_recovers_from_every_fault_at_every_step() {
    all_of(cases("payment"), worker_recovers).await;
}

#[tokio::test]
async fn settlement_recovers_from_every_fault_at_every_step() {
    all_of(cases("settlement"), worker_recovers).await;
}

#[tokio::test]
async fn the_relay_recovers_from_every_fault_at_every_step() {
    all_of(cases("relay"), worker_recovers).await;
}

#[tokio::test]
async fn the_reconciler_recovers_from_every_fault_at_every_step() {
    all_of(cases("reconciler"), special::reconciler_recovers).await;
}

#[tokio::test]
async fn an_import_can_be_repeated_after_every_fault_between_its_chunks() {
    let alone = |place| Action::ALL.map(|action| (place, vec![action]));
    all_of(places::of("import").into_iter().flat_map(alone).collect(), special::import_is_repeated).await;
}

#[tokio::test]
async fn an_order_is_parked_once_and_can_go_on_whatever_fails_while_it_is_marked() {
    all_of(cases("park"), special::parking_recovers).await;
}

#[tokio::test]
async fn money_is_neither_lost_nor_doubled_by_any_fault_at_any_step() {
    all_of(money::cases(), money::recovers).await;
}

#[tokio::test]
async fn the_notifier_recovers_from_every_fault_at_every_step() {
    all_of(cases("notifier"), special::notifier_recovers).await;
}

#[tokio::test]
async fn a_process_that_is_stopped_between_its_steps_is_taken_over_and_comes_back_too_late() {
    all_of(places::where_stopped(), stopped::another_takes_over).await;
}

#[test]
fn every_place_in_the_code_is_in_the_table() {
    let listed: BTreeSet<String> = places::names().into_iter().map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/src"), "src".into()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).expect("text");
            for (at, call) in source.match_indices("failpoint::hit::<") {
                let name = source[at + call.len()..].split('"').nth(1).expect("a name");
                match name.strip_prefix("{}") {
                    Some(step) => {
                        found.extend(StageName::ALL.iter().map(|stage| format!("{stage}{step}")));
                    }
                    None => drop(found.insert(name.to_owned())),
                }
            }
        }
    }
    assert_eq!(listed, found);
}
