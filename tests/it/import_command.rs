//! `orderstream import` from end to end: what is in the file is what is in Postgres, whatever the file and whatever
//! happens on the way.

use std::{fs, path::Path, process::Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::program::{
    Done, Local, Orderstream, Program, Running,
    harness::eventually,
    model::{self, ModelOrder},
};

const CUSTOMERS: i64 = 50;
const PRODUCTS: usize = 40;

const HEADER: &str = "id,order_code,customer_id,product_id,quantity,unit_price,total\n";

/// Flags for `generate` that fit the catalogue.
const FITTING: [&str; 4] = ["--customers", "50", "--products", "40"];

async fn ample() -> Program {
    Program::seeded(CUSTOMERS, &[1_000_000; PRODUCTS]).await
}

async fn generate(program: &impl Orderstream, name: &str, rows: &str) -> Vec<ModelOrder> {
    model::orders(&program.generate(name, &[&FITTING[..], &["--rows", rows]].concat()).await)
}

fn number(summary: &Value, path: &str) -> u64 {
    summary.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {summary:#}"))
}

/// Every row of the file is accounted for, and every accepted one once more.
fn adds_up(summary: &Value) {
    let row = |path: &str| number(summary, path);
    assert_eq!(row("/accepted_rows") + row("/rejected_rows"), row("/rows"), "{summary:#}");
    if !summary["known"].is_null() {
        let known = ["new", "duplicate", "conflicting", "missing"].map(|kind| row(&format!("/known/{kind}_rows")));
        assert_eq!(known.iter().sum::<u64>(), row("/accepted_rows"), "{summary:#}");
    }
}

#[tokio::test]
async fn every_order_of_a_file_ends_as_predicted_and_importing_it_again_changes_nothing() {
    let program = ample().await;
    let orders = generate(&program, "orders.csv", "10000").await;
    let ends = model::ends(&orders, CUSTOMERS, &[1_000_000; PRODUCTS]);
    let workers = program.start(&["run"]);
    let first = program.run(&["import", "orders.csv", "--json"]).await.exits(0).import();
    adds_up(&first);
    assert_eq!(number(&first, "/rows"), 10_000);
    assert_eq!(number(&first, "/orders"), orders.len() as u64);
    assert_eq!(number(&first, "/known/new_orders"), orders.len() as u64);
    program.drain().await;
    assert_eq!(program.ends().await, ends);
    let board = model::board(&orders, &ends);
    assert_eq!(program.board().await, board);

    let second = program.run(&["import", "orders.csv", "--json"]).await.exits(0).import();
    adds_up(&second);
    assert_eq!(number(&second, "/known/duplicate_rows"), 10_000);
    assert_eq!(number(&second, "/known/new_orders"), 0);
    assert_eq!(second["sha256"], first["sha256"]);
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(program.ends().await, ends);
    assert_eq!(program.board().await, board);
    assert_eq!(program.dead_letters().await, 0);
    assert!(!program.path("orders.csv.rejects.csv").exists(), "nothing was rejected");
    program.audit().await;
}

#[tokio::test]
async fn scarce_stock_goes_to_whom_it_is_due_in_the_order_of_the_file() {
    const STOCKS: [i64; PRODUCTS] = [200; PRODUCTS];
    let program = Program::seeded(CUSTOMERS, &STOCKS).await;
    let orders = generate(&program, "orders.csv", "10000").await;
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    // Stage by stage, so that what declined orders held is not free again before the last order was looked at.
    for stage in ["reservation", "payment", "settlement", "relay"] {
        program.run(&["run", "--stages", stage, "--until-drained"]).await.exits(0);
    }
    let ends = model::ends(&orders, CUSTOMERS, &STOCKS);
    let failed = ends.values().filter(|end| end.1.as_deref() == Some("out_of_stock")).count();
    assert!(failed > 500 && failed < orders.len() - 500, "{failed} orders without stock");
    assert_eq!(program.ends().await, ends);
    assert_eq!(program.board().await, model::board(&orders, &ends));
    program.audit().await;
}

#[tokio::test]
async fn an_edited_file_brings_its_new_orders_and_conflicts_for_the_others() {
    let program = ample().await;
    let row = |code: &str, quantity: i64| {
        format!("1,{code},7,3,{quantity},2.50,{}.{:02}\n", quantity * 5 / 2, quantity % 2 * 50)
    };
    let workers = program.start(&["run"]);
    program.write("orders.csv", [HEADER, &row("A", 1), &row("B", 2), &row("C", 3)].concat());
    program.run(&["import", "orders.csv"]).await.exits(0);
    program
        .write("orders.csv", [HEADER, &row("A", 1), &row("B", 3), &row("D", 4), &row("C", 3), &row("C", 3)].concat());
    let edited = program.run(&["import", "orders.csv", "--json"]).await.exits(3).import();
    adds_up(&edited);
    assert_eq!(number(&edited, "/known/duplicate_orders"), 1, "A is unchanged");
    assert_eq!(number(&edited, "/known/conflicting_orders"), 2, "B has another quantity, C another row");
    assert_eq!(number(&edited, "/known/conflicting_rows"), 3);
    assert_eq!(number(&edited, "/known/new_orders"), 1, "D");
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(program.dead_letters().await, 2);
    let pieces: i64 = program.stack.value("SELECT sum(quantity)::bigint FROM order_lines").await;
    assert_eq!(pieces, 1 + 2 + 3 + 4, "what was known is as it was");
    program.audit().await;
}

#[tokio::test]
async fn two_processes_that_import_the_same_file_at_once_do_it_once() {
    let program = ample().await;
    let orders = generate(&program, "orders.csv", "10000").await;
    let workers = program.start(&["run", "--workers", "2"]);
    let imports = [0, 1].map(|_| program.start(&["import", "orders.csv", "--json"]));
    let mut new_orders = 0;
    for import in imports {
        let summary = import.end().await.exits(0).import();
        adds_up(&summary);
        new_orders += number(&summary, "/known/new_orders");
    }
    assert_eq!(new_orders, orders.len() as u64, "each order was new to one of them");
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(program.ends().await, model::ends(&orders, CUSTOMERS, &[1_000_000; PRODUCTS]));
    assert_eq!(program.dead_letters().await, 0);
    program.audit().await;
}

/// A file, how its import ends, and the rejected rows: line and reason.
struct Case {
    name: &'static str,
    flags: &'static [&'static str],
    file: Vec<u8>,
    exit: i32,
    rejected: &'static [(u64, &'static str)],
    accepted: &'static [&'static str],
}

