//! Names from outside: whatever they are, links open them; and what is known already is told.

use serde_json::{Value, json};

use crate::program::{Orderstream, Program, client::Api, harness::eventually};

fn order(code: &str, quantity: i32) -> Value {
    let lines = json!([{ "product_id": 1, "quantity": quantity, "unit_price": "19.99" }]);
    json!({ "order_code": code, "customer_id": 1, "lines": lines })
}

#[tokio::test]
async fn a_link_opens_what_it_names_whatever_the_name_is() {
    const NAMES: [&str; 10] = [".", "..", "...", "a/..", "../..", "%2F", "%2e%2e", "?#&=+", "a b;c", "ü\\\""];
    let program = Program::seeded(1, &[1_000_000]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    for name in NAMES {
        let answer = api.post("/v1/orders", &order(name, 1)).await;
        let accepted = answer.ok(202);
        let link = answer.headers["location"].clone();
        assert_eq!(accepted["links"]["order"], link);
        // The client resolves the address, as every client does.
        eventually("it is there", async || api.get(&link).await.status == 200).await;
        assert_eq!(api.get(&link).await.ok(200)["code"], name, "{link}");
        eventually("it has ended", async || !api.get(&link).await.ok(200)["settled_at"].is_null()).await;

        let refund = api.post("/v1/refunds", &json!({ "refund_key": name, "order_code": name, "amount": "1" })).await;
        assert_eq!(refund.ok(202)["links"]["order"], link);
        let link = refund.headers["location"].clone();
        eventually("it is there", async || api.get(&link).await.status == 200).await;
        assert_eq!(api.get(&link).await.ok(200)["key"], name, "{link}");
    }

    // The pages link as the API does.
    let page = api.get("/orders").await.text;
    let links: Vec<String> = hrefs(&page)
        .filter(|link| link.starts_with("/order/") || link.starts_with("/order?") || link.starts_with("/orders/"))
        .collect();
    assert_eq!(links.len(), NAMES.len(), "{links:?}");
    for link in links {
        let page = api.get(&link).await;
        assert!(page.status == 200 && page.text.contains("<h1>Order "), "{link}");
        let form = page.text.split("action=\"").map(|rest| rest.split('"').next().unwrap_or_default());
        for action in form.filter(|action| action.contains("refunds")) {
            // Without a form, but it is the right place.
            let answer = api.send(&action.replace("&amp;", "&"), "application/x-www-form-urlencoded", "").await;
            assert_ne!(answer.status, 404, "{action}");
        }
    }
    let found = api.get("/orders?q=..").await;
    assert!(found.text.contains("<h1>Order ") && found.text.contains(">..<"), "searched for, it is found");
    for name in NAMES {
        let refunds = api.get(&format!("/v1/refunds?order={}", encoded(name))).await.ok(200);
        assert_eq!(refunds["refunds"][0]["key"], name);
    }
}

fn hrefs(page: &str) -> impl Iterator<Item = String> + '_ {
    page.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(|link| link.replace("&amp;", "&"))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn an_order_that_is_known_is_told_as_such_and_one_that_conflicts_is_refused() {
    let program = Program::seeded(1, &[1_000_000]).await;
    let api = Api::start(&program, "run", &[], &[]).await;
    assert_eq!(api.post("/v1/orders", &order("A", 1)).await.ok(202)["status"], "accepted");
    eventually("it is known", async || api.get("/v1/orders/A").await.status == 200).await;
    let again = api.post("/v1/orders", &order("A", 1)).await;
    assert_eq!((&again.ok(202)["status"], &*again.headers["location"]), (&json!("duplicate"), "/v1/orders/A"));
    let key = [("idempotency-key", "k")];
    for _ in 0..2 {
        let problem = api.post_with("/v1/orders", &order("A", 2), &key).await.problem(409, "order_conflict");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("\"A\"")), "{problem}");
    }
    let lines = [order("A", 1), order("A", 2), order("B", 1), order("B", 2), order("B", 1)];
    let body: Vec<String> = lines.iter().map(Value::to_string).collect();
    let many = api.send("/v1/orders", "application/x-ndjson", body.join("\n")).await.ok(202);
    let statuses: Vec<&str> =
        many["results"].as_array().expect("lines").iter().filter_map(|line| line["status"].as_str()).collect();
    // Within the request the first line with a code counts.
    assert_eq!(statuses, ["duplicate", "rejected", "accepted", "rejected", "accepted"], "{many}");
    assert_eq!((&many["accepted"], &many["duplicates"], &many["rejected"]), (&json!(2), &json!(1), &json!(2)));
    eventually("the other one is known", async || api.get("/v1/orders/B").await.status == 200).await;
    assert_eq!(program.dead_letters().await, 0);
}

