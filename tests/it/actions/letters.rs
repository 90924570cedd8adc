//! Many dead letters at once, and one that is put right.

use serde_json::json;

use super::{bury, ids, log};
use crate::program::{Orderstream, Program, client::Api, harness::eventually};

fn bad(code: &str, price: &str) -> String {
    format!(
        r#"{{"order_code":"{code}","customer_id":1,"lines":[{{"product_id":1,"quantity":1,"unit_price":"{price}"}}]}}"#
    )
}

#[tokio::test]
async fn what_died_of_one_thing_is_one_group_and_goes_again_in_one_request() {
    let program = Program::seeded(1, &[10_000]).await;
    let api = Api::serve(&program, &[]).await;
    let mut bodies: Vec<String> = (0..412).map(|n| bad(&format!("DEPLOY-{n}"), &format!("0.{n:04}"))).collect();
    bodies.extend((0..5).map(|_| "nonsense".to_owned()));
    bury(&program, &bodies).await;

    let groups = api.get("/v1/dead-letters/groups").await.ok(200);
    let [deploy, nonsense] = groups["groups"].as_array().expect("groups").clone().try_into().expect("two groups");
    assert_eq!((&groups["of"], &groups["total"], &groups["others"]), (&json!(417), &json!(417), &json!(0)));
    assert_eq!((&deploy["count"], &deploy["waiting"], &deploy["came_back"]), (&json!(412), &json!(412), &json!(0)));
    assert_eq!((&deploy["stage"], &deploy["reason"]), (&json!("reservation"), &json!("invalid_order")));
    assert_eq!((&nonsense["count"], &nonsense["reason"]), (&json!(5), &json!("undecodable")));
    assert!(!deploy["error"].as_str().expect("a text").contains("0.0"), "what differs is left out: {deploy}");
    assert!(deploy["oldest"].as_str() <= deploy["newest"].as_str());
    let group = deploy["group"].as_str().expect("a name");
    let printed = program.run(&["dead", "groups", "--json"]).await.exits(0).json();
    assert_eq!(printed["groups"], groups["groups"], "every process gives the same names");
    let text = program.run(&["dead", "groups"]).await.exits(0).stdout;
    assert!(text.contains("412") && text.contains(group), "{text}");

    let listed = api.get(&format!("/v1/dead-letters?group={group}&limit=1000&newer_than=1h")).await.ok(200);
    assert_eq!(listed["letters"].as_array().expect("letters").len(), 412);
    assert_eq!(listed["letters"][0]["group"], group);
    let old = api.get(&format!("/v1/dead-letters?group={group}&older_than=1h")).await.ok(200);
    assert_eq!(old["letters"], json!([]));

    // None of them is right now: that is said, and nothing is done unless somebody insists.
    let done = api.post("/v1/dead-letters/replay", &json!({ "group": group })).await.ok(200);
    assert_eq!(done["outcomes"], json!({ "refused": 412 }));
    let asked = json!({ "group": group, "replayed": false, "force": true, "why": "deploy rolled back" });
    let done = api.post("/v1/dead-letters/replay", &asked).await.ok(200);
    assert_eq!((&done["outcomes"], &done["interrupted"]), (&json!({ "replayed": 412 }), &json!(false)));
    let entry = &log(&program).await[0];
    assert_eq!((&entry["affected"], &entry["why"]), (&json!(412), &json!("deploy rolled back")));
    assert_eq!(entry["target"], format!("letters with group {group}, replayed no"));

    // Nobody has repaired anything: all of them come back.
    program.drain().await;
    let groups = api.get("/v1/dead-letters/groups").await.ok(200);
    let deploy = &groups["groups"][0];
    assert_eq!((&deploy["group"], &deploy["count"]), (&json!(group), &json!(824)));
    assert_eq!((&deploy["replayed"], &deploy["came_back"]), (&json!(412), &json!(412)));
    let gone = api.post("/v1/dead-letters/discard", &json!({ "group": group })).await.ok(200);
    assert_eq!(gone["outcomes"], json!({ "discarded": 824 }));
    assert_eq!(ids(&program).await.len(), 5);
    program.audit().await;
}