/// Rows of good orders stand around the bad ones, so that it shows when one of them goes down too.
fn odd_files() -> Vec<Case> {
    let case = |name, file: &[u8], exit, rejected, accepted| Case {
        name,
        flags: &[],
        file: [HEADER.as_bytes(), file].concat(),
        exit,
        rejected,
        accepted,
    };
    let long = format!("1,X,7,3,1,1.00,1.00\n2,{},7,3,1,1.00,1.00\n3,Z,7,3,1,1.00,1.00\n", "y".repeat(200_000));
    let lines: String = (0..1_001).map(|_| "1,X,7,3,1,1.00,1.00\n").chain(["1,Y,7,3,1,1.00,1.00\n"]).collect();
    let several = b"1,X,7,3,1,1.00,1.00\n2,X,8,3,1,1.00,1.00\n3,Y,7,3,1,1.00,1.00\n";
    let mut cases = vec![
        case("quote", b"1,X,7,3,1,1.00,1.00\n2,\"Y,7,3,1,1.00,1.00\n3,Z,7,3,1,1.00,1.00\n", 3, &[(3, "unbalanced_quote"), (4, "unbalanced_quote")], &["X"]),
        case("quote-in-code", b"1,X,7,3,1,1.00,1.00\n2,O\"Y,7,3,1,1.00,1.00\n", 3, &[(3, "misplaced_quote")], &["X"]),
        case("latin-1", b"1,X,7,3,1,1.00,1.00\n2,Gr\xf6\xdfe,7,3,1,1.00,1.00\n3,Z,7,3,1,1.00,1.00\n", 3, &[(3, "invalid_utf8")], &["X", "Z"]),
        case("cut-off", b"1,X,7,3,1,1.00,1.00\n2,Y,7,3,1,1.00,1.00\n3,Y,7,3", 3, &[(4, "cut_off"), (3, "order_rejected")], &["X"]),
        case("long", long.as_bytes(), 3, &[(3, "line_too_long")], &["X", "Z"]),
        case("columns", b"1,X,7,3,1,1.00,1.00\n2,Y,7,3,1,1.00\n3,Z,7,3,1,1,050.00,1050.00\n", 3, &[(3, "too_few_columns"), (4, "too_many_columns")], &["X"]),
        case("nul", b"1,X,7,3,1,1.00,1.00\n2,Y\0,7,3,1,1.00,1.00\n3,Z,7,3,1,1.00,1.00\n", 3, &[(3, "invalid_order_code")], &["X", "Z"]),
        case("numbers", b"1,X,7,3,0,1.00,0.00\n2,Y,7,3,-1,1.00,-1.00\n3,Z,7,3,1,1.005,1.01\n4,A,7,3,2,1.00,3.00\n5,B,x,3,1,1.00,1.00\n6,C,7,,1,1.00,1.00\n7,D,7,3,1,1.00,1.00\n", 3,
            &[(2, "invalid_quantity"), (3, "invalid_quantity"), (4, "invalid_unit_price"), (5, "wrong_total"), (6, "invalid_customer_id"), (7, "invalid_product_id")], &["D"]),
        case("half", b"1,X,7,3,1,1.00,1.00\n2,Y,7,3,1,1.00,1.00\n3,X,7,3,x,1.00,1.00\n4,X,7,3,1,1.00,1.00\n", 3,
            &[(4, "invalid_quantity"), (2, "order_rejected"), (5, "order_rejected")], &["Y"]),
        case("several", several, 0, &[], &["X", "Y"]),
        Case { flags: &["--strict"], ..case("several-strict", several, 3, &[(2, "order_rejected"), (3, "several_customers")], &["Y"]) },
        case("crlf", b"1,X,7,3,1,1.00,1.00\r\n2,Y,7,3,1,1.00,1.00\r\n", 0, &[], &["X", "Y"]),
        case("blank", b"\n1,X,7,3,1,1.00,1.00\n\n  \n2,Y,7,3,1,1.00,1.00", 0, &[], &["X", "Y"]),
        case("header-only", b"", 0, &[], &[]),
    ];
    let mut whole = |name, file: &[u8], accepted| {
        cases.push(Case { name, flags: &[], file: file.to_vec(), exit: 0, rejected: &[], accepted });
    };
    let body = "1,X,7,3,1,1.00,1.00\n2,Y,7,3,1,1.00,1.00\n";
    whole("bom", [b"\xef\xbb\xbf", HEADER.as_bytes(), body.as_bytes()].concat().as_slice(), &["X", "Y"]);
    whole("cr", [HEADER, body].concat().replace('\n', "\r").as_bytes(), &["X", "Y"]);
    whole(
        "order",
        b"unit_price,QUANTITY,note,product_id,\"customer_id\",order_code\n\"1.00\",1,\"a, \"\"b\"\"\",3,7,X\n",
        &["X"],
    );
    cases.push(case("many-lines", lines.as_bytes(), 3, &[], &["Y"]));
    cases
}