#[tokio::test]
async fn orders_and_refunds_are_listed_by_customer_and_import_page_by_page() {
    let program = Program::seeded(3, &[1_000_000; 2]).await;
    let rows: String = (0..60).map(|n| format!("ORD-{n},{},1,1,10.00\n", 1 + n % 3)).collect();
    program.write("orders.csv", format!("order_code,customer_id,product_id,quantity,unit_price\n{rows}"));
    let import = program.start(&["import", "orders.csv"]);
    eventually("it is published", async || {
        program.stack.value::<i64>("SELECT count(*) FROM imports WHERE status = 'waiting'").await == 1
    })
    .await;
    program.drain().await;
    import.end().await.exits(0);
    let codes: String =
        program.stack.value("SELECT string_agg(code, ' ') FROM orders WHERE status = 'completed'").await;
    let rows: String = codes.split(' ').map(|code| format!("r-{code},{code},1.00\n")).collect();
    program.write("refunds.csv", format!("refund_key,order_code,amount\n{rows}"));
    let import = program.start(&["import", "--refunds", "refunds.csv"]);
    eventually("it is published", async || {
        program.stack.value::<i64>("SELECT count(*) FROM imports WHERE status = 'waiting'").await == 1
    })
    .await;
    program.drain().await;
    import.end().await.exits(0);

    let api = Api::serve(&program, &[]).await;
    let every = async |path: &str, list: &str, name: &str| {
        let (mut next, mut names) = (Some(path.to_owned()), Vec::new());
        while let Some(page) = next {
            let page = api.get(&page).await.ok(200);
            names.extend(
                page[list].as_array().expect("a list").iter().map(|one| one[name].as_str().expect("a name").to_owned()),
            );
            next = page["next"].as_str().map(str::to_owned);
        }
        names
    };
    let expected = async |query: &str| -> Vec<String> {
        let names: Option<Vec<String>> = program.stack.value(query).await;
        names.unwrap_or_default()
    };
    let orders = "SELECT array_agg(code ORDER BY created_at DESC, id DESC) FROM orders WHERE";
    for (query, condition) in [
        ("customer_id=2", "customer_id = 2"),
        ("import=1", "import_id = 1"),
        ("customer_id=3&import=1&status=completed", "customer_id = 3 AND status = 'completed'"),
        ("import=2", "false"),
    ] {
        let listed = every(&format!("/v1/orders?limit=7&{query}"), "orders", "code").await;
        assert_eq!(listed, expected(&format!("{orders} {condition}")).await, "{query}");
    }
    let refunds = "SELECT array_agg(key ORDER BY created_at DESC, key) FROM refunds WHERE";
    for (query, condition) in [
        ("import=2", "import_id = 2"),
        ("status=succeeded", "status = 'succeeded'"),
        ("status=refused", "false"),
        ("order=ORD-3", "order_code = 'ORD-3'"),
    ] {
        let listed = every(&format!("/v1/refunds?limit=7&{query}"), "refunds", "key").await;
        assert_eq!(listed, expected(&format!("{refunds} {condition}")).await, "{query}");
    }
    api.get("/v1/orders?customer_id=x").await.problem(400, "invalid_query");
    api.get("/v1/orders?after=999999999").await.problem(400, "invalid_query");
    api.get("/v1/refunds?after=x").await.problem(400, "invalid_query");
    api.get("/v1/refunds?status=x").await.problem(400, "invalid_query");

    let listed =
        program.run(&["orders", "--customer", "2", "--import", "1", "--limit", "5", "--json"]).await.exits(0).json();
    let last = listed["next"].to_string();
    assert_eq!(listed["orders"].as_array().map(Vec::len), Some(5));
    let rest = program.run(&["orders", "--customer", "2", "--after", &last, "--json"]).await.exits(0).json();
    assert_eq!(rest["orders"].as_array().map(Vec::len), Some(15));
    program.run(&["orders", "--after", "999999999"]).await.exits(5);
}