#[tokio::test]
async fn letters_after_the_last_one_that_was_seen_are_left_alone() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    bury(&program, &["1", "2", "3"].map(|n| format!("nonsense {n}"))).await;
    let [newest, _, oldest] = ids(&program).await.try_into().expect("three letters");
    let looked = api.post("/v1/dead-letters/discard", &json!({ "all": true, "dry_run": true })).await.ok(200);
    assert_eq!(looked["up_to"], newest.as_str());
    bury(&program, &["nonsense 4".to_owned()]).await;
    let asked = json!({ "all": true, "up_to": newest, "after": oldest });
    let done = api.post("/v1/dead-letters/discard", &asked).await.ok(200);
    assert_eq!((&done["outcomes"], &done["up_to"]), (&json!({ "discarded": 2 }), &json!(newest)));
    let left = ids(&program).await;
    assert_eq!((left.len(), left.last()), (2, Some(&oldest)), "what came later, and what was dealt with before");
    api.post("/v1/dead-letters/discard", &json!({ "up_to": newest })).await.problem(422, "invalid");
    let wrong = json!({ "all": true, "up_to": "x", "older_than": "long" });
    let problem = api.post("/v1/dead-letters/discard", &wrong).await.problem(422, "invalid");
    assert_eq!(problem["errors"].as_array().expect("fields").len(), 2, "{problem}");
}

#[tokio::test]
async fn one_letter_goes_again_with_another_body_unless_its_stage_would_refuse_that_too() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    bury(&program, &[bad("WRONG", "0.001")]).await;
    let [id] = ids(&program).await.try_into().expect("one letter");
    let path = format!("/v1/dead-letters/{id}/replay");
    for wrong in [bad("WRONG", "0.002"), "{".to_owned(), " ".repeat(262_145)] {
        api.post(&path, &json!({ "body": wrong })).await.problem(422, "invalid");
        let entry = &log(&program).await[0];
        assert_eq!((&entry["verb"], &entry["outcome"]), (&json!("edit_and_replay"), &json!("refused")));
        assert_eq!(entry["affected"], 0);
    }
    let right = json!({ "body": bad("WRONG", "1.00"), "why": "price put right" });
    let done = api.post_with(&path, &right, &[("idempotency-key", "once")]).await.ok(200);
    assert_eq!(done["outcomes"], json!({ "replayed": 1 }));
    assert_eq!(api.post_with(&path, &right, &[("idempotency-key", "once")]).await.ok(200), done);
    assert_eq!(log(&program).await.len(), 4);
    assert_eq!(api.post(&path, &right).await.ok(200)["outcomes"], json!({ "already": 1 }));
    program.drain().await;
    assert_eq!(program.ends().await.keys().collect::<Vec<_>>(), ["WRONG"]);
    let letter = api.get(&format!("/v1/dead-letters/{id}")).await.ok(200);
    assert_eq!(letter["replayed"]["edited"], true);
    api.post("/v1/dead-letters/1-1/replay", &json!({})).await.problem(404, "not_found");
    program.audit().await;
}

#[tokio::test]
async fn an_export_over_http_is_what_the_command_writes() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &[]).await;
    // More than a page, and more than is written at once.
    let bodies: Vec<String> = (0..60).map(|n| format!("nonsense {n} {}", "x".repeat(20_000))).collect();
    bury(&program, &bodies).await;
    let answer = api.get("/v1/dead-letters/export?reason=undecodable").await;
    assert_eq!((answer.status.as_u16(), &*answer.headers["content-type"]), (200, "application/x-ndjson"));
    assert!(answer.headers["content-disposition"].contains("attachment"));
    let written = program.run(&["dead", "export"]).await.exits(0).stdout;
    assert_eq!(answer.text.lines().count(), 60);
    assert!(answer.text == written, "byte for byte");
    assert_eq!(api.get("/v1/dead-letters/export?reason=conflict").await.text, "");
    program.write("letters.ndjson", &answer.text);
    program.run(&["dead", "discard", "--all", "--yes"]).await.exits(0);
    program.run(&["dead", "import", "letters.ndjson"]).await.exits(0);
    assert_eq!(program.dead_letters().await, 60);
}

