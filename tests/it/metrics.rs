//! What Prometheus is told, by the real program on real servers.

mod documented;
mod scrape;

use std::time::Duration;

use pipeline::{
    message::BODY,
    streams::{Consumer, Redis},
    topology::StageName,
};
use redis::aio::MultiplexedConnection;
use scrape::Scrape;
use serde_json::Value;

use crate::program::{
    Orderstream, Program,
    client::Api,
    harness::{Server, eventually, order, orders},
    provider::{KEY, Provider},
};

const CUSTOMERS: i64 = 50;

/// Everything that a process may do, at a pace for tests.
const RUN: &[&str] = &["--claim-idle", "1", "--http-rate", "1000000", "--json"];

/// Workers that serve `/metrics`, with a payment provider.
async fn workers(program: &Program, provider: &Provider) -> Api {
    let flags = [RUN, &["--gateway", &provider.url]].concat();
    Api::start(program, "run", &flags, &[("ORDERSTREAM_GATEWAY_KEY", KEY)]).await
}

async fn import(program: &Program, rows: &str) {
    let options = ["--customers", "50", "--products", "40", "--rows", rows];
    program.generate("orders.csv", &options).await;
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
}

/// Waits until every order has reached its end and the board shows it; then what `/metrics` says.
async fn at_rest(program: &Program, api: &Api) -> Scrape {
    program.stack.drained(&StageName::WAY).await;
    let ended = async || program.stack.value::<i64>("SELECT count(*) FROM orders WHERE settled_at IS NULL").await == 0;
    eventually("every order has reached its end", ended).await;
    Scrape::of(api).await
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
async fn count(program: &Program, query: &str) -> f64 {
    program.stack.value::<i64>(query).await as f64
}

async fn add(redis: &mut MultiplexedConnection, to: &Redis, bodies: &[&str]) -> Vec<String> {
    let stream = to.keys().stream(0, StageName::Reservation);
    let mut ids = Vec::new();
    for body in bodies {
        let id = redis::cmd("XADD").arg(&stream).arg("*").arg(BODY).arg(body).query_async(redis).await;
        ids.push(id.expect("an id"));
    }
    ids
}

#[tokio::test]
async fn what_is_counted_is_what_the_run_did() {
    let program = Program::seeded(CUSTOMERS - 1, &[30; 40]).await;
    let provider = Provider::start(&["--approve", "0.9"]).await;
    let api = workers(&program, &provider).await;
    import(&program, "3000").await;
    let mut redis = program.stack.connection().await;
    add(&mut redis, &program.stack.redis, &["not json"]).await;
    let scrape = at_rest(&program, &api).await;

    let orders = count(&program, "SELECT count(*) FROM orders").await;
    for status in ["completed", "failed"] {
        let ended = count(&program, &format!("SELECT count(*) FROM orders WHERE status = '{status}'")).await;
        assert!(ended > 0.0, "some orders have {status}");
        let series = format!("orderstream_end_to_end_seconds_count{{outcome=\"{status}\"}}");
        assert_eq!(scrape.value(&series), ended, "{series}");
        let waited = scrape.value(&series.replace("_count", "_sum"));
        assert!(waited > 0.0 && waited < ended * 100.0, "{waited} s for {ended} orders");
    }
    let messages = |stage: &str, outcome: &str| {
        scrape.value(&format!("orderstream_messages_total{{outcome=\"{outcome}\",stage=\"{stage}\"}}"))
    };
    let payments = count(&program, "SELECT count(*) FROM payments").await;
    assert_eq!(messages("reservation", "forwarded"), payments);
    assert_eq!(messages("reservation", "done"), orders - payments, "those that failed at once");
    assert_eq!(messages("reservation", "dead"), 1.0);
    assert_eq!(messages("payment", "forwarded"), payments);
    assert_eq!(messages("settlement", "done"), payments);
    let dead = scrape.value("orderstream_dead_letters_total{reason=\"undecodable\",stage=\"reservation\"}");
    assert_eq!((dead, scrape.sum("orderstream_dead_letters_total")), (1.0, 1.0));
    let asked = scrape.value("orderstream_gateway_requests_total{operation=\"charge\",outcome=\"answered\"}");
    assert_eq!((asked, scrape.sum("orderstream_gateway_requests_total")), (payments, payments));
    assert_eq!(scrape.value("orderstream_gateway_request_seconds_count{operation=\"charge\"}"), payments);
    assert_eq!(scrape.value("orderstream_gateway_in_flight"), 0.0);
    let events = count(&program, "SELECT last_seq FROM event_counter").await;
    let carried = async || Scrape::of(&api).await.value("orderstream_relay_events_total") == events;
    eventually("the relay has counted its events", carried).await;

    // The run itself says the same in the end.
    let batches = scrape.value("orderstream_batch_seconds_count{stage=\"reservation\"}");
    let ended = api.running.stop().await.exits(0).stdout;
    let told: Value = serde_json::from_str(&ended[ended.find('{').expect("JSON")..]).expect("JSON");
    let told = |name: &str| told["reservation"][name].as_f64().expect("a number");
    assert_eq!(["messages", "forwarded", "dead", "batches"].map(told), [orders + 1.0, payments, 1.0, batches]);
}

#[tokio::test]
async fn what_silent_consumers_left_behind_is_counted_where_it_is_taken_over() {
    let program = Program::seeded(CUSTOMERS, &[1_000; 40]).await;
    program.stack.publish(&orders("ORD", 5)).await;
    let mut redis = program.stack.connection().await;
    let stage = StageName::Reservation;
    let mut ghost = Consumer::join(&program.stack.redis, stage, 0, "ghost").await.expect("Redis");
    let read = ghost.read_new(5, Duration::from_millis(1)).await.expect("entries");
    assert_eq!(read.len(), 5);

    let api = Api::start(&program, "run", RUN, &[]).await;
    let scrape = at_rest(&program, &api).await;
    for family in ["claims", "redeliveries"] {
        let series = |stage: &str| format!("orderstream_{family}_total{{stage=\"{stage}\"}}");
        assert_eq!(scrape.value(&series("reservation")), 5.0);
        assert_eq!(scrape.value(&series("payment")), 0.0, "shown before anything happens");
    }
    assert_eq!(scrape.sum("orderstream_gateway_requests_total"), 0.0);
    assert_eq!(scrape.count("orderstream_gateway_requests_total"), 0, "nobody is asked");
    let held = program.stack.redis.group_state(&mut redis, 0, stage).await.expect("Redis").expect("a group");
    assert_eq!(held.pending, 0);
}

#[tokio::test]
async fn a_refund_of_an_order_of_yesterday_is_money_of_today_wherever_it_is_shown() {
    let program = Program::seeded(CUSTOMERS, &[1_000; 40]).await;
    program.stack.publish(&[order("OLD", 1, &[(1, 1, 5_000)]), order("NEW", 1, &[(1, 1, 700)])]).await;
    program.run(&["run", "--until-drained", "--success-rate", "1"]).await.exits(0);
    program.stack.sql("UPDATE orders SET created_at = created_at - interval '1 day' WHERE code = 'OLD'").await;
    for (code, amount) in [("OLD", "12.34"), ("NEW", "1.00")] {
        program.run(&["refund", code, "--key", code, "--amount", amount]).await.exits(0);
    }
    // The board is built anew, as after any loss of Redis.
    program.stack.forget_keys().await.expect("Redis");
    let api = Api::start(&program, "run", RUN, &[]).await;
    let shown = async || Scrape::of(&api).await.get("orderstream_revenue_today_minor_units") == Some(700.0);
    eventually("the board is there", shown).await;
    let scrape = Scrape::of(&api).await;
    assert_eq!(scrape.value("orderstream_refunded_today_minor_units"), 1_334.0);
    assert_eq!(scrape.value("orderstream_refunds_of_todays_orders_minor_units"), 100.0);
    let today = program.run(&["kpi", "--json"]).await.exits(0).json();
    assert_eq!(
        ["revenue", "refunds", "net_revenue", "paid_back"].map(|name| &today[name]),
        ["7.00", "1.00", "6.00", "13.34"]
    );
    assert_eq!(api.get("/v1/kpis").await.ok(200), today);
    let both = program.stack.value::<String>("SELECT min(created_at::date)::text FROM orders").await;
    let until = today["to"].as_str().expect("a day");
    let both = program.run(&["kpi", "--from", &both, "--to", until, "--json"]).await.exits(0).json();
    assert_eq!(["refunds", "paid_back"].map(|name| &both[name]), ["13.34", "13.34"]);
    program.audit().await;
}

#[tokio::test]
async fn everything_documented_is_served_as_documented_and_promtool_accepts_it() {
    let program = Program::seeded(CUSTOMERS, &[1_000_000; 40]).await;
    let provider = Provider::start(&[]).await;
    let api = workers(&program, &provider).await;
    import(&program, "500").await;
    at_rest(&program, &api).await;
    let documented = documented::families();
    let events = count(&program, "SELECT last_seq FROM event_counter").await;
    let looked = async || Scrape::of(&api).await.get("orderstream_relay_cursor") == Some(events);
    eventually("it has looked", looked).await;
    let judged = async || Scrape::of(&api).await.count("orderstream_alert_firing") > 0;
    eventually("alerts are evaluated", judged).await;
    let compared = async || Scrape::of(&api).await.get("orderstream_stock_drift_products") == Some(0.0);
    eventually("the stock was looked at", compared).await;
    let scrape = Scrape::of(&api).await;
    let served = scrape.families();
    for (name, shape) in &documented {
        assert_eq!(served.get(name), Some(shape), "{name}");
    }
    let unknown: Vec<_> = served.keys().filter(|name| !documented.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "not documented: {unknown:?}");
    scrape.is_accepted_by_promtool().await;

    // A process without workers says the same of the pipeline, and nothing of stages that it does not run.
    let only = Api::serve(&program, &[]).await;
    eventually("it has looked", async || Scrape::of(&only).await.get("orderstream_processes").is_some()).await;
    let scrape = Scrape::of(&only).await;
    scrape.is_accepted_by_promtool().await;
    assert_eq!(scrape.count("orderstream_messages_total"), 0);
    for (name, shape) in scrape.families() {
        assert_eq!(documented.get(&name), Some(&shape), "{name}");
    }
}

#[tokio::test]
async fn a_lag_that_redis_cannot_tell_is_absent_and_never_zero() {
    let program = Program::seeded(CUSTOMERS, &[1_000; 40]).await;
    let mut redis = program.stack.connection().await;
    let stage = StageName::Reservation;
    let mut consumer = Consumer::join(&program.stack.redis, stage, 0, "reader").await.expect("Redis");
    let ids = add(&mut redis, &program.stack.redis, &["{}", "{}", "{}", "{}"]).await;
    let api = Api::serve(&program, &[]).await;
    let lag = "orderstream_stream_group_lag{group=\"reservation\",stream=\"incoming\"}";
    let known = "orderstream_stream_group_lag_known{group=\"reservation\",stream=\"incoming\"}";
    eventually("all four wait", async || Scrape::of(&api).await.get(lag) == Some(4.0)).await;

    consumer.read_new(1, Duration::from_millis(1)).await.expect("an entry");
    let stream = program.stack.redis.keys().stream(0, stage);
    redis::cmd("XDEL").arg(stream).arg(&ids[2]).exec_async(&mut redis).await.expect("Redis");
    eventually("it is said that nobody knows", async || Scrape::of(&api).await.get(known) == Some(0.0)).await;
    let scrape = Scrape::of(&api).await;
    assert_eq!(scrape.get(lag), None, "{}", scrape.text);
    let payment = "orderstream_stream_group_lag{group=\"payment\",stream=\"reserved\"}";
    assert_eq!(scrape.value(payment), 0.0, "of another stage it is known");
    let seconds = "orderstream_stream_group_lag_seconds{group=\"reservation\",stream=\"incoming\"}";
    assert!(scrape.value(seconds) > 0.0, "how long they wait can be told all the same");
}

#[tokio::test]
async fn while_servers_are_away_the_figures_are_absent_and_their_age_is_told() {
    let program = Program::alone(CUSTOMERS, &[1_000; 40]).await;
    let api = Api::serve(&program, &[]).await;
    let up = |server: &str| format!("orderstream_monitor_server_up{{server=\"{server}\"}}");
    let is = async |server: &str, value: f64| Scrape::of(&api).await.get(&up(server)) == Some(value);
    eventually("both are there", async || is("redis", 1.0).await && is("postgres", 1.0).await).await;
    let scrape = Scrape::of(&api).await;
    assert_eq!(scrape.count("orderstream_stream_length"), StageName::ALL.len());
    assert_eq!(scrape.value("orderstream_parked_orders"), 0.0);

    program.stack.end(Server::Postgres, "KILL");
    eventually("Postgres is away", async || is("postgres", 0.0).await).await;
    assert_eq!(Scrape::of(&api).await.get("orderstream_parked_orders"), None);
    program.stack.end(Server::Redis, "KILL");
    eventually("Redis is away", async || is("redis", 0.0).await).await;
    let age = async || Scrape::of(&api).await.value("orderstream_monitor_sample_age_seconds");
    eventually("the last look grows old", async || age().await > 2.0).await;
    let scrape = Scrape::of(&api).await;
    scrape.is_accepted_by_promtool().await;
    for family in ["stream_length", "stream_group_lag", "stream_group_lag_known", "orders_today", "processes"] {
        assert_eq!(scrape.count(&format!("orderstream_{family}")), 0, "{family}");
    }
    assert!(scrape.sum("orderstream_http_requests_total") > 0.0, "what it has done it still knows");

    program.stack.start_again(Server::Redis).await;
    program.stack.start_again(Server::Postgres).await;
    eventually("both are back", async || is("redis", 1.0).await && is("postgres", 1.0).await).await;
    assert_eq!(Scrape::of(&api).await.count("orderstream_stream_length"), StageName::ALL.len());
}
