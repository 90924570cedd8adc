//! Faults of those who are no stage: the reconciler, an import, and whoever marks an order as parked.

use std::time::Duration;

use pipeline::{
    message::EntryId,
    streams::{Consumer, Delivery, Whose},
    topology::StageName,
};

use super::{
    places::{Action, Place},
    scene::{Lots, drained, faulty, go_on, program, workers},
};
use crate::program::{Orderstream, Program, Running, harness::eventually, model};

/// Redis loses everything, and with it the letters of orders that are parked.
async fn lose_everything(program: &Program) {
    const PARK: &str = "INSERT INTO parked (order_id, stage, reason)
        SELECT id, 'payment', 'attempts_exhausted' FROM orders WHERE status = 'reserved' ORDER BY id LIMIT 3
        ON CONFLICT DO NOTHING";
    program.stack.sql(PARK).await;
    program.stack.forget_keys().await.expect("Redis");
}

/// The reconciler fails while it makes up for what Redis has lost; what it did is lost again before each fault.
pub(crate) async fn reconciler_recovers(place: Place, actions: Vec<Action>) {
    const NOTED: &str =
        "SELECT count(DISTINCT cause) FROM reconciliations WHERE cause IN ('messages_lost', 'letters_lost')";
    let program = program().await;
    let mut lots = Lots::new();
    lots.publish(&program).await;
    program.stack.run(&[StageName::Reservation]).await;
    lose_everything(&program).await;
    let faulty = faulty(&program, "reconciler", &place.faults(&actions), &["--reconcile-every", "1"]);
    for action in &actions {
        faulty.says(&place.evidence(*action)).await;
        lose_everything(&program).await;
    }
    let again = go_on(&program, "reconciler", faulty, actions.last(), &[]).await;
    let healthy = workers(&program, "reservation,payment,settlement,relay", &[]);
    drained(&program).await;
    again.stop().await.exits(0);
    healthy.stop().await.exits(0);
    assert_eq!(program.stack.value::<i64>(NOTED).await, 2, "lost messages and lost letters");
    lots.all_ended(&program).await;
}

/// An import fails between two chunks. It goes on by itself after an error, and is repeated after its death.
pub(crate) async fn import_is_repeated(place: Place, actions: Vec<Action>) {
    const CUSTOMERS: i64 = 50;
    const STOCKS: [i64; 40] = [1_000_000; 40];
    let program = Program::seeded(CUSTOMERS, &STOCKS).await;
    let options = ["--customers", "50", "--products", "40", "--rows", "8000"];
    let orders = model::orders(&program.generate("orders.csv", &options).await);
    assert!(orders.len() > 1_500, "the fault comes between two chunks");
    let healthy = program.start(&["run", "--stages", "reservation,payment,settlement,relay"]);
    let args = ["import", "orders.csv", "--json"];
    let import = Running::spawn(program.command(&args).env("FAILPOINTS", place.faults(&actions)), &args);
    let done = import.end().await;
    assert!(done.stderr.contains(&place.evidence(actions[0])), "{}", done.stderr);
    if actions[0] == Action::Error {
        assert_eq!(done.exits(0).import()["known"]["new_orders"], orders.len());
    } else {
        assert_ne!(done.code, Some(0));
        let known = program.run(&args).await.exits(0).import()["known"].clone();
        assert_eq!(known["missing_orders"], 0, "{known}");
    }
    drained(&program).await;
    healthy.stop().await.exits(0);
    assert_eq!(program.ends().await, model::ends(&orders, CUSTOMERS, &STOCKS));
    assert_eq!(program.dead_letters().await, 0);
    program.audit().await;
}

/// Payment fails while it marks orders as parked that have killed their workers too often.
pub(crate) async fn parking_recovers(place: Place, actions: Vec<Action>) {
    const ATTEMPTS_MAX: u64 = 7;
    let any = Whose::Idle(Duration::ZERO);
    let program = program().await;
    let mut lots = Lots::new();
    lots.publish(&program).await;
    program.stack.run(&[StageName::Reservation]).await;
    let mut killed = Consumer::join(&program.stack.redis, StageName::Payment, 0, "killed").await.expect("Redis");
    killed.read_new(3, Duration::from_millis(1)).await.expect("entries");
    let taken = killed.take(any, EntryId::default(), 3, 2).await.expect("entries").deliveries;
    for delivery in &taken {
        killed.count(&[Delivery { before: ATTEMPTS_MAX - 1, ..delivery.clone() }]).await.expect("Redis");
    }
    let faulty = faulty(&program, "payment", &place.faults(&actions), &[]);
    for action in &actions {
        faulty.says(&place.evidence(*action)).await;
    }
    let again = go_on(&program, "payment", faulty, actions.last(), &[]).await;
    program.stack.drained(&[StageName::Payment]).await;
    assert_eq!(program.dead_letters().await, 3);
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM parked").await, 3);

    // With the cause put right, they go on.
    program.run(&["dead", "replay", "--all"]).await.exits(0);
    let healthy = workers(&program, "settlement,relay", &[]);
    drained(&program).await;
    again.stop().await.exits(0);
    healthy.stop().await.exits(0);
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM parked").await, 0);
    lots.all_ended_with_letters(&program, 3).await;
}

/// The notifier fails while it tells what became of orders.
pub(crate) async fn notifier_recovers(place: Place, actions: Vec<Action>) {
    const ALL_TOLD: &str = "SELECT (SELECT count(*) FROM notifications WHERE status = 'sent')
        = (SELECT count(*) FROM orders WHERE status IN ('completed', 'failed'))";
    let program = program().await;
    let mut lots = Lots::new();
    let healthy = workers(&program, "reservation,payment,settlement,relay", &[]);
    let flags = ["--notify", "log", "--notify-timeout", "1"];
    let faulty = faulty(&program, "notifier", &place.faults(&actions), &flags);
    const SWITCHED_ON: &str = "SELECT EXISTS (SELECT FROM notification_channels)";
    eventually("the channel begins", async || program.stack.value::<bool>(SWITCHED_ON).await).await;
    for action in &actions {
        lots.publish(&program).await;
        faulty.says(&place.evidence(*action)).await;
    }
    let again = go_on(&program, "notifier", faulty, actions.last(), &flags).await;
    drained(&program).await;
    eventually("every end of an order is told once", async || program.stack.value::<bool>(ALL_TOLD).await).await;
    again.stop().await.exits(0);
    healthy.stop().await.exits(0);
    lots.all_ended(&program).await;
}
