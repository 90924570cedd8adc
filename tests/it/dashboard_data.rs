//! The pages of orders, refunds, stock, figures and imports: the real program, over real connections.

use std::{collections::BTreeSet, fs};

use orderstream::output::{money, thousands};
use pipeline::domain::Cents;
use reqwest::{Method, RequestBuilder, redirect::Policy};
use serde_json::{Value, json};

use crate::program::{
    Orderstream, Program,
    client::{Answer, Api},
    harness::{eventually, order, orders},
    provider::{KEY, Provider},
};

/// What an attacker would put wherever a text comes from outside.
const HOSTILE: &str = "\"><img src=x onerror=alert(1)><script>alert(2)</script>";

/// A browser without scripts that follows no redirects.
struct Browser<'a> {
    api: &'a Api,
    client: reqwest::Client,
    token: Option<String>,
}

impl<'a> Browser<'a> {
    fn new(api: &'a Api, token: Option<String>) -> Self {
        let client = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { api, client, token }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.api.address));
        let request = request.header("accept", "text/html");
        match &self.token {
            Some(token) => request.header("cookie", format!("orderstream_token={token}")),
            None => request,
        }
    }

    /// A page, whatever it says.
    async fn visit(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// The text of a page.
    async fn page(&self, path: &str) -> String {
        let answer = Answer::of(self.request(Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }

    /// Sends a form, as one of our own pages does.
    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let request = self.request(Method::POST, path).header("content-type", "application/x-www-form-urlencoded");
        let request = request.header("origin", format!("http://{}", self.api.address));
        Answer::of(request.header("sec-fetch-site", "same-origin").body(body.join("&"))).await
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The codes that a page links to.
fn codes(page: &str) -> Vec<String> {
    let rows = page.split("data-label=\"Code\"><a href=\"/orders/").skip(1);
    rows.map(|row| row.split('"').next().expect("a code").to_owned()).collect()
}

/// Where a page goes on.
fn next(page: &str) -> Option<String> {
    let link = page.split("rel=\"next\" href=\"").nth(1)?;
    Some(link.split('"').next()?.replace("&amp;", "&"))
}

async fn with_orders(count: i64) -> Program {
    let program = Program::seeded(5, &[5_000, 4_000, 3_000]).await;
    program.stack.publish(&orders("ORD", count)).await;
    program.drain().await;
    program
}

#[tokio::test]
async fn pages_say_what_to_do_next_when_there_is_nothing() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::new(&api, None);
    for (path, hint) in [
        ("/orders", "orderstream import orders.csv"),
        ("/orders?status=failed", "Show all orders"),
        ("/orders?q=NONE", "/dead?order=NONE"),
        ("/refunds", "orderstream refund CODE"),
        ("/stock", "orderstream load products FILE"),
        ("/stock?q=x", "Show all products"),
        ("/kpis", "Nothing ended in these days."),
        ("/imports", "orderstream generate orders.csv"),
    ] {
        let page = browser.page(path).await;
        assert!(page.contains(hint), "{path} does not say {hint:?}: {page}");
    }
    for path in ["/orders/NONE", "/imports/7"] {
        assert_eq!(Answer::of(browser.request(Method::GET, path)).await.status, 404, "{path}");
    }
    for path in ["/orders?status=x", "/orders?customer=x", "/orders?day=x", "/kpis?from=2026-01-02&to=2026-01-01"] {
        assert_eq!(Answer::of(browser.request(Method::GET, path)).await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn pages_show_what_the_commands_show() {
    let program = with_orders(300).await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::new(&api, None);

    let kpi = program.run(&["kpi", "--json"]).await.exits(0).json();
    let day = kpi["from"].as_str().expect("a day");
    let page = browser.page(&format!("/kpis?from={day}&to={day}")).await;
    let amount = |name: &str| kpi[name].as_str().expect("an amount").parse::<f64>().expect("a number");
    let number = |name: &str| thousands(kpi[name].as_i64().expect("a number"));
    #[expect(clippy::cast_possible_truncation, reason = "of a test")]
    let cents = |name: &str| money(Cents::new((amount(name) * 100.0).round() as i64));
    for shown in
        [number("orders"), number("completed"), number("failed"), cents("revenue"), cents("average_order_value")]
    {
        assert!(page.contains(&format!("<dd>{shown}<")), "{shown} is not on the page: {page}");
    }
    let mut failed = 0;
    for (reason, orders) in kpi["failed_by"].as_object().expect("reasons") {
        let orders = orders.as_i64().expect("a number");
        let link = format!("/orders?reason={reason}&amp;day={day}");
        assert_eq!(page.contains(&link), orders > 0, "{reason}");
        failed += orders;
    }
    assert_eq!(kpi["failed"], failed);
    let leaders = program.run(&["leaderboard", "customers", "--json"]).await.exits(0).json();
    let first = leaders[0]["id"].as_i64().expect("an id");
    assert!(page.contains(&format!("Customer {first}</a>")), "the leader's name: {page}");
    assert!(browser.page("/kpis").await.contains(&format!(">{day}</a></th>")), "day by day");

    let stock = program.run(&["stock", "--json"]).await.exits(0).json();
    let page = browser.page("/stock").await;
    assert_eq!(stock, json!({ "products": api.get("/v1/stock").await.ok(200)["products"], "next": null }));
    for product in stock["products"].as_array().expect("products") {
        let on_hand = thousands(product["on_hand"].as_i64().expect("a number"));
        assert!(page.contains(&format!("data-label=\"On hand\">{on_hand}</td>")), "{product}");
    }

    let listed = program.run(&["orders", "--limit", "1", "--state", "completed", "--json"]).await.exits(0).json();
    let code = listed["orders"][0]["code"].as_str().expect("a code");
    let detail = program.run(&["order", code, "--json"]).await.exits(0).json();
    let page = browser.page(&format!("/orders/{code}")).await;
    for moment in detail["timeline"].as_array().expect("moments") {
        assert!(page.contains(moment["what"].as_str().expect("a text")), "{moment}");
    }
    for state in ["data-state=\"done\" data-tone=\"good\"", "Received", "Completed"] {
        assert!(page.contains(state), "{state}");
    }
    // The exact code leads to the order.
    let found = Answer::of(browser.request(Method::GET, &format!("/orders?q={code}"))).await;
    assert_eq!((found.status.as_u16(), found.headers["location"].as_str()), (303, format!("/orders/{code}").as_str()));
}

#[tokio::test]
async fn filters_and_pages_together_show_each_order_once() {
    let program = with_orders(170).await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::new(&api, None);
    let today = program.stack.value::<String>("SELECT (now() AT TIME ZONE 'UTC')::date::text").await;
    for (filter, condition) in [
        (String::new(), "true"),
        ("?status=failed".to_owned(), "status = 'failed'"),
        ("?reason=out_of_stock".to_owned(), "failure_reason = 'out_of_stock'"),
        ("?customer=3".to_owned(), "customer_id = 3"),
        (format!("?day={today}&status=completed&q="), "status = 'completed'"),
        ("?day=2020-02-29".to_owned(), "false"),
    ] {
        let query = format!("SELECT coalesce(array_agg(code), '{{}}') FROM orders WHERE {condition}");
        let expected: Vec<String> = program.stack.value(&query).await;
        let (mut path, mut found) = (Some(format!("/orders{filter}")), Vec::new());
        while let Some(here) = path {
            let page = browser.page(&here).await;
            found.extend(codes(&page));
            path = next(&page);
        }
        let all: BTreeSet<&String> = found.iter().collect();
        assert_eq!(all.len(), found.len(), "{filter}: none twice");
        assert_eq!(all, expected.iter().collect(), "{filter}");
    }
}

#[tokio::test]
async fn hostile_texts_do_nothing_wherever_they_are_shown() {
    let program = Program::seeded(1, &[1_000]).await;
    let codes = ["1", "2", "3", "4"].map(|end| format!("{HOSTILE}{end}"));
    program.stack.publish(&codes.map(|code| order(&code, 1, &[(1, 2, 500)]))).await;
    program.drain().await;
    // The simulator declines some.
    let code: String = program.stack.value("SELECT min(code) FROM orders WHERE status = 'completed'").await;
    let name = format!("UPDATE products SET name = $h${HOSTILE}$h$, sku = $h${HOSTILE}$h$");
    program.stack.sql(&name).await;
    program.stack.sql(&format!("UPDATE customers SET name = $h${HOSTILE}$h$")).await;
    program.stack.sql(&format!("INSERT INTO imports (file_name, status) VALUES ($h${HOSTILE}$h$, 'reading')")).await;
    program.run(&["refund", &code, "--key", HOSTILE, "--reason", HOSTILE, "--amount", "1.00"]).await.exits(0);
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::new(&api, None);
    let order = format!("/orders/{}", encoded(&code));
    for path in [
        &order,
        "/orders",
        "/refunds",
        "/stock",
        "/kpis",
        "/imports",
        "/imports/1",
        &format!("/orders?q=x{}", encoded(HOSTILE)),
    ] {
        let page = browser.page(path).await;
        assert!(!page.contains("<img") && !page.contains("<script>alert"), "{path}: {page}");
        assert!(page.contains("&lt;img"), "{path} shows it");
    }
}

#[tokio::test]
async fn an_operator_refunds_once_and_a_viewer_is_told_why_not() {
    let program = Program::seeded(1, &[1_000]).await;
    program.stack.publish(&[order("ORD-1", 1, &[(1, 2, 1_000)])]).await;
    program.drain().await;
    let token = async |role: &str| {
        let made = program.run(&["token", "create", "--role", role, "--name", role, "--json"]).await.exits(0).json();
        Some(made["token"].as_str().expect("a token").to_owned())
    };
    let api = Api::start(&program, "run", &[], &[]).await;
    let (viewer, operator) = (Browser::new(&api, token("viewer").await), Browser::new(&api, token("operator").await));

    let page = viewer.page("/orders/ORD-1").await;
    assert!(page.contains("disabled title=\"Your role is viewer: this needs operator.\""), "{page}");
    let fields = [("key", "r-1"), ("amount", "5.00"), ("reason", "damaged")];
    assert_eq!(viewer.send("/orders/ORD-1/refunds", &fields).await.status, 403);

    assert!(operator.page("/orders/ORD-1").await.contains("action=\"/order/refund\""));
    assert_eq!(viewer.visit("/order/refund?code=ORD-1&amount=5.00").await.status, 403);
    for _ in 0..2 {
        let answer = operator.send("/orders/ORD-1/refunds", &fields).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        assert_eq!(answer.headers["location"], "/orders/ORD-1?refund=r-1");
    }
    // The answer waits for the outcome: it is on the page that it leads to.
    let page = operator.page("/orders/ORD-1?refund=r-1").await;
    assert!(page.contains("Refunded: 5.00 EUR went back. 15.00 EUR is left."), "{page}");
    assert!(page.contains("succeeded") && page.contains("damaged") && page.contains("Amount (EUR)"), "{page}");
    assert!(operator.page("/refunds?order=ORD-1").await.contains("r-1"));
    assert_eq!(program.stack.value::<i64>("SELECT refunded_cents FROM orders").await, 500);
    let noted =
        "SELECT string_agg(actor || ' ' || via || ' ' || verb || ' ' || target || ' ' || why || ' ' || outcome, '; ')
                 FROM (SELECT * FROM actions WHERE verb = 'refund' ORDER BY id LIMIT 1) first";
    assert_eq!(program.stack.value::<String>(noted).await, "operator dashboard refund ORD-1 damaged done");

    let wrong = operator.send("/orders/ORD-1/refunds", &[("key", "r-2"), ("amount", "lots")]).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    assert!(wrong.text.contains("/amount"), "{}", wrong.text);
    api.running.stop().await.exits(0);
    program.audit().await;
}

/// What the fields of a form are that a page hides.
fn hidden(page: &str) -> Vec<(String, String)> {
    let value = |input: &str, name: &str| {
        let value = input.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        value.unwrap_or_default().to_owned()
    };
    let main = page.split_once("<main").expect("a page").1;
    let inputs = main.split("<input").skip(1).map(|input| input.split('>').next().unwrap_or_default());
    let inputs = inputs.filter(|input| input.contains("type=\"hidden\""));
    inputs.map(|input| (value(input, "name"), value(input, "value"))).collect()
}

#[tokio::test]
async fn while_a_provider_has_not_confirmed_a_refund_asking_again_asks_for_the_same_one() {
    let mut provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(1, &[1_000]).await;
    program.stack.publish(&[order("ORD-1", 1, &[(1, 2, 1_000)])]).await;
    let flags = ["--gateway", &provider.url, "--gateway-timeout", "1"];
    let api = Api::start(&program, "run", &flags, &[("ORDERSTREAM_GATEWAY_KEY", KEY)]).await;
    eventually("it is paid", async || {
        program.stack.value::<i64>("SELECT count(*) FROM orders WHERE status = 'completed'").await == 1
    })
    .await;
    provider.kill().await;
    let browser = Browser::new(&api, None);
    let ask = async || {
        let page = browser.page("/orders/ORD-1").await;
        let key = hidden(&page).into_iter().find(|(name, _)| name == "key").expect("a key").1;
        let page = browser.page(&format!("/order/refund?code=ORD-1&key={key}&amount=5")).await;
        (key, page)
    };
    let (first, page) = ask().await;
    let form = hidden(&page);
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (&**name, &**value)).collect();
    let answer = browser.send("/orders/ORD-1/refunds", &form).await;
    let page = browser.page(&answer.headers["location"]).await;
    assert!(page.contains("5.00 EUR goes back: the payment provider has not confirmed it yet"), "{page}");
    // Another refund, which needs no provider, comes to its end meanwhile.
    let more = json!({ "refund_key": "elsewhere", "order_code": "ORD-1", "amount": "999" });
    api.post("/v1/refunds", &more).await.ok(202);
    eventually("it is refused", async || {
        program.stack.value::<i64>("SELECT count(*) FROM refunds WHERE status = 'refused'").await == 1
    })
    .await;
    // Whoever sees that nothing has gone back, and asks once more.
    let (again, page) = ask().await;
    assert_eq!(again, first);
    assert!(page.contains("This refund was asked for before, and is not given twice"), "{page}");
    browser.send("/orders/ORD-1/refunds", &form).await;
    provider.start_again(&["--approve", "1"]).await;
    program.stack.sql("UPDATE refunds SET due_at = now() WHERE status = 'pending'").await;
    eventually("it has gone back", async || {
        program.stack.value::<i64>("SELECT refunded_cents FROM orders").await == 500
    })
    .await;
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM refunds WHERE status = 'succeeded'").await, 1);
    assert_eq!(provider.ledger().await.keys().filter(|(kind, _)| kind == "refund").count(), 1);
    // Now that one knows, the next form is another one.
    assert_ne!(ask().await.0, first);
    api.running.stop().await.exits(0);
}

#[tokio::test]
async fn a_refund_is_given_once_however_often_its_form_is_sent_and_its_outcome_is_shown() {
    let program = Program::seeded(1, &[1_000]).await;
    program.stack.publish(&[order("ORD-1", 1, &[(1, 2, 1_000)])]).await;
    program.run(&["run", "--until-drained", "--currency", "USD"]).await.exits(0);
    let api = Api::start(&program, "run", &[], &[]).await;
    let browser = Browser::new(&api, None);
    let given = async || program.stack.value::<i64>("SELECT refunded_cents FROM orders").await;
    let send = async |browser: &Browser<'_>, fields: &[(String, String)]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = browser.send("/orders/ORD-1/refunds", &fields).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        browser.page(&answer.headers["location"]).await
    };
    let key = |page: &str| hidden(page).into_iter().find(|(name, _)| name == "key").expect("a key").1;

    // Each load of the page, and each tab, has the same form until a refund is known.
    let first = key(&browser.page("/orders/ORD-1").await);
    assert_eq!(key(&browser.page("/orders/ORD-1").await), first);
    let asks = format!("/order/refund?code=ORD-1&key={first}&amount=5&reason=damaged");
    let page = browser.page(&asks).await;
    assert!(page.contains("<button class=\"danger\">Refund 5.00 USD</button>"), "how much, and in what: {page}");
    assert!(page.contains("<dt>Left afterwards</dt><dd class=\"nowrap\">15.00 USD</dd>"), "{page}");
    assert_eq!(key(&page), first, "the page that asks keeps it");
    let form = hidden(&page);
    let (one, two) = tokio::join!(send(&browser, &form), send(&browser, &form));
    for page in [&one, &two, &send(&browser, &form).await] {
        assert!(page.contains("Refunded: 5.00 USD went back. 15.00 USD is left."), "{page}");
    }
    assert_eq!(given().await, 500);

    // Who goes back finds that it was done; another amount by the same form is another refund, and is not given.
    let page = browser.page(&asks).await;
    assert!(page.contains("This refund was asked for before") && !page.contains("Refund 5.00 USD<"), "{page}");
    let mut other = form.clone();
    other.iter_mut().filter(|(name, _)| name == "amount").for_each(|(_, value)| *value = "6.00".to_owned());
    let page = send(&browser, &other).await;
    assert!(page.contains("This form gave nothing") && page.contains("5.00 USD of this order"), "{page}");
    assert_eq!(given().await, 500);

    // Whoever means it has a new form, and sees what is wrong before it is sent.
    let second = key(&page);
    assert_ne!(second, first);
    let page = browser.visit(&format!("/order/refund?code=ORD-1&key={second}&amount=15.01")).await.text;
    assert!(
        page.contains("That is more than is left: 15.00 USD.") && !page.contains("method=\"post\" action=\"/orders"),
        "{page}"
    );
    assert_eq!(browser.visit(&format!("/order/refund?code=ORD-1&key={second}&amount=lots")).await.status, 422);
    // While nobody takes refunds in, the page says so; the same form again is the same refund, and another is none.
    let idle = Api::serve(&program, &[]).await;
    api.running.stop().await.exits(0);
    let browser = Browser::new(&idle, None);
    let form = hidden(&browser.page(&format!("/order/refund?code=ORD-1&key={second}&amount=4.00")).await);
    let page = send(&browser, &form).await;
    assert!(page.contains("is on its way, and not taken in yet"), "{page}");
    assert_eq!(key(&page), second, "nothing is known yet");
    let mut other = form.clone();
    other.iter_mut().filter(|(name, _)| name == "amount").for_each(|(_, value)| *value = "3.00".to_owned());
    assert!(send(&browser, &other).await.contains("This form gave nothing"));
    assert!(browser.page("/orders/ORD-1").await.contains("is on its way, and not taken in yet"), "whoever comes later");
    send(&browser, &form).await;
    program.drain().await;
    assert_eq!(given().await, 900);
    let page = browser.page(&format!("/orders/ORD-1?refund={second}")).await;
    assert!(page.contains("Refunded: 4.00 USD went back. 11.00 USD is left."), "{page}");
    assert_eq!(program.dead_letters().await, 0, "no form left a dead letter");
    idle.running.stop().await.exits(0);
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM refunds").await, 2);
    program.audit().await;
}

#[tokio::test]
async fn a_refund_that_was_lost_on_its_way_is_told_and_another_one_may_be_asked_for() {
    let program = Program::alone(1, &[1_000]).await;
    program.stack.publish(&[order("ORD-1", 1, &[(1, 2, 1_000)])]).await;
    program.run(&["run", "--until-drained"]).await.exits(0);
    program.run(&["pause", "refund"]).await.exits(0);
    let api = Api::start(&program, "run", &[], &[]).await;
    let browser = Browser::new(&api, None);
    let form = async |amount: &str| {
        let key =
            hidden(&browser.page("/orders/ORD-1").await).into_iter().find(|(name, _)| name == "key").expect("a key").1;
        hidden(&browser.page(&format!("/order/refund?code=ORD-1&key={key}&amount={amount}")).await)
    };
    let send = async |fields: Vec<(String, String)>| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        let answer = browser.send("/orders/ORD-1/refunds", &fields).await;
        browser.page(&answer.headers["location"]).await
    };
    assert!(send(form("5").await).await.contains("is on its way, and not taken in yet"));
    assert!(send(form("5.00").await).await.contains("is on its way"), "the same, in other words");
    let page = send(form("6").await).await;
    assert!(page.contains("This form gave nothing"), "{page}");
    // With it goes the pause.
    let mut redis = program.stack.connection().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.expect("emptied");
    eventually("the page says that it is lost", async || {
        browser.page("/orders/ORD-1").await.contains("was lost on its way")
    })
    .await;
    let page = send(form("6").await).await;
    assert!(page.contains("Refunded: 6.00 EUR went back. 14.00 EUR is left."), "{page}");
    api.running.stop().await.exits(0);
    program.audit().await;
}

#[tokio::test]
async fn drift_is_found_when_reserved_pieces_were_changed_by_hand() {
    let program = with_orders(20).await;
    let api = Api::serve(&program, &[]).await;
    let browser = Browser::new(&api, None);
    assert!(browser.page("/stock?check=1").await.contains("Every product holds what open orders hold."));
    program.run(&["stock", "--drift"]).await.exits(0);
    program.stack.sql("UPDATE products SET reserved = 77 WHERE id = 2").await;
    let page = browser.page("/stock?check=1").await;
    assert!(page.contains("drifted") && page.contains("data-label=\"Reserved\">77</td>"), "{page}");
    assert!(page.contains("data-label=\"Held by open orders\">0</td>"), "{page}");
    let named: Value = program.run(&["stock", "--drift", "--json"]).await.exits(4).json();
    assert_eq!(named["drift"], json!([{ "product_id": 2, "reserved": 77, "held": 0 }]));
}

#[tokio::test]
async fn an_import_of_the_command_line_is_seen_with_what_became_of_it() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    let browser = Browser::new(&api, None);
    let rows: String = (0..40).map(|n| format!("ORD-{n},{},{},2,9.99\n", 1 + n % 5, 1 + n % 5)).collect();
    let file = program.folder().join("orders.csv");
    fs::write(&file, format!("order_code,customer_id,product_id,quantity,unit_price\n{rows}BAD,x,1,1,1\n"))
        .expect("a file");
    program.run(&["import", "orders.csv"]).await.exits(3);
    let page = browser.page("/imports").await;
    assert!(page.contains("orders.csv") && page.contains("done"), "{page}");
    let page = browser.page("/imports/1").await;
    assert!(page.contains("<dd>40<") && page.contains("FILE.rejects.csv"), "{page}");
    let listed = browser.page("/orders?import=1").await;
    assert_eq!(codes(&listed).len(), 40);

    // One that runs elsewhere: as far as it noted, and silent once it says nothing any more.
    program
        .stack
        .sql(
            "INSERT INTO imports (file_name, status, position, length, noted_at) VALUES
                ('far.csv', 'reading', 250, 1000, now()), ('gone.csv', 'publishing', 1, 9, now() - interval '1 hour')",
        )
        .await;
    let page = browser.page("/imports").await;
    assert!(page.contains("reading, 25.0 %") && page.contains("silent"), "{page}");
    let progress = api.get("/v1/imports/2").await.ok(200)["progress"].clone();
    assert_eq!(progress, json!({ "phase": "reading", "position": 250, "length": 1000 }));
    api.running.stop().await.exits(0);
}