#[tokio::test]
async fn a_replay_that_must_fail_is_refused_with_why_by_every_way_unless_somebody_insists() {
    let program = Program::seeded(1, &[10_000]).await;
    let api = Api::serve(&program, &[]).await;
    let good: Vec<String> = (0..3).map(|n| bad(&format!("C-{n}"), "1.00")).collect();
    bury(&program, &good).await;
    let mut bodies: Vec<String> = (0..3).map(|n| bad(&format!("C-{n}"), "2.00")).collect();
    bodies.extend([bad("PRICE", "0.001"), " ".repeat(262_145), "no JSON".to_owned()]);
    bury(&program, &bodies).await;
    assert_eq!(ids(&program).await.len(), 6);
    let known = "order C-0 is known with another customer or other lines";

    let done = api.post("/v1/dead-letters/replay", &json!({ "reason": "conflict", "why": "a hope" })).await.ok(200);
    assert_eq!(done["outcomes"], json!({ "refused": 3 }), "{done}");
    let detail = done["letters"][0]["detail"].as_str().expect("why");
    assert!(detail.starts_with(&format!("reservation would refuse it again: {known}")), "{detail}");
    let entry = &log(&program).await[0];
    assert_eq!((&entry["outcome"], &entry["affected"]), (&json!("refused"), &json!(0)), "{entry}");
    let printed = program.run(&["dead", "replay", "--all"]).await.exits(6);
    for why in [known, "unit_price", "bytes", "expected ident", "--force"] {
        assert!(printed.stdout.contains(why), "{why}: {}", printed.stdout);
    }
    let conflict = api.get("/v1/dead-letters?reason=conflict&limit=1").await.ok(200);
    let id = conflict["letters"][0]["id"].as_str().expect("an id").to_owned();
    let one = api.post(&format!("/v1/dead-letters/{id}/replay"), &json!({})).await.ok(200);
    assert_eq!(one["outcomes"], json!({ "refused": 1 }));
    // With another body that conflicts just as well.
    let still = json!({ "body": bad("C-1", "3.00") });
    let problem = api.post(&format!("/v1/dead-letters/{id}/replay"), &still).await.problem(422, "invalid");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("order C-1 is known")), "{problem}");
    program.drain().await;
    assert_eq!(ids(&program).await.len(), 6, "nothing came back");

    // An order of another code, and what conflicts with nothing any more, goes.
    api.post(&format!("/v1/dead-letters/{id}/replay"), &json!({ "body": bad("C-9", "2.00") })).await.ok(200);
    program.stack.sql("UPDATE orders SET code = 'GONE' WHERE code = 'C-0'").await;
    let done =
        program.run(&["dead", "replay", "--reason", "conflict", "--replayed", "no", "--json"]).await.exits(6).json();
    assert_eq!(done["outcomes"], json!({ "refused": 1, "replayed": 1 }));
    let forced =
        program.run(&["dead", "replay", "--reason", "conflict", "--force", "--replayed", "no", "--json"]).await;
    assert_eq!(forced.exits(0).json()["outcomes"], json!({ "replayed": 1 }));
    program.drain().await;
    assert_eq!(ids(&program).await.len(), 7, "who insists has one more");
    assert!(program.ends().await.contains_key("C-9"));
}

