//! What is printed: harmless whatever it quotes, and no complaint when nobody reads it.

use std::process::Stdio;

use crate::program::{Local, Orderstream, Program};

/// Nothing that a terminal would act upon.
fn assert_harmless(what: &str, printed: &str) {
    let harmful = |character: &char| {
        (character.is_control() && *character != '\n')
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let found = printed.chars().find(harmful);
    assert_eq!(found, None, "{what}: {printed:?}");
}

#[tokio::test]
async fn a_hostile_file_does_nothing_to_the_terminal_that_it_is_imported_on() {
    let local = Local::prepared();
    let name = "\u{1b}[2J\u{202e}orders.csv";
    let hostile = "order_code,customer_id,product_id,quantity,unit_price,\u{1b}]0;owned\u{7},\u{202e}note\n\
                   A\u{202e}1,7,3,1,1.00,x,y\n\
                   B,7,3,1,\u{1b}[31m,x,y\n";
    local.write(name, hostile);
    let import = local.run(&["import", "--dry-run", name]).await.exits(3);
    assert_harmless("an import", &import.stderr);
    assert_harmless("an import", &import.stdout);
    assert!(import.stderr.contains("\\u{1b}[2J\\u{202e}orders.csv"), "{}", import.stderr);
    assert!(import.stderr.contains("ignored columns: \\u{1b}]0;owned\\u{7}, \\u{202e}note"), "{}", import.stderr);
    let rejects = std::fs::read_to_string(local.path(&format!("{name}.rejects.csv"))).expect("rejected rows");
    assert!(rejects.contains("A\u{202e}1") && rejects.contains("\u{1b}[31m"), "the file has the bytes: {rejects}");

    local.write("headless.csv", "\u{1b}[2Jorder_code,\u{202e}customer_id\n");
    let refused = local.run(&["import", "--dry-run", "headless.csv"]).await.exits(1);
    assert_harmless("a refused file", &refused.stderr);
    let missing = local.run(&["import", "--dry-run", "\u{1b}[2Jnowhere.csv"]).await.exits(1);
    assert_harmless("a missing file", &missing.stderr);
    let usage = local.run(&["orders", "--state", "\u{1b}[2J\u{202e}"]).await.exits(2);
    assert_harmless("a wrong argument", &usage.stderr);
    assert!(usage.stderr.contains("\\u{1b}[2J\\u{202e}"), "{}", usage.stderr);
}

#[tokio::test]
async fn what_the_tables_hold_is_shown_so_that_one_sees_it() {
    let program = Program::seeded(3, &[100; 3]).await;
    // As an installation has them from before such codes were refused.
    let hostile = ["A\u{200b}1", "A\u{ad}1", "A\u{202e}1", "A\u{a0}1"];
    for code in ["A1", "A2", "A3", "A4"] {
        let order = format!("id,order_code,customer_id,product_id,quantity,unit_price\n1,{code},1,1,1,1.00\n");
        program.write("orders.csv", order);
        program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    }
    program.drain().await;
    for (code, hostile) in ["A1", "A2", "A3", "A4"].iter().zip(hostile) {
        let renamed = sqlx::query("UPDATE orders SET code = $2 WHERE code = $1").bind(code).bind(hostile);
        renamed.execute(&program.stack.reports.pool()).await.expect("renamed");
    }
    let orders = program.run(&["orders"]).await.exits(0);
    assert_harmless("orders", &orders.stdout);
    for shown in ["A\\u{200b}1", "A\\u{ad}1", "A\\u{202e}1", "A\\u{a0}1"] {
        assert!(orders.stdout.contains(shown), "{shown}: {}", orders.stdout);
    }
    for code in hostile {
        let order = program.run(&["order", code]).await.exits(0);
        assert_harmless("an order", &order.stdout);
        let order = program.run(&["order", code, "--json"]).await.exits(0).json();
        assert_eq!(order["code"], code, "JSON has what is");
    }
    // It can be refunded, too.
    let refunded = program.start(&["run"]);
    let refund = program.run(&["refund", hostile[0], "--key", "r-1"]).await;
    assert!([Some(0), Some(6)].contains(&refund.code), "granted, or refused for what became of the order: {refund:?}");
    assert_harmless("a refund", &refund.stdout);
    refunded.stop().await.exits(0);
}

#[tokio::test]
async fn a_reader_that_hangs_up_is_no_error() {
    let local = Local::prepared();
    local.generate("orders.csv", &["--rows", "2000"]).await;
    local.write("bad.csv", "order_code,customer_id,product_id,quantity,unit_price\n".to_owned() + &"A,x\n".repeat(9));
    let commands: [&[&str]; 9] = [
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["completions", "elvish"],
        &["completions", "powershell"],
        &["--help"],
        &["api", "openapi"],
        &["generate", "-", "--rows", "200000"],
        &["import", "--dry-run", "orders.csv", "--json"],
    ];
    for args in commands {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = local.command(args);
        let child = command.stdout(writer).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the program");
        drop(command);
        let output = child.wait_with_output().await.expect("its end");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {stderr}");
        assert_eq!(stderr, "", "{args:?}");
    }
    for (args, code) in
        [(&["import", "--dry-run", "bad.csv"][..], 3), (&["generate", "more.csv"], 0), (&["nonsense"], 2)]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = local.command(args);
        let child = command.stderr(writer).stdout(Stdio::null()).stdin(Stdio::null()).spawn().expect("the program");
        drop(command);
        let output = child.wait_with_output().await.expect("its end");
        assert_eq!(output.status.code(), Some(code), "{args:?} without stderr");
    }
}

#[tokio::test]
async fn a_file_that_is_there_is_not_generated_over() {
    let local = Local::new();
    local.write("orders.csv", "mine");
    let refused = local.run(&["generate", "orders.csv"]).await.exits(6);
    assert!(refused.stderr.contains("orders.csv is there already"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(local.path("orders.csv")).expect("the file"), "mine");
    local.run(&["generate", "orders.csv", "--force", "--rows", "10"]).await.exits(0);
    assert_eq!(std::fs::read_to_string(local.path("orders.csv")).expect("the file").lines().count(), 11);
    let device = local.run(&["generate", "/dev/null", "--force"]).await.exits(1);
    assert!(device.stderr.contains("/dev/null"), "{}", device.stderr);
}
