//! A process that is stopped, as a machine that sleeps or swaps, with a batch in hand.

use nix::sys::signal::Signal;

use super::{
    places::{Action, Place, is_full},
    scene::{Lots, drained, faulty, others, program, workers},
};
use crate::program::harness::eventually;

/// A stopped process keeps the locks of its transaction until Postgres ends it, after 30 s.
const IN_TRANSACTION: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'idle in transaction'";
const END_TRANSACTION: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'idle in transaction'";

pub(crate) async fn another_takes_over(place: Place, _: Vec<Action>) {
    let program = program().await;
    let mut lots = Lots::new();
    let healthy = workers(&program, &others(place.role), &[]);
    let faults = format!("{}=1*off->1*return(stop)", place.name);
    let stopped = faulty(&program, place.role, &faults, &["--json"]);
    lots.publish(&program).await;
    stopped.says(&format!("failpoint {}: stop", place.name)).await;
    eventually("it is stopped", async || stopped.state() == 'T').await;
    lots.publish(&program).await;

    let second = workers(&program, place.role, &[]);
    if place.name == "before_commit" {
        eventually("its transaction is open", async || program.stack.value::<i64>(IN_TRANSACTION).await == 1).await;
        if !is_full() {
            program.stack.sql(END_TRANSACTION).await;
        }
    }
    second.says("took over messages of a silent consumer").await;
    drained(&program).await;
    assert_eq!(stopped.state(), 'T', "it slept all the time");

    stopped.signal(Signal::SIGCONT);
    second.stop().await.exits(0);
    // It alone is there for these, after what it has in hand.
    lots.publish(&program).await;
    drained(&program).await;
    let counts = stopped.stop().await.exits(0).json();
    let already = counts[place.role]["already"].as_u64().expect("a number");
    assert!(already > 0, "what it has in hand was handed off before: {counts}");
    healthy.stop().await.exits(0);
    lots.all_ended(&program).await;
}