/// Line and reason of every row in a reject file.
fn rejected(path: &Path) -> Vec<(u64, String)> {
    if !path.exists() {
        return Vec::new();
    }
    let mut reader = csv::Reader::from_path(path).expect("a reject file");
    let header: Vec<_> = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    assert_eq!(header, ["file", "line", "order_code", "column", "value", "reason", "message"]);
    let rows = reader.records().map(|row| row.expect("a row"));
    rows.map(|row| (row[1].parse().expect("a line"), row[5].to_owned())).collect()
}

#[tokio::test]
async fn of_an_odd_file_all_but_the_bad_orders_is_imported() {
    let program = ample().await;
    let workers = program.start(&["run"]);
    for Case { name, flags, file, exit, rejected: expected, accepted } in odd_files() {
        let file_name = format!("{name}.csv");
        // No code stands in two files.
        let nth = program.stack.value::<i64>("SELECT count(*) FROM imports").await;
        let shift = |text: &str| format!("{text}-{nth}");
        program.write(&file_name, replace_codes(&file, &shift));
        let import = program.run(&[&["import", &file_name, "--json"], flags].concat()).await.exits(exit);
        let summary = import.import();
        adds_up(&summary);
        let rejects = rejected(&program.path(&format!("{file_name}.rejects.csv")));
        assert_eq!(rejects.len() as u64, number(&summary, "/rejected_rows"), "{name}");
        if !expected.is_empty() {
            let shown: Vec<(u64, &str)> = rejects.iter().map(|(line, reason)| (*line, reason.as_str())).collect();
            assert_eq!(shown, expected, "{name}");
            let (line, reason) = expected[0];
            assert!(import.stderr.contains(&format!("{file_name}, line {line}")), "{name}: {}", import.stderr);
            assert!(import.stderr.contains(reason), "{name}: {}", import.stderr);
        }
        let known: Vec<String> =
            sqlx::query_scalar("SELECT code FROM orders WHERE code LIKE '%-' || $1::text ORDER BY code")
                .bind(nth.to_string())
                .fetch_all(&program.stack.reports.pool())
                .await
                .expect("orders");
        assert_eq!(known, accepted.iter().map(|code| shift(code)).collect::<Vec<_>>(), "{name}");
    }
    program.drain().await;
    workers.stop().await.exits(0);
    let customer: i64 = program.stack.value("SELECT max(customer_id) FROM orders").await;
    assert_eq!(customer, 7, "the customer of an order is that of its first row");
    assert_eq!(program.dead_letters().await, 0, "nothing that the importer accepts is refused behind it");
    program.audit().await;
}

