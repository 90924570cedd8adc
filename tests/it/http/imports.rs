//! Uploads and imports whose process ends before they do.

use pipeline::topology::StageName;
use serde_json::{Value, json};

use crate::program::{
    Orderstream, Program,
    client::{Answer, Api},
    harness::eventually,
};

/// Orders in the file that is uploaded.
const ORDERS: i64 = 400;

fn file() -> String {
    let rows = (0..ORDERS).map(|n| format!("ORD-{n},{},{},1,10.00\n", 1 + n % 3, 1 + n % 2));
    format!("order_code,customer_id,product_id,quantity,unit_price\n{}", rows.collect::<String>())
}

const KEY: &str = "import-1";

async fn upload(api: &Api, file: &str) -> Answer {
    let request = api.request(reqwest::Method::POST, "/v1/imports?name=orders.csv").header("content-type", "text/csv");
    Answer::of(request.header("idempotency-key", KEY).body(file.to_owned())).await
}

async fn import(api: &Api, id: &Value) -> Value {
    api.get(&format!("/v1/imports/{id}")).await.ok(200)
}

async fn orders(program: &Program) -> i64 {
    program.stack.value("SELECT count(*) FROM orders").await
}

/// Files that wait to be imported.
fn kept(program: &Program) -> usize {
    let Ok(installations) = std::fs::read_dir(program.path("uploads")) else { return 0 };
    let files = installations.filter_map(|folder| std::fs::read_dir(folder.ok()?.path()).ok()).flatten();
    files.count()
}

