//! Messages of a worker that hangs.

use nix::sys::signal::Signal;
use pipeline::topology::StageName;
use serde_json::json;

use super::log;
use crate::program::{
    Orderstream, Program,
    client::Api,
    harness::{eventually, orders},
};

#[tokio::test]
async fn what_a_stopped_worker_holds_is_free_at_once_and_nothing_is_done_twice() {
    let program = Program::seeded(5, &[100_000, 100_000, 100_000]).await;
    let api = Api::serve(&program, &[]).await;
    program.stack.publish(&orders("held", 200)).await;
    program.stack.run(&[StageName::Reservation]).await;
    // It would keep them for an hour.
    const PATIENT: &[&str] = &["run", "--claim-idle", "3600", "--stages"];
    let stuck = program.start(&[PATIENT, &["payment", "--payment-latency-ms", "1500", "--json"]].concat());
    let held = async || api.get("/v1/streams/payment/pending?limit=100").await.ok(200)["pending"].clone();
    eventually("it holds orders", async || !held().await.as_array().expect("messages").is_empty()).await;
    stuck.signal(Signal::SIGSTOP);
    eventually("it is stopped", async || stuck.state() == 'T').await;

    let pending = api.get("/v1/streams/payment/pending?limit=1&bodies=true").await.ok(200);
    let message = &pending["pending"][0];
    assert!(message["body"].as_str().expect("a body").contains("order_id"), "{pending}");
    assert_eq!((&message["deliveries"], message["id"] == pending["next"]), (&json!(1), true));
    let holder = message["consumer"].as_str().expect("a name").to_owned();
    let fresh = api.post("/v1/streams/payment/claim", &json!({ "idle_seconds": 3600 })).await.ok(200);
    assert_eq!(fresh["claimed"], 0, "what is fresh stays");
    let other = program.run(&["claim", "payment", "--idle", "0s", "--consumer", "nobody", "--json"]).await.exits(0);
    assert_eq!(other.json()["claimed"], 0);
    let dry = program.run(&["claim", "payment", "--idle", "0s", "--dry-run", "--json"]).await.exits(0).json();
    let claimed =
        program.run(&["claim", "payment", "--idle", "0s", "--why", "it hangs", "--json"]).await.exits(0).json();
    assert!(claimed["claimed"].as_u64().expect("a number") > 0, "{claimed}");
    assert_eq!((&claimed["claimed"], &claimed["consumers"]), (&dry["claimed"], &dry["consumers"]));
    assert_eq!(claimed["consumers"][&holder]["free"], claimed["claimed"]);
    let entry = &log(&program).await[0];
    assert_eq!((&entry["affected"], &entry["why"]), (&claimed["claimed"], &json!("it hangs")));
    assert_eq!(entry["detail"]["consumers"][&holder], claimed["claimed"]);
    let idle = held().await[0]["idle_ms"].as_u64().expect("a number");
    assert!(idle >= 86_400_000, "{idle}");
    assert_eq!(held().await[0]["deliveries"], 1, "it is no delivery");
    let second = program.start(&[PATIENT, &["reservation,payment,settlement,relay"]].concat());
    eventually("all orders have ended", async || {
        let ends = program.ends().await;
        ends.len() == 200 && ends.values().all(|(status, _)| status == "completed" || status == "failed")
    })
    .await;
    second.says("took over messages of a silent consumer").await;
    assert_eq!(stuck.state(), 'T', "it slept all the time");
    second.stop().await.exits(0);
    stuck.signal(Signal::SIGCONT);
    // It alone is there for these, after what it has in hand.
    program.stack.publish(&orders("later", 10)).await;
    program.stack.run(&[StageName::Reservation]).await;
    program.stack.drained(&[StageName::Payment]).await;
    let counts = stuck.stop().await.exits(0).json();
    assert!(counts["payment"]["already"].as_u64().expect("a number") > 0, "it found its work done: {counts}");
    program.drain().await;
    assert_eq!(program.dead_letters().await, 0);
    program.audit().await;
}

#[tokio::test]
async fn a_stage_that_nobody_works_for_holds_nothing() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    assert_eq!(api.get("/v1/streams/refund/pending").await.ok(200), json!({ "pending": [], "next": null }));
    assert_eq!(api.post("/v1/streams/refund/claim", &json!({})).await.ok(200)["claimed"], 0);
    program.run(&["claim", "refund"]).await.exits(0);
    api.get("/v1/streams/cats/pending").await.problem(404, "not_found");
    api.get("/v1/streams/refund/pending?partition=9").await.problem(400, "invalid_query");
    api.post("/v1/streams/refund/claim", &json!({ "idle_seconds": 86_401 })).await.problem(422, "invalid");
    program.run(&["claim", "refund", "--idle", "2d"]).await.exits(2);
}