/// Appends to every code of one capital letter that fills a field.
fn replace_codes(file: &[u8], shift: &impl Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(file.len());
    for (at, &byte) in file.iter().enumerate() {
        let ends = |at: Option<&u8>| at.is_none_or(|byte| matches!(byte, b',' | b'\n' | b'\r' | b'"' | 0));
        if byte.is_ascii_uppercase() && ends(at.checked_sub(1).map(|before| &file[before])) && ends(file.get(at + 1)) {
            out.extend_from_slice(shift(&char::from(byte).to_string()).as_bytes());
        } else {
            out.push(byte);
        }
    }
    out
}

#[tokio::test]
async fn a_file_that_cannot_be_read_fails_with_its_name_and_changes_nothing() {
    let program = ample().await;
    program.write("empty.csv", "");
    program.write("blank.csv", "\n \n");
    program.write("missing.csv", "order_code,customer_id,product_id,unit_price\nX,7,3,1.00\n");
    program.write("doubled.csv", HEADER.replace("id,", "total,"));
    program.write("colons.csv", HEADER.replace(',', ":"));
    program.write("gzip.csv", b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
    program.write("book.csv", b"PK\x03\x04\x14\0\x06\0");
    program.write("unseen.csv", HEADER.replace("order_code", "order\u{200b}_code"));
    program.write("binary.csv", [0_u8; 200_000]);
    fs::create_dir(program.path("folder.csv")).expect("a folder");
    let table = [
        ("empty.csv", "the file is empty"),
        ("blank.csv", "the file is empty"),
        ("missing.csv", "column quantity is missing"),
        ("doubled.csv", "column total stands twice"),
        ("colons.csv", "column order_code is missing"),
        ("gzip.csv", "zcat FILE | orderstream import -"),
        ("book.csv", "save it as CSV"),
        ("unseen.csv", "contains U+200B"),
        ("binary.csv", "header"),
        ("folder.csv", "it is a directory"),
        ("nowhere.csv", "No such file"),
    ];
    for (name, message) in table {
        let import = program.run(&["import", name]).await.exits(1);
        assert!(import.stderr.contains(name), "{name}: {}", import.stderr);
        assert!(import.stderr.contains(message), "{name}: {}", import.stderr);
        assert!(!program.path(&format!("{name}.rejects.csv")).exists(), "{name}");
    }
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM orders").await, 0);
    let statuses: Vec<String> = sqlx::query_scalar("SELECT DISTINCT status FROM imports")
        .fetch_all(&program.stack.reports.pool())
        .await
        .expect("imports");
    assert_eq!(statuses, ["failed"]);

    // Among others it does not keep them from being imported.
    let workers = program.start(&["run"]);
    program.write("good.csv", format!("{HEADER}1,X,7,3,1,1.00,1.00\n"));
    let import = program.run(&["import", "empty.csv", "good.csv"]).await.exits(1);
    assert!(import.stderr.contains("empty.csv"), "{}", import.stderr);
    assert_eq!(program.ends().await.into_keys().collect::<Vec<_>>(), ["X"]);
    program.run(&["import", "empty.csv", "good.csv", "--rejects", "rejects.csv"]).await.exits(2);
    workers.stop().await.exits(0);
}

#[tokio::test]
async fn a_dry_run_needs_no_server_and_touches_nothing() {
    let local = Local::new();
    let orders = generate(&local, "orders.csv", "1000").await;
    let summary = local.run(&["import", "--dry-run", "orders.csv", "--json"]).await.exits(0).import();
    adds_up(&summary);
    assert_eq!(number(&summary, "/orders"), orders.len() as u64);
    assert_eq!(summary["dry_run"], true);
    local.write("bad.csv", format!("{HEADER}1,X,7,3,1,1.00,2.00\n"));
    let bad = local.run(&["import", "--dry-run", "bad.csv"]).await.exits(3);
    assert!(bad.stderr.contains("bad.csv, line 2, column total"), "{}", bad.stderr);
    assert!(!local.state().exists(), "no server was started");
}

#[tokio::test]
async fn standard_input_is_a_file_like_any_other() {
    let program = ample().await;
    let workers = program.start(&["run"]);
    let args = ["import", "-", "--json", "--rejects", "rejected.csv"];
    let mut import = Running::spawn(program.command(&args).stdin(Stdio::piped()), &args);
    let mut stdin = import.stdin();
    let rows = format!("{HEADER}1,X,7,3,1,1.00,1.00\n2,Y,7,3,1,1.00,9.00\n3,Z,7,3,1,1.00,1.00\n");
    stdin.write_all(rows.as_bytes()).await.expect("a reader");
    drop(stdin);
    let summary = import.end().await.exits(3).import();
    adds_up(&summary);
    assert_eq!(program.ends().await.into_keys().collect::<Vec<_>>(), ["X", "Z"]);
    assert_eq!(rejected(&program.path("rejected.csv")), [(3, "wrong_total".to_owned())]);
    workers.stop().await.exits(0);
}

#[tokio::test]
async fn an_import_that_waits_for_its_input_can_be_interrupted() {
    let program = ample().await;
    let args = ["import", "-"];
    let mut import = Running::spawn(program.command(&args).stdin(Stdio::piped()), &args);
    let mut stdin = import.stdin();
    stdin.write_all(HEADER.as_bytes()).await.expect("a reader");
    eventually("the import reads", async || program.stack.value::<i64>("SELECT count(*) FROM imports").await == 1)
        .await;
    import.signal(Signal::SIGINT);
    let import = import.end().await.exits(130);
    assert!(import.stderr.contains("nothing was published"), "{}", import.stderr);
    drop(stdin);
}

#[tokio::test]
async fn rejected_rows_never_overwrite_the_file_itself() {
    let program = ample().await;
    let file = format!("{HEADER}1,X,7,3,1,1.00,2.00\n");
    program.write("orders.csv", &file);
    for rejects in ["orders.csv", "./orders.csv", "link.csv"] {
        if rejects == "link.csv" {
            std::os::unix::fs::symlink("orders.csv", program.path(rejects)).expect("a link");
        }
        let import = program.run(&["import", "orders.csv", "--rejects", rejects]).await.exits(2);
        assert!(import.stderr.contains("--rejects"), "{}", import.stderr);
        assert_eq!(fs::read_to_string(program.path("orders.csv")).expect("the file"), file);
    }
}

#[tokio::test]
async fn rejected_rows_take_the_place_of_earlier_ones_and_of_no_other_file() {
    let program = ample().await;
    program.write("orders.csv", format!("{HEADER}1,X,7,3,1,1.00,2.00\n"));
    for (rejects, flags) in [("orders.csv.rejects.csv", &[][..]), ("accounts.csv", &["--rejects", "accounts.csv"])] {
        let import = ["import", "orders.csv"].iter().chain(flags).copied().collect::<Vec<_>>();
        program.write(rejects, "account,balance\n1,2\n");
        let refused = program.run(&import).await.exits(2);
        assert!(refused.stderr.contains(rejects) && refused.stderr.contains("--rejects"), "{}", refused.stderr);
        assert_eq!(fs::read_to_string(program.path(rejects)).expect("the file"), "account,balance\n1,2\n");
        fs::remove_file(program.path(rejects)).expect("a file");
        for _ in 0..2 {
            program.run(&import).await.exits(3);
            assert_eq!(rejected(&program.path(rejects)), [(2, "wrong_total".to_owned())]);
        }
    }
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM imports").await, 4, "the refused ones never began");
}

fn interrupted(import: &Done) {
    assert_eq!(import.code, Some(130), "{import:?}");
    assert!(import.stderr.contains("again to go on"), "a hint: {}", import.stderr);
}

#[tokio::test]
async fn an_interrupted_import_is_completed_by_importing_the_file_again() {
    let program = ample().await;
    let orders = generate(&program, "orders.csv", "50000").await;
    // Before anybody works, and again while the first orders arrive.
    let import = program.start(&["import", "orders.csv"]);
    let waiting = "SELECT EXISTS (SELECT FROM imports WHERE status = 'waiting')";
    eventually("everything is published", async || program.stack.value(waiting).await).await;
    import.signal(Signal::SIGINT);
    interrupted(&import.end().await);

    let import = program.start(&["import", "orders.csv", "--max-backlog", "2000"]);
    let workers = program.start(&["run", "--batch", "50"]);
    let amid = "SELECT EXISTS (SELECT FROM orders) AND EXISTS (SELECT FROM imports WHERE status = 'publishing')";
    eventually("the first orders arrive while it publishes", async || program.stack.value(amid).await).await;
    import.signal(Signal::SIGINT);
    interrupted(&import.end().await);
    let statuses: i64 = program.stack.value("SELECT count(*) FROM imports WHERE status = 'interrupted'").await;
    assert_eq!(statuses, 2);

    let summary = program.run(&["import", "orders.csv", "--json"]).await.exits(0).import();
    adds_up(&summary);
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(program.ends().await, model::ends(&orders, CUSTOMERS, &[1_000_000; PRODUCTS]));
    assert_eq!(program.dead_letters().await, 0);
    program.audit().await;
}

#[tokio::test]
async fn what_redis_lost_while_an_import_waits_is_published_again() {
    let program = Program::alone(CUSTOMERS, &[1_000_000; PRODUCTS]).await;
    let orders = generate(&program, "orders.csv", "20000").await;
    let import = program.start(&["import", "orders.csv", "--json"]);
    let waiting = "SELECT EXISTS (SELECT FROM imports WHERE status = 'waiting')";
    eventually("everything is published", async || program.stack.value(waiting).await).await;
    let mut redis = program.stack.connection().await;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.expect("Redis");
    let workers = program.start(&["run"]);
    let summary = import.end().await.exits(0).import();
    adds_up(&summary);
    assert!(number(&summary, "/known/republished_orders") >= orders.len() as u64);
    assert_eq!(number(&summary, "/known/new_orders"), orders.len() as u64);
    program.drain().await;
    workers.stop().await.exits(0);
    assert_eq!(program.ends().await, model::ends(&orders, CUSTOMERS, &[1_000_000; PRODUCTS]));
    assert_eq!(program.dead_letters().await, 0);
    program.audit().await;
}

#[tokio::test]
async fn a_laptop_with_nothing_running_imports_a_file() {
    let local = Local::new();
    let orders = model::orders(&local.generate("orders.csv", &["--rows", "2000"]).await);
    let first = local.run(&["import", "orders.csv", "--json"]).await.exits(0);
    assert!(first.stderr.contains("The catalogue was empty"), "{}", first.stderr);
    let summary = first.import();
    adds_up(&summary);
    let approved = orders.iter().filter(|order| model::is_approved(&order.code)).count();
    let states = summary["states"].as_array().expect("states");
    let completed = states.iter().find(|state| state["status"] == "completed").expect("completed ones");
    assert_eq!(completed["orders"].as_u64(), Some(approved as u64), "all are settled when the import returns");
    assert!(!local.servers_run(), "who comes last stops the servers");
    let published = local.run(&["import", "orders.csv", "--no-wait", "--json"]).await.exits(0).import();
    assert_eq!(published["outcome"], "published");
    assert!(published["known"].is_null(), "nobody waited to see");
    local.run(&["run", "--until-drained"]).await.exits(0);
    local.run(&["audit"]).await.exits(0);
    assert!(!local.servers_run());
}

#[tokio::test]
async fn text_within_quotes_never_becomes_an_order() {
    let program = ample().await;
    let workers = program.start(&["run"]);
    let header = "order_code,customer_id,product_id,quantity,unit_price,note\n";
    let note = "NOTE-1,1,1,1,10.00,\"please ring\nEVIL-1,2,2,50,0.01,x\nthanks\"\n";
    program.write("notes.csv", format!("{header}{note}B,1,1,1,1.00,\n"));
    let import = program.run(&["import", "notes.csv"]).await.exits(0);
    assert!(import.stdout.contains("first on line 2"), "it is told: {}", import.stdout);
    let again = program.run(&["import", "notes.csv", "--json"]).await.exits(0).import();
    assert_eq!(number(&again, "/form/rows_of_several_lines"), 1);
    assert_eq!(program.ends().await.into_keys().collect::<Vec<_>>(), ["B", "NOTE-1"]);

    program.write("open.csv", format!("{header}C,1,1,1,1.00,\n{}D,1,1,1,1.00,\n", note.replace("thanks\"", "thanks")));
    let import = program.run(&["import", "open.csv", "--json"]).await.exits(3);
    adds_up(&import.import());
    assert!(import.stderr.contains("open.csv, line 3, column note: a quote in the row of line 3 is never closed"));
    let lines = [3, 4, 5, 6].map(|line| (line, "unbalanced_quote".to_owned()));
    assert_eq!(rejected(&program.path("open.csv.rejects.csv")), lines);
    assert_eq!(program.ends().await.into_keys().collect::<Vec<_>>(), ["B", "C", "NOTE-1"]);
    workers.stop().await.exits(0);
    program.audit().await;
}

#[tokio::test]
async fn a_note_over_lines_without_a_quoted_field_is_seen_and_its_neighbours_are_imported() {
    let local = Local::prepared();
    let header = "order_code,customer_id,product_id,quantity,unit_price,note\n";
    let (good, evil) = ("G,1,1,1,1.00,ok\n", "EVIL,2,2,50,0.01,x\n");
    let cases = [
        (format!("N,1,1,1,1.00,note: \"please ring\n{evil}thanks\"\n"), vec![3, 4, 5]),
        (format!("N,1,1,1,1.00,=\"please ring\n{evil}{evil}thanks\",\n"), vec![3, 4, 5, 6]),
        (format!("N,1,1,1,1.00,please ring\\\n{evil}"), vec![3, 4]),
        (format!("N,1,1,1,1.00,please ring\\ \n\n{evil}"), vec![3, 5]),
        ("N,1,1,1,1.00,please\\\nEVIL,2,2,50,0.01,x\\\nthanks\n".to_owned(), vec![3, 4, 5]),
        // Whatever stands behind the quote that ends it, and whichever quotes it has inside.
        (format!("N,1,1,1,1.00,note: \"please ring\n{evil}thanks\" ok\n"), vec![3, 4, 5]),
        (format!("N,1,1,1,1.00,note: \"please ring\n{evil}thanks\".\n"), vec![3, 4, 5]),
        (format!("N,1,1,1,1.00,note: \"please ring\n{evil}\"\n"), vec![3, 4, 5]),
        (format!("N,1,1,1,1.00,note: \"please ring\nfor a 5\" pipe\n{evil}thanks\"\n"), vec![3, 4, 5, 6]),
        (format!("N,1,1,1,1.00,note: \"please\nring\" or \"knock\n{evil}thanks\"\n"), vec![3, 4, 5, 6]),
        (format!("N,1,1,1,1.00,note: \"\"please ring\n{evil}thanks\"\"\n"), vec![3, 4, 5]),
        (format!("N,1,1,1,1.00,note: \"\n{evil}at 5\"\n"), vec![3, 4, 5]),
        (format!("N,1,1,1,1.00,5\" pipe: \"please\n{evil}thanks\"\n"), vec![3, 4, 5]),
        // Inches.
        ("N,1,1,1,1.00,a 5\" pipe\nH,1,1,1,1.00,ok\nI,1,1,1,1.00,a 3\" pipe\n".to_owned(), vec![3, 5]),
        // One that nothing ends may go on for as many lines as a row.
        (format!("N,1,1,1,1.00,a \"pipe\n{}", evil.repeat(100)), (3..104).collect()),
    ];
    for (text, lines) in cases {
        local.write("notes.csv", format!("{header}{good}{text}{}", good.replace('G', "Z")));
        local.run(&["import", "--dry-run", "notes.csv"]).await.exits(3);
        let rejected = rejected(&local.path("notes.csv.rejects.csv"));
        assert_eq!(rejected.iter().map(|(line, _)| *line).collect::<Vec<_>>(), lines, "{text}");
    }
    // What another field begins in goes on below.
    let open = format!("N,1,1,1,1.00,please\\\nM,1,1,1,1.00,\"thanks\n{evil}\"\n");
    local.write("notes.csv", format!("{header}{good}{open}"));
    local.run(&["import", "--dry-run", "notes.csv"]).await.exits(3);
    let lines: Vec<u64> = rejected(&local.path("notes.csv.rejects.csv")).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, [3, 4, 5, 6]);
}