#[tokio::test]
async fn an_upload_goes_on_after_a_restart_and_its_answer_stays_true() {
    let program = Program::seeded(3, &[1_000_000; 2]).await;
    // Nobody takes the orders in: the import waits for that.
    let api = Api::serve(&program, &[]).await;
    let first = upload(&api, &file()).await;
    let id = first.ok(202)["id"].clone();
    eventually("it is published", async || import(&api, &id).await["status"] == "waiting").await;
    assert!(kept(&program) > 0);
    api.running.stop().await.exits(0);
    let left: String = program.stack.value("SELECT status || ' ' || abandoned_as FROM imports").await;
    assert_eq!(left, "interrupted waiting");
    // What Redis alone knew is lost as well.
    program.stack.forget_keys().await.expect("Redis");

    let api = Api::start(&program, "run", &[], &[]).await;
    let again = upload(&api, &file()).await;
    assert_eq!((again.ok(202)["id"].clone(), &*again.headers["idempotency-replayed"]), (id.clone(), "true"));
    eventually("it is done", async || import(&api, &id).await["status"] == "done").await;
    assert_eq!(orders(&program).await, ORDERS);
    eventually("its summary is there", async || !import(&api, &id).await["summary"].is_null()).await;
    let done = import(&api, &id).await;
    assert_eq!(done["summary"]["known"]["new_orders"], ORDERS, "{done}");
    assert_eq!((&done["abandoned"], &done["published_orders"]), (&json!(false), &json!(ORDERS)));
    eventually("its file is gone", async || kept(&program) == 0).await;
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn an_upload_is_accepted_while_the_process_ends_and_imported_by_the_next_one() {
    let program = Program::seeded(3, &[1_000_000; 2]).await;
    let api = Api::serve(&program, &["--http-notice", "3"]).await;
    api.running.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("it is ending", async || api.get("/readyz").await.status == 503).await;
    let id = upload(&api, &file()).await.ok(202)["id"].clone();
    api.running.end().await.exits(0);
    assert_eq!(orders(&program).await, 0);

    let api = Api::start(&program, "run", &[], &[]).await;
    eventually("it is done", async || import(&api, &id).await["status"] == "done").await;
    assert_eq!(orders(&program).await, ORDERS);
}

#[tokio::test]
async fn an_upload_whose_process_is_killed_is_gone_on_with_by_another_one() {
    let program = Program::seeded(3, &[1_000_000; 2]).await;
    let api = Api::serve(&program, &[]).await;
    let id = upload(&api, &file()).await.ok(202)["id"].clone();
    eventually("it is published", async || import(&api, &id).await["status"] == "waiting").await;
    let other = Api::start(&program, "run", &["--stages", "monitor"], &[]).await;
    let holder = async || program.stack.value::<String>("SELECT holder FROM imports").await;
    let killed = holder().await;
    api.running.crash().await;
    program.stack.forget_keys().await.expect("Redis");
    // The other one has the folder, too.
    eventually("it is taken over", async || holder().await != killed).await;
    eventually("it is published anew", async || import(&other, &id).await["status"] == "waiting").await;
    program.drain().await;
    eventually("it is done", async || import(&other, &id).await["status"] == "done").await;
    assert_eq!(orders(&program).await, ORDERS);
    program.audit().await;
}

#[tokio::test]
async fn an_upload_whose_process_is_killed_amid_its_orders_brings_all_of_them() {
    const MANY: i64 = 5_000;
    let program = Program::seeded(3, &[1_000_000; 2]).await;
    // Nobody takes the orders in: the import waits for room, with some of them published.
    let api = Api::serve(&program, &["--max-backlog", "500"]).await;
    let rows = (0..MANY).map(|n| format!("ORD-{n},{},{},1,10.00\n", 1 + n % 3, 1 + n % 2));
    let file = format!("order_code,customer_id,product_id,quantity,unit_price\n{}", rows.collect::<String>());
    let id = upload(&api, &file).await.ok(202)["id"].clone();
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    let mut published =
        async || redis::cmd("XLEN").arg(&stream).query_async::<i64>(&mut redis).await.expect("a length");
    eventually("some are published", async || published().await > 0).await;
    assert_eq!(import(&api, &id).await["status"], "publishing");
    api.running.crash().await;
    assert!(published().await < MANY, "some are not");

    let other = Api::start(&program, "run", &[], &[]).await;
    eventually("it is done", async || import(&other, &id).await["status"] == "done").await;
    assert_eq!(orders(&program).await, MANY);
    eventually("its file is gone", async || kept(&program) == 0).await;
    program.audit().await;
}

#[tokio::test]
async fn a_file_that_ends_every_process_that_imports_it_is_given_up() {
    let program = Program::seeded(3, &[1_000_000; 2]).await;
    let api = Api::serve(&program, &[]).await;
    let id = upload(&api, &file()).await.ok(202)["id"].clone();
    eventually("it is published", async || import(&api, &id).await["status"] == "waiting").await;
    api.running.crash().await;
    // Four more were killed since.
    let folder = std::fs::read_dir(program.path("uploads")).expect("uploads").next().expect("an installation");
    let files = std::fs::read_dir(folder.expect("a folder").path()).expect("files");
    let tries =
        files.map(|file| file.expect("a file").path()).find(|path| path.extension().is_some_and(|e| e == "tries"));
    std::fs::write(tries.expect("the try of the first one"), ".....").expect("written");
    program.stack.sql("UPDATE imports SET noted_at = now() - interval '1 min'").await;

    let api = Api::serve(&program, &[]).await;
    eventually("it is given up", async || import(&api, &id).await["status"] == "failed").await;
    eventually("it is said why", async || {
        import(&api, &id).await["error"].as_str().is_some_and(|error| error.contains("were killed"))
    })
    .await;
    eventually("its file is gone", async || kept(&program) == 0).await;
    assert!(!upload(&api, &file()).await.headers.contains_key("idempotency-replayed"), "it may be sent again");
}

#[tokio::test]
async fn imports_whose_process_vanished_end_within_a_minute_and_may_be_sent_again() {
    let program = Program::seeded(3, &[1_000_000; 2]).await;
    program.write("orders.csv", file());
    let command = program.start(&["import", "orders.csv"]);
    eventually("it is published", async || {
        program.stack.value::<i64>("SELECT count(*) FROM imports WHERE status = 'waiting'").await == 1
    })
    .await;
    let api = Api::serve(&program, &[]).await;
    let id = upload(&api, &file()).await.ok(202)["id"].clone();
    eventually("it is published", async || import(&api, &id).await["status"] == "waiting").await;
    api.running.crash().await;
    command.crash().await;
    // With its machine.
    std::fs::remove_dir_all(program.path("uploads")).expect("the folder of uploads");

    let api = Api::serve(&program, &[]).await;
    let replayed = upload(&api, &file()).await;
    assert_eq!(replayed.headers["idempotency-replayed"], "true", "nobody knows yet");
    for number in [&json!(1), &id] {
        eventually("it has ended", async || import(&api, number).await["status"] == "interrupted").await;
        let ended = import(&api, number).await;
        assert_eq!((&ended["abandoned"], ended["finished_at"].is_null()), (&json!(true), false), "{ended}");
    }
    let fires = async || {
        let alerts = api.get("/v1/alerts").await.ok(200);
        let alerts = alerts["alerts"].as_array().expect("alerts").clone();
        alerts.iter().any(|alert| alert["rule"] == "import_abandoned" && alert["state"] == "firing")
    };
    eventually("somebody is told", &fires).await;
    for (number, said) in [("1", "import the same file again"), ("2", "send the file again")] {
        let page = api.get(&format!("/imports/{number}")).await.text;
        assert!(page.contains(said) && page.contains("interrupted"), "{page}");
    }

    // The key does not stand in the way.
    let again = upload(&api, &file()).await;
    assert_ne!(again.ok(202)["id"], id);
    assert!(!again.headers.contains_key("idempotency-replayed"));
    program.drain().await;
    eventually("it is done", async || import(&api, &again.ok(202)["id"]).await["status"] == "done").await;
    assert_eq!(orders(&program).await, ORDERS);
    eventually("the alert is calm", async || !fires().await).await;
}

#[tokio::test]
async fn a_folder_for_uploads_that_cannot_be_used_is_said_at_the_start() {
    let program = Program::get().await;
    program.write("file", "");
    let folder = program.path("file");
    let args = ["serve", "--http", "127.0.0.1:0", "--upload-dir", folder.to_str().expect("a path")];
    let refused = program.run(&args).await.exits(2);
    assert!(refused.stderr.contains("cannot keep files in"), "{}", refused.stderr);
}