#[tokio::test]
async fn what_is_undecided_is_counted_everywhere_and_a_letter_that_was_replayed_warns_of_nothing() {
    let program = Program::seeded(1, &[10_000]).await;
    let api = Api::serve(&program, &[]).await;
    program.stack.sql("ALTER TABLE orders ADD CONSTRAINT bad_deploy CHECK (code NOT LIKE 'D-%')").await;
    bury(&program, &(0..14).map(|n| bad(&format!("D-{n}"), "1.00")).collect::<Vec<_>>()).await;
    program.stack.sql("ALTER TABLE orders DROP CONSTRAINT bad_deploy").await;
    let all = ids(&program).await;
    let mut command = vec!["dead", "replay"];
    command.extend(all[..4].iter().map(String::as_str));
    program.run(&command).await.exits(0);
    program.drain().await;

    let status = program.run(&["status", "--json"]).await.exits(0).json();
    let reasons = json!({ "undecided": 10, "reasons": { "refused_by_database": 10 }, "of": 14 });
    assert_eq!(
        (&status["partitions"][0]["dead_letters"], &status["partitions"][0]["dead_letter_reasons"]),
        (&json!(14), &reasons)
    );
    let text = program.run(&["status"]).await.exits(0).stdout;
    assert!(text.contains("Dead letters  10 to decide about; 4 more were replayed"), "{text}");
    let letters = |snapshot: &serde_json::Value| snapshot["dead_letters"].clone();
    let counted = async |undecided: u64| {
        // Reasons are read less often than counted.
        let reasons = if undecided == 0 { json!({}) } else { json!({ "refused_by_database": undecided }) };
        eventually("the monitor has looked", async || {
            let letters = letters(&api.get("/v1/overview").await.ok(200));
            letters["undecided"] == undecided && letters["reasons"] == reasons
        })
        .await;
        (api.get("/v1/overview").await.ok(200), api.get("/metrics").await.text, api.get("/").await.text)
    };
    let (overview, metrics, page) = counted(10).await;
    assert_eq!(
        (&letters(&overview)["count"], &letters(&overview)["reasons"]),
        (&json!(14), &json!({ "refused_by_database": 10 }))
    );
    let remarks = overview["remarks"].to_string();
    assert!(remarks.contains("10 dead letters (refused_by_database) wait"), "{remarks}");
    for line in [
        "orderstream_dead_letters_stored 14",
        "orderstream_dead_letters_undecided 10",
        "orderstream_dead_letters{reason=\"refused_by_database\"} 10",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert!(page.contains("data-count=\"dead.badge\"><span>10</span>"), "the badge: {page}");
    assert!(page.contains("data-live=\"dead.count\">10<") && page.contains("4 more were replayed"), "{page}");
    let page = api.get("/dead").await.text;
    assert!(page.contains("10 to decide about") && page.contains("4 more were replayed, and are kept"), "{page}");
    eventually("the alert fires", async || alert(&api).await["value"] == json!(10.0)).await;
    assert!(alert(&api).await["message"].as_str().expect("a text").starts_with("10 dead letters"));

    // All of them mended: nothing warns, and nothing is lost.
    api.post("/v1/dead-letters/replay", &json!({ "all": true })).await.ok(200);
    let (overview, metrics, page) = counted(0).await;
    assert_eq!(
        (&letters(&overview)["count"], &letters(&overview)["newest_seconds"]),
        (&json!(14), &serde_json::Value::Null)
    );
    assert!(!overview["remarks"].to_string().contains("dead letter"), "{overview}");
    assert!(metrics.contains("orderstream_dead_letters_undecided 0"), "{metrics}");
    assert!(page.contains("data-count=\"dead.badge\" hidden"), "{page}");
    eventually("the alert is calm", async || alert(&api).await["state"] == "calm").await;
    assert_eq!(alert(&api).await["message"], "All 14 dead letters were replayed.");
    assert!(api.get("/dead").await.text.contains("Nothing to decide about"));
}

async fn alert(api: &Api) -> serde_json::Value {
    let alerts = api.get("/v1/overview").await.ok(200)["alerts"].clone();
    alerts.as_array().expect("alerts").iter().find(|alert| alert["rule"] == "dead_letters").expect("the rule").clone()
}