#[tokio::test]
async fn a_file_as_a_spreadsheet_writes_it_is_imported_and_told_of() {
    let local = Local::prepared();
    let text =
        format!("sep=;\r\n{}1;X;7;3;2;19,99;39,98\r\n;;;;;;\r\n", HEADER.replace(',', ";").replace('\n', ";;\r\n"));
    let utf16: Vec<u8> =
        format!("\u{feff}{}", text.replace("39,98", "39,98;;")).encode_utf16().flat_map(u16::to_le_bytes).collect();
    local.write("orders.csv", utf16);
    let told = local.run(&["import", "--dry-run", "orders.csv"]).await.exits(0);
    assert!(told.stdout.contains("read as UTF-16, separated by ;"), "{}", told.stdout);
    assert!(!told.stderr.contains("ignored columns"), "columns without a name are none: {}", told.stderr);
    let summary = local.run(&["import", "--dry-run", "orders.csv", "--json"]).await.exits(0).import();
    assert_eq!((number(&summary, "/rows"), number(&summary, "/orders")), (1, 1));
    assert_eq!(summary["form"]["encoding"], "utf-16le");
    assert_eq!(summary["form"]["delimiter"], ";");
    assert_eq!(number(&summary, "/form/empty_rows"), 1);
    assert!(summary["notes"][0].as_str().is_some_and(|note| note.contains("UTF-16")), "{summary:#}");
}
