//! `orderstream import --refunds` from end to end: every refund of a file ends as the file and the orders say, whatever the
//! file and whatever happens on the way.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::program::{Local, Orderstream, Program, harness::eventually, model};

const CUSTOMERS: i64 = 50;
const PRODUCTS: usize = 40;

const HEADER: &str = "refund_key,order_code,amount,reason,restock\n";

/// State, reason and granted or asked cents by key.
type Ends = BTreeMap<String, (String, Option<String>, Option<i64>)>;

/// What can be given back: cents by order code, none of an order that failed.
type Paid = HashMap<String, Option<i64>>;

/// A database with settled orders, and what was paid for each.
async fn settled(rows: &str) -> (Program, Paid) {
    let program = Program::seeded(CUSTOMERS, &[1_000_000; PRODUCTS]).await;
    let orders = model::orders(
        &program.generate("orders.csv", &["--rows", rows, "--customers", "50", "--products", "40"]).await,
    );
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    program.drain().await;
    let paid = orders.iter().map(|order| {
        let paid = model::is_approved(&order.code).then(|| order.total_cents());
        (order.code.clone(), paid)
    });
    let paid = paid.collect();
    (program, paid)
}

/// Requests of every kind, mixed up: parts that add up, parts that do not, wholes, repeated rows, unknown and failed orders.
fn refunds(paid: &Paid, count: usize) -> String {
    let codes: BTreeSet<&String> = paid.keys().collect();
    let codes: Vec<&String> = codes.into_iter().collect();
    let mut file = HEADER.to_owned();
    for number in 0..count {
        // Neighbours in the file are of different orders, and every order comes several times.
        let code = codes[number * 7919 % codes.len()];
        let cents = paid[code].unwrap_or(1_000).max(3);
        let amount = match number % 5 {
            0 => String::new(),
            1 | 2 => format!("{}.{:02}", cents / 300, cents / 3 % 100),
            3 => format!("{}.{:02}", cents / 125, cents * 4 / 5 % 100),
            _ => format!("{}.{:02}", cents / 100, cents % 100),
        };
        let code = if number % 500 == 13 { "NOBODY" } else { code.as_str() };
        let row = format!("r-{number},{code},{amount},reason {},{}\n", number % 3, ["", "yes", "false"][number % 3]);
        file += &row;
        if number % 100 == 50 {
            file += &row;
        }
    }
    file
}

/// How requests end that come in the sequence of the file, one after the other.
fn ends(file: &str, paid: &Paid) -> Ends {
    let mut left = paid.clone();
    let mut restocked = BTreeSet::new();
    let mut ends = Ends::new();
    for row in file.lines().skip(1) {
        let [key, code, amount, _, restock] = row.split(',').collect::<Vec<_>>()[..] else {
            panic!("five columns: {row}")
        };
        let restock = restock == "yes";
        if ends.contains_key(key) {
            continue;
        }
        let asked = (!amount.is_empty()).then(|| model::cents(amount));
        let refused = |reason: &str| ("refused".to_owned(), Some(reason.to_owned()), asked);
        let end = match left.get_mut(code) {
            None => refused("unknown_order"),
            Some(None) => refused("order_failed"),
            Some(Some(left)) => match asked.unwrap_or(*left) {
                0 if !restock => refused("nothing_left"),
                0 if restocked.contains(code) => refused("already_restocked"),
                amount if amount > *left => refused("exceeds_paid"),
                amount => {
                    *left -= amount;
                    if restock {
                        restocked.insert(code);
                    }
                    ("succeeded".to_owned(), None, Some(amount))
                }
            },
        };
        ends.insert(key.to_owned(), end);
    }
    ends
}

async fn known_ends(program: &Program) -> Ends {
    let rows: Vec<(String, String, Option<String>, Option<i64>)> =
        sqlx::query_as("SELECT key, status, refusal, coalesce(amount_cents, asked_cents) FROM refunds")
            .fetch_all(&program.stack.reports.pool())
            .await
            .expect("refunds");
    rows.into_iter().map(|(key, status, refusal, cents)| (key, (status, refusal, cents))).collect()
}

