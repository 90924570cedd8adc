//! Every amount that somebody sees says in what it is, also after the installation has charged in another currency.

use serde_json::{Value, json};

use crate::program::{
    Orderstream, Program, Running,
    client::{Answer, Api},
    harness::{eventually, order},
};

/// An installation that has charged an order of 20.00 in each of two currencies.
async fn with_two_currencies() -> Program {
    let program = Program::seeded(5, &[1_000]).await;
    let bring = async |code: &str| {
        program.stack.publish(&[order(code, 1, &[(1, 2, 1_000)])]).await;
        program.run(&["run", "--until-drained"]).await.exits(0);
    };
    let set = async |currency: &str| {
        let set = ["provider", "set", "--simulator", "--success-rate", "1", "--currency", currency];
        program.run(&set).await.exits(0);
    };
    // One in which nothing is ever charged is in no sum.
    set("CHF").await;
    set("EUR").await;
    bring("EUR-1").await;
    set("USD").await;
    assert_eq!(currencies(&program).await, json!(["EUR"]), "nothing was charged in the other yet");
    bring("USD-1").await;
    program
}

async fn currencies(program: &Program) -> Value {
    program.run(&["kpi", "--json"]).await.exits(0).json()["currencies"].clone()
}

fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

const NOTE: &str = "Sums over EUR and USD, at face value";

#[tokio::test]
async fn every_amount_has_the_currency_of_its_order_and_sums_over_several_say_so() {
    let program = with_two_currencies().await;
    let shown = async |args: &[&str]| program.run(args).await.exits(0);
    let refund = ["refund", "EUR-1", "--key", "r-1", "--amount", "1", "--wait", "30"];
    let told = Running::spawn(&mut program.command(&refund), &refund);
    program.run(&["run", "--until-drained"]).await.exits(0);
    says(&told.end().await.exits(0).stdout, &["1.00 EUR of order EUR-1 went back"]);

    says(&shown(&["orders"]).await.stdout, &["20.00 EUR", "20.00 USD"]);
    let one = shown(&["order", "EUR-1"]).await.stdout;
    says(&one, &["20.00 EUR   refunded 1.00 EUR", "UNIT PRICE (EUR)", "of 20.00 EUR by", "refund r-1 of 1.00 EUR"]);
    assert!(!one.contains("USD"), "{one}");
    says(&shown(&["refunds"]).await.stdout, &["1.00 EUR"]);
    let order = shown(&["order", "USD-1", "--json"]).await.json();
    assert_eq!((&order["currency"], &order["payments"][0]["currency"]), (&json!("USD"), &json!("USD")));
    assert_eq!(shown(&["refunds", "--json"]).await.json()["refunds"][0]["currency"], "EUR");

    // Sums say over what they are.
    let both = json!(["EUR", "USD"]);
    says(&shown(&["kpi"]).await.stdout, &["REVENUE (EUR+USD)", "40.00", NOTE]);
    says(&shown(&["leaderboard", "customers"]).await.stdout, &["NET REVENUE (EUR+USD)", NOTE]);
    assert!(!shown(&["leaderboard", "products"]).await.stdout.contains("EUR"));
    assert_eq!(shown(&["leaderboard", "customers", "--json"]).await.json()[0]["currencies"], both);
    assert_eq!(currencies(&program).await, both);
    let api = Api::serve(&program, &[]).await;
    assert_eq!(api.get("/v1/kpis").await.ok(200)["currencies"], both);
    assert_eq!(api.get("/v1/leaderboards/customers").await.ok(200)["places"][0]["currencies"], both);
    assert_eq!(api.get("/v1/orders").await.ok(200)["orders"][0]["currency"], "USD");
    let today = async || api.get("/v1/overview").await.ok(200)["today"].clone();
    eventually("it has looked", async || today().await["currencies"] == both).await;
    let metrics = api.get("/metrics").await.text;
    says(&metrics, &["orderstream_currency_info{currency=\"EUR\"} 1", "orderstream_currency_info{currency=\"USD\"} 1"]);
    assert!(!metrics.contains("CHF"), "{metrics}");
    for (path, parts) in [
        ("/kpis", &["Revenue (EUR+USD)", "Net revenue (EUR+USD)", NOTE][..]),
        ("/", &["EUR+USD at face value"]),
        ("/orders", &["20.00 EUR", "20.00 USD"]),
        ("/refunds", &["1.00 EUR"]),
    ] {
        let page = Answer::of(api.request(reqwest::Method::GET, path).header("accept", "text/html")).await;
        says(&page.text, parts);
    }
    // What was before the second currency is in the first alone.
    program.stack.sql("UPDATE gateway_terms SET from_at = from_at - interval '3 days'").await;
    let last = "UPDATE gateway_terms SET from_at = now() WHERE id = (SELECT max(id) FROM gateway_terms)";
    program.stack.sql(last).await;
    let yesterday = (chrono::Utc::now() - chrono::TimeDelta::days(1)).format("%F").to_string();
    let before = shown(&["kpi", "--day", &yesterday, "--json"]).await.json();
    assert_eq!(before["currencies"], json!(["EUR"]));
}

#[tokio::test]
async fn figures_are_there_without_postgres_and_say_that_their_currency_is_unknown() {
    let program = with_two_currencies().await;
    let kpi = async |args: &[&str]| {
        let mut command = program.command(args);
        command.env("DATABASE_URL", "postgres://orderstream@127.0.0.1:1/orderstream");
        Running::spawn(&mut command, args).end().await.exits(0)
    };
    says(&kpi(&["kpi"]).await.stdout, &["40.00", "is unknown: Postgres does not answer"]);
    assert_eq!(kpi(&["kpi", "--json"]).await.json()["currencies"], Value::Null);
}

#[tokio::test]
async fn an_import_and_an_order_that_nobody_paid_for_name_what_is_charged_in() {
    let program = Program::seeded(5, &[1_000]).await;
    program.run(&["provider", "set", "--simulator", "--success-rate", "1", "--currency", "CHF"]).await.exits(0);
    program.stack.publish(&[order("NONE", 1, &[(1, 5_000, 1_000)])]).await;
    program.write("orders.csv", "order_code,customer_id,product_id,quantity,unit_price\nA,1,1,2,2.50\n");
    let workers = program.start(&["run"]);
    workers.says("running").await;
    says(&program.run(&["import", "orders.csv"]).await.exits(0).stdout, &["TOTAL (CHF)", "5.00"]);
    workers.stop().await.exits(0);
    let order = program.run(&["order", "NONE"]).await.exits(0).stdout;
    says(&order, &["failed (out_of_stock)", "50,000.00 CHF"]);
}