fn number(summary: &Value, path: &str) -> u64 {
    summary.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {summary:#}"))
}

/// Every row is accounted for, every refund once more, and every outcome once more.
fn adds_up(summary: &Value) {
    let count = |path: &str| number(summary, path);
    assert_eq!(count("/accepted_rows") + count("/rejected_rows"), count("/rows"), "{summary:#}");
    assert_eq!(count("/refunds/refunds") + count("/refunds/repeated_rows"), count("/accepted_rows"), "{summary:#}");
    if !summary["refunds"]["known"].is_null() {
        let known = ["new", "duplicate", "conflicting", "missing"].map(|kind| count(&format!("/refunds/known/{kind}")));
        assert_eq!(known.iter().sum::<u64>(), count("/refunds/refunds"), "{summary:#}");
        let standing = ["succeeded", "pending", "waiting"].map(|state| count(&format!("/refunds/outcomes/{state}")));
        let refused = summary["refunds"]["outcomes"]["refused"].as_object().expect("reasons");
        let refused: u64 = refused.values().filter_map(Value::as_u64).sum();
        assert_eq!(standing.iter().sum::<u64>() + refused, known[0] + known[1], "{summary:#}");
    }
}

/// Fails unless the refunds in Postgres are those, and the books balance.
async fn assert_ends(program: &Program, expected: &Ends) {
    let known = known_ends(program).await;
    assert_eq!(known.len(), expected.len());
    for (key, end) in expected {
        assert_eq!(known.get(key), Some(end), "{key}");
    }
    program.audit().await;
}

#[tokio::test]
async fn every_refund_of_a_file_ends_as_predicted_and_importing_it_again_changes_nothing() {
    let (program, paid) = settled("5000").await;
    let file = refunds(&paid, 4_000);
    let ends = ends(&file, &paid);
    program.write("refunds.csv", &file);
    let workers = program.start(&["run", "--refund-wait", "1"]);
    let first = program.run(&["import", "--refunds", "refunds.csv", "--json"]).await.exits(0).import();
    adds_up(&first);
    assert_eq!((first["kind"].as_str(), first["outcome"].as_str()), (Some("refunds"), Some("done")));
    assert_eq!(number(&first, "/refunds/known/new"), 4_000);
    assert_eq!(number(&first, "/refunds/repeated_rows"), 40);
    program.drain().await;
    assert_ends(&program, &ends).await;

    let second = program.run(&["import", "--refunds", "refunds.csv", "--json"]).await.exits(0).import();
    adds_up(&second);
    assert_eq!(number(&second, "/refunds/known/duplicate"), 4_000);
    let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
    for reason in ends.values().filter_map(|end| end.1.as_deref()) {
        *by_reason.entry(reason).or_default() += 1;
    }
    assert_eq!(by_reason.len(), 5, "the file has all kinds: {by_reason:?}");
    assert_eq!(second["refunds"]["outcomes"]["refused"], serde_json::json!(by_reason));
    let given: i64 = ends.values().filter(|end| end.0 == "succeeded").filter_map(|end| end.2).sum();
    let amount = second["refunds"]["outcomes"]["succeeded_amount"].as_str().expect("an amount");
    assert_eq!(model::cents(amount), given);
    program.drain().await;
    workers.stop().await.exits(0);
    assert_ends(&program, &ends).await;
    assert_eq!(program.dead_letters().await, 0);
    let noted: (String, String, i64, Option<i64>) =
        sqlx::query_as("SELECT kind, status, orders, duplicates FROM imports ORDER BY id DESC LIMIT 1")
            .fetch_one(&program.stack.reports.pool())
            .await
            .expect("the import");
    assert_eq!(noted, ("refunds".to_owned(), "done".to_owned(), 4_000, Some(4_000)));
}

#[tokio::test]
async fn an_import_of_refunds_that_is_killed_or_interrupted_is_completed_by_importing_the_file_again() {
    let (program, paid) = settled("5000").await;
    let file = refunds(&paid, 20_000);
    let ends = ends(&file, &paid);
    program.write("refunds.csv", &file);
    let import = program.start(&["import", "--refunds", "refunds.csv", "--max-backlog", "1000"]);
    let workers = program.start(&["run", "--batch", "50", "--refund-wait", "1"]);
    let amid = "SELECT EXISTS (SELECT FROM refunds) AND EXISTS (SELECT FROM imports WHERE status = 'publishing')";
    eventually("the first refunds arrive while it publishes", async || program.stack.value(amid).await).await;
    import.crash().await;

    let import = program.start(&["import", "--refunds", "refunds.csv"]);
    let waiting = "SELECT EXISTS (SELECT FROM imports WHERE status = 'waiting')";
    eventually("everything is published", async || program.stack.value(waiting).await).await;
    import.signal(Signal::SIGINT);
    let import = import.end().await.exits(130);
    assert!(import.stderr.contains("20,000 of 20,000 refunds"), "{}", import.stderr);

    let summary = program.run(&["import", "--refunds", "refunds.csv", "--json"]).await.exits(0).import();
    adds_up(&summary);
    program.drain().await;
    workers.stop().await.exits(0);
    assert_ends(&program, &ends).await;
    assert_eq!(program.dead_letters().await, 0);
}

#[tokio::test]
async fn two_processes_that_import_the_same_refunds_at_once_give_back_once() {
    let (program, paid) = settled("5000").await;
    let file = refunds(&paid, 5_000);
    let ends = ends(&file, &paid);
    program.write("refunds.csv", &file);
    let workers = program.start(&["run", "--refund-wait", "1"]);
    let imports = [0, 1].map(|_| program.start(&["import", "--refunds", "refunds.csv", "--json"]));
    let mut new = 0;
    for import in imports {
        let summary = import.end().await.exits(0).import();
        adds_up(&summary);
        new += number(&summary, "/refunds/known/new");
    }
    assert_eq!(new, 5_000, "each refund was new to one of them");
    program.drain().await;
    workers.stop().await.exits(0);
    assert_ends(&program, &ends).await;
    assert_eq!(program.dead_letters().await, 0);
}

#[tokio::test]
async fn refunds_that_come_before_their_orders_are_settled_wait_for_them() {
    let program = Program::seeded(CUSTOMERS, &[1_000_000; PRODUCTS]).await;
    let orders = model::orders(
        &program.generate("orders.csv", &["--rows", "2000", "--customers", "50", "--products", "40"]).await,
    );
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    program.run(&["run", "--stages", "reservation", "--until-drained"]).await.exits(0);
    let paid: Paid = orders
        .iter()
        .map(|order| (order.code.clone(), model::is_approved(&order.code).then(|| order.total_cents())))
        .collect();
    let rows = orders.iter().enumerate().map(|(number, order)| format!("r-{number},{},,,\n", order.code));
    let file = [HEADER.to_owned()].into_iter().chain(rows).collect::<String>();
    program.write("refunds.csv", &file);
    let refunding = program.start(&["run", "--stages", "refund,collector"]);
    let summary = program.run(&["import", "--refunds", "refunds.csv", "--json"]).await.exits(0).import();
    adds_up(&summary);
    assert_eq!(number(&summary, "/refunds/outcomes/waiting"), orders.len() as u64);
    program.drain().await;
    refunding.stop().await.exits(0);
    assert_ends(&program, &ends(&file, &paid)).await;
}

#[tokio::test]
async fn refunds_that_redis_lost_while_an_import_waits_are_published_again() {
    let program = Program::alone(CUSTOMERS, &[1_000_000; PRODUCTS]).await;
    program.write(
        "refunds.csv",
        format!("{HEADER}{}", (0..3_000).map(|n| format!("r-{n},A,1.00,,\n")).collect::<String>()),
    );
    let import = program.start(&["import", "--refunds", "refunds.csv", "--json"]);
    let waiting = "SELECT EXISTS (SELECT FROM imports WHERE status = 'waiting')";
    eventually("everything is published", async || program.stack.value(waiting).await).await;
    let mut redis = program.stack.connection().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.expect("Redis");
    let workers = program.start(&["run", "--refund-wait", "1"]);
    let summary = import.end().await.exits(0).import();
    adds_up(&summary);
    assert!(number(&summary, "/refunds/known/republished") >= 3_000);
    assert_eq!(number(&summary, "/refunds/known/new"), 3_000);
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(program.dead_letters().await, 0);
}

/// Line, key, order, column and reason of every row in a reject file.
fn rejected(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::Reader::from_path(path).expect("a reject file");
    let header: Vec<_> = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    assert_eq!(header, ["file", "line", "refund_key", "order_code", "column", "value", "reason", "message"]);
    let rows = reader.records().map(|row| row.expect("a row"));
    rows.map(|row| [1, 2, 3, 4, 6].iter().map(|&column| row[column].to_owned()).collect()).collect()
}

#[tokio::test]
async fn of_an_odd_file_all_but_the_bad_rows_is_imported() {
    let program = Program::seeded(CUSTOMERS, &[1_000_000; PRODUCTS]).await;
    let workers = program.start(&["run", "--refund-wait", "1"]);
    let long = "x".repeat(200_000);
    let rows: Vec<(Vec<u8>, &[&str])> = vec![
        (b"a,A,1.00,,\n".to_vec(), &[]),
        (b",A,1.00,,\n".to_vec(), &["", "A", "refund_key", "invalid_refund_key"]),
        (b"auto:1,A,1.00,,\n".to_vec(), &["auto:1", "A", "refund_key", "invalid_refund_key"]),
        (b"c,,1.00,,\n".to_vec(), &["c", "", "order_code", "invalid_order_code"]),
        (b"d,A,-1.00,,\n".to_vec(), &["d", "A", "amount", "invalid_amount"]),
        (b"e,A,1.005,,\n".to_vec(), &["e", "A", "amount", "invalid_amount"]),
        (b"f,A,0,,\n".to_vec(), &["f", "A", "amount", "invalid_amount"]),
        (b"g,A,1.00,bell \x07,\n".to_vec(), &["g", "A", "reason", "invalid_reason"]),
        (b"h,A,1.00,,maybe\n".to_vec(), &["h", "A", "restock", "invalid_restock"]),
        (b"i,A,1.00,op\"en,\n".to_vec(), &["i", "A", "reason", "misplaced_quote"]),
        (b"j,A,1.00,\"a\" b\" c\",\n".to_vec(), &["j", "A", "reason", "misplaced_quote"]),
        (b"k,A,1.00\n".to_vec(), &["k", "A", "", "too_few_columns"]),
        (b"l,A,1,000.00,,\n".to_vec(), &["l", "A", "", "too_many_columns"]),
        (b"m,A,1.00,Gr\xf6\xdfe,\n".to_vec(), &["m", "A", "reason", "invalid_utf8"]),
        (format!("n,A,1.00,{long},\n").into_bytes(), &["n", "A", "", "line_too_long"]),
        (b"=1+1,A,x,,\n".to_vec(), &["'=1+1", "A", "amount", "invalid_amount"]),
        (b"a,A,1,,no\r\n".to_vec(), &[]),
        (b"a,A,1.01,,\n".to_vec(), &["a", "A", "refund_key", "conflicting_key"]),
        (b"b,\"A\",,\"in \"\"part\"\"\",TRUE\n".to_vec(), &[]),
        (b"o,A".to_vec(), &["o", "", "", "cut_off"]),
    ];
    let file: Vec<u8> = [b"\xef\xbb\xbf", HEADER.as_bytes()].concat();
    let file = rows.iter().fold(file, |file, (row, _)| [file, row.clone()].concat());
    program.write("odd.csv", file);
    let import = program.run(&["import", "--refunds", "odd.csv", "--json"]).await.exits(3);
    assert!(import.stderr.contains("odd.csv, line 3, column refund_key"), "{}", import.stderr);
    let summary = import.import();
    adds_up(&summary);
    assert_eq!(number(&summary, "/refunds/refunds"), 2);
    let mut expected: Vec<Vec<String>> = (2..)
        .zip(&rows)
        .filter(|(_, (_, expected))| !expected.is_empty())
        .map(|(line, (_, expected))| {
            [vec![format!("{line}")], expected.iter().map(|&it| it.to_owned()).collect()].concat()
        })
        .collect();
    // Rows that contradict others come last.
    let conflict = expected.iter().position(|row| row[4] == "conflicting_key").expect("it is among them");
    let conflict = expected.remove(conflict);
    expected.push(conflict);
    assert_eq!(rejected(&program.path("odd.csv.rejects.csv")), expected);
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(known_ends(&program).await.into_keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(program.dead_letters().await, 0, "nothing that the importer accepts is refused behind it");
    program.audit().await;
}

#[tokio::test]
async fn an_edited_file_of_refunds_brings_its_new_ones_and_conflicts_for_the_others() {
    let program = Program::seeded(CUSTOMERS, &[1_000_000; PRODUCTS]).await;
    let workers = program.start(&["run", "--refund-wait", "1"]);
    program.write("refunds.csv", format!("{HEADER}a,A,1.00,,\nb,A,1.00,,\n"));
    program.run(&["import", "--refunds", "refunds.csv"]).await.exits(0);
    program.write("refunds.csv", format!("{HEADER}a,A,1,,\nb,A,1.00,,yes\nc,A,,,\n"));
    let edited = program.run(&["import", "--refunds", "refunds.csv", "--json"]).await.exits(3).import();
    adds_up(&edited);
    let known = ["new", "duplicate", "conflicting"].map(|kind| number(&edited, &format!("/refunds/known/{kind}")));
    assert_eq!(known, [1, 1, 1], "a is written differently, b asks for something else, c is new");
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(program.dead_letters().await, 1);
}

#[tokio::test]
async fn a_file_that_is_none_of_refunds_fails_with_the_column_that_is_missing() {
    let local = Local::new();
    for (header, message) in [
        ("", "the file is empty"),
        ("order_code,amount\n", "column refund_key is missing"),
        ("refund_key;amount\n", "column order_code is missing"),
        ("refund_key,amount,note\n", "column order_code is missing"),
        ("refund_key,order_code,Amount,amount\n", "column amount stands twice"),
        (
            "refund_key;order_code;Betrag\n",
            "column amount is missing in the header, which reads: refund_key;order_code;Betrag",
        ),
    ] {
        local.write("refunds.csv", header);
        let import = local.run(&["import", "--refunds", "--dry-run", "refunds.csv"]).await.exits(1);
        assert!(import.stderr.contains(message), "{message}: {}", import.stderr);
    }
    local.run(&["import", "--refunds", "--strict", "--dry-run", "refunds.csv"]).await.exits(2);
    local.write("refunds.csv", "note,order_code,refund_key,amount\nhm,A,r-1,\nhm,A,r-1,\n\nhm,A,r-2,\n");
    let import = local.run(&["import", "--refunds", "--dry-run", "refunds.csv", "--json"]).await.exits(0);
    let summary = import.import();
    adds_up(&summary);
    assert_eq!((number(&summary, "/rows"), number(&summary, "/refunds/refunds")), (3, 2));
    assert_eq!(summary["warnings"], serde_json::json!(["ignored columns: note"]));
    assert!(!local.state().exists(), "no server was started");
}

#[tokio::test]
async fn a_laptop_with_nothing_running_imports_orders_and_then_their_refunds() {
    let local = Local::prepared();
    let orders = model::orders(&local.generate("orders.csv", &["--rows", "500"]).await);
    local.run(&["import", "orders.csv"]).await.exits(0);
    let rows = orders.iter().map(|order| format!("refund of {0},{0},,,\n", order.code)).collect::<String>();
    local.write("refunds.csv", format!("{HEADER}{rows}"));
    let import = local.run(&["import", "--refunds", "refunds.csv"]).await.exits(0);
    let approved = orders.iter().filter(|order| model::is_approved(&order.code)).count();
    assert!(import.stdout.contains("order_failed"), "{}", import.stdout);
    let succeeded = import.stdout.lines().find(|line| line.contains("succeeded")).expect("some succeed");
    assert!(succeeded.contains(&approved.to_string()), "{approved}: {}", import.stdout);
    assert!(!local.servers_run(), "who comes last stops the servers");
    local.run(&["audit"]).await.exits(0);
}

#[tokio::test]
async fn a_refund_within_quotes_is_text_and_keys_that_look_alike_are_rejected() {
    let local = Local::new();
    local.write(
        "refunds.csv",
        "refund_key;order_code;amount;note\nr-1;A;1,50;\"as agreed\nr-evil;B;99.00;x\n\"\nr\u{200b}-1;A;2.00;\nr-3;A\u{ad};1;\n;;;\nr-4;A;1;\"never\nr-5;A;1;\n",
    );
    let summary = local.run(&["import", "--refunds", "--dry-run", "refunds.csv", "--json"]).await.exits(3);
    let told = summary.import();
    assert_eq!((told["rows"].as_u64(), told["accepted_rows"].as_u64()), (Some(5), Some(1)), "{told:#}");
    assert_eq!(told["form"]["delimiter"], ";");
    let rejects = std::fs::read_to_string(local.path("refunds.csv.rejects.csv")).expect("rejected rows");
    let mut reader = csv::Reader::from_reader(rejects.as_bytes());
    let shown: Vec<String> =
        reader.records().map(|row| row.expect("a row")).map(|row| format!("{} {}", &row[1], &row[6])).collect();
    assert_eq!(
        shown,
        ["5 invalid_refund_key", "6 invalid_order_code", "8 unbalanced_quote", "9 unbalanced_quote"],
        "{rejects}"
    );
}
