//! What processes are told has to agree with the installation, at their start and ever after.

use nix::sys::signal::Signal;
use redis::AsyncCommands;

use super::installed::{QUICK, charged, keyed, ledgers_agree, orders, standing};
use crate::program::{
    Orderstream, Program,
    harness::eventually,
    provider::{KEY, Provider},
};

#[tokio::test]
async fn a_process_that_was_told_otherwise_is_refused_and_both_are_named() {
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["run", "--until-drained", "--success-rate", "0.5"]).await.exits(0);
    for (args, said) in [
        (&["run", "--until-drained", "--success-rate", "0.6"][..], "--success-rate 0.6"),
        (&["run", "--until-drained", "--currency", "USD"], "--currency USD"),
        (&["run", "--until-drained", "--gateway", "http://127.0.0.1:9"], "--gateway http://127.0.0.1:9"),
    ] {
        let refused = program.run(args).await.exits(6);
        for text in [said, "simulated, approves 0.5", "EUR", "orderstream provider set"] {
            assert!(refused.stderr.contains(text), "{text:?} is not in {refused:?}");
        }
    }
    // An import that brings no workers does not pass over what it is told either.
    program.write("orders.csv", orders(["A".to_owned()]));
    let refused = program.run(&["import", "orders.csv", "--gateway", "http://127.0.0.1:9"]).await.exits(6);
    assert!(refused.stderr.contains("--gateway http://127.0.0.1:9"), "{refused:?}");
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM imports").await, 0);
    program.run(&["run", "--until-drained", "--success-rate", "0.5", "--currency", "EUR"]).await.exits(0);
    program.run(&["run", "--until-drained"]).await.exits(0);
}

#[tokio::test]
async fn processes_that_start_together_agree_on_the_first_of_them() {
    let program = Program::seeded(10, &[1_000]).await;
    let urls: Vec<String> = (1..=6).map(|port| format!("http://127.0.0.1:{port}")).collect();
    let runs: Vec<_> = urls.iter().map(|url| program.start(&["run", "--until-drained", "--gateway", url])).collect();
    let mut started = 0;
    for run in runs {
        let done = run.end().await;
        assert!(matches!(done.code, Some(0 | 6)), "{done:?}");
        started += usize::from(done.code == Some(0));
    }
    assert_eq!(started, 1);
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM gateway_terms").await, 1);
}

#[tokio::test]
async fn running_processes_follow_a_change_unless_they_were_told_otherwise() {
    let (first, second) = (Provider::start(&["--approve", "1"]).await, Provider::start(&["--approve", "1"]).await);
    let program = Program::seeded(10, &[1_000_000]).await;
    // Neither has a key of one of the two for all providers: each names the gateway that it belongs to.
    let start = |args: &[&str]| {
        let args = [&["run"], args, &QUICK[..]].concat();
        let mut command = program.command(&args);
        for name in ["HTTP", "HTTP_2"] {
            command.env(format!("ORDERSTREAM_GATEWAY_KEY_{name}"), KEY);
        }
        crate::program::Running::spawn(&mut command, &args)
    };
    let told = start(&["--gateway", &first.url]);
    told.says("running").await;
    let follower = start(&[]);
    follower.says("running").await;
    let bring = |name: &str| {
        program.write("orders.csv", orders((0..300).map(|n| format!("{name}-{n}"))));
        program.start(&["import", "orders.csv"])
    };
    bring("FIRST").end().await.exits(0);
    eventually("the first provider took the money", async || standing(&program).await == ["http completed 300"]).await;

    program.run(&["provider", "set", &second.url]).await.exits(0);
    // Whoever has nothing to charge need not know: it gets the orders, all of them if need be.
    follower.signal(Signal::SIGSTOP);
    let import = bring("SECOND");
    let refused = told.end().await.exits(6);
    follower.signal(Signal::SIGCONT);
    import.end().await.exits(0);
    assert!(refused.stderr.contains(&first.url) && refused.stderr.contains(&second.url), "{refused:?}");
    eventually("the second provider took the money", async || {
        standing(&program).await == ["http completed 300", "http-2 completed 300"]
    })
    .await;
    assert_eq!((charged(&first).await, charged(&second).await), ((300, 300), (300, 300)));
    follower.stop().await.exits(0);
    ledgers_agree(&program).await;
}

#[tokio::test]
async fn the_key_of_one_provider_is_never_sent_to_another() {
    let first = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    let run = keyed(&program, &[&["run", "--gateway", &first.url], &QUICK[..]].concat());
    run.says("running").await;
    run.stop().await.exits(0);
    // Whoever has no flag but a key has the key of the provider that he found.
    let run = keyed(&program, &[&["run"], &QUICK[..]].concat());
    run.says("running").await;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let heard = std::sync::Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut bytes = vec![0; 4096];
            let read = tokio::io::AsyncReadExt::read(&mut connection, &mut bytes).await.unwrap_or(0);
            heard.lock().expect("nobody panics").push(String::from_utf8_lossy(&bytes[..read]).into_owned());
        }
    });
    program.run(&["provider", "set", &url]).await.exits(0);
    program.write("orders.csv", orders(["A".to_owned()]));
    program.run(&["import", "orders.csv"]).await.exits(0);
    let ended = run.end().await.exits(6);
    assert!(ended.stderr.contains("ORDERSTREAM_GATEWAY_KEY"), "{ended:?}");
    assert!(seen.lock().expect("nobody panics").is_empty(), "it was called");
    assert_eq!(standing(&program).await, ["reserved 1"]);
}

#[tokio::test]
async fn who_ever_had_a_provider_gets_the_simulator_only_by_an_explicit_word() {
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", "http://127.0.0.1:9", "--currency", "CHF"]).await.exits(0);
    let refused = program.run(&["provider", "set", "--simulator"]).await.exits(6);
    assert!(refused.stderr.contains("nobody is charged") && refused.stderr.contains("--uncharged"), "{refused:?}");
    let refused = program.run(&["run", "--until-drained", "--success-rate", "1"]).await.exits(6);
    assert!(refused.stderr.contains("http://127.0.0.1:9"), "{refused:?}");
    program.run(&["provider", "set", "--simulator", "--success-rate", "1", "--uncharged"]).await.exits(0);
    program.run(&["run", "--until-drained", "--success-rate", "1"]).await.exits(0);
    let shown = program.run(&["provider"]).await.exits(0);
    assert!(shown.stdout.contains("simulated, approves 1") && shown.stdout.contains("CHF"), "{shown:?}");
    let actions = program.run(&["actions", "--json"]).await.exits(0).json();
    let outcomes: Vec<_> = actions["actions"].as_array().expect("actions").iter().map(|one| &one["verb"]).collect();
    assert_eq!(outcomes, ["set_provider"; 2], "{actions}");
    // What nobody can use is said before it is stored.
    for (args, code) in [
        (&["provider", "set", "pay.example"][..], 2),
        (&["provider", "set", "http://pay.example"], 2),
        (&["provider", "set", "https://u:secret@pay.example"], 2),
        (&["provider", "set", "https://pay.example", "--currency", "euro"], 2),
        (&["provider", "set", "https://pay.example", "--name", "A B"], 2),
        (&["provider", "set", "https://pay.example", "--name", "http"], 6),
        (&["provider", "set", "https://pay.example", "--name", "file"], 2),
        (&["provider", "set", "--simulator", "--success-rate", "2", "--uncharged"], 2),
        (&["provider", "locate", "nobody", "https://pay.example", "--currency", "EUR"], 5),
        (&["provider", "locate", "http", "https://pay.example", "--currency", "EUR"], 6),
    ] {
        let failed = program.run(args).await.exits(code);
        assert!(!failed.stderr.contains("secret"), "{failed:?}");
    }
}

/// As an operator does whose original is gone.
async fn disown(program: &Program) {
    let mut redis = program.stack.connection().await;
    let gone: u64 = redis.del(program.stack.redis.keys().installation()).await.expect("Redis");
    assert_eq!(gone, 1);
}

#[tokio::test]
async fn a_copy_with_an_id_of_its_own_is_another_installation_at_the_same_provider() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", &provider.url]).await.exits(0);
    let mark =
        |shown: &serde_json::Value, n: usize| shown["gateways"][n]["reference_prefix"].as_str().map(str::to_owned);
    let before = program.run(&["provider", "--json"]).await.exits(0).json();
    program.stack.sql("UPDATE settings SET value = gen_random_uuid() WHERE key = 'installation'").await;
    // What it says is not what stands before its references: nobody is charged until somebody has said it again.
    let refused = keyed(&program, &["run", "--until-drained"]).end().await.exits(6);
    assert!(
        refused.stderr.contains("it is a copy") && refused.stderr.contains("orderstream provider set"),
        "{refused:?}"
    );
    program.run(&["provider", "set", &provider.url]).await.exits(0);
    let after = program.run(&["provider", "--json"]).await.exits(0).json();
    assert_eq!(mark(&after, 0), mark(&before, 0), "what was charged before stays findable");
    assert_ne!(mark(&after, 1), mark(&before, 0), "{after}");
    keyed(&program, &["run", "--until-drained"]).end().await.exits(0);
}

#[tokio::test]
async fn refunds_of_a_copy_do_not_meet_those_of_the_original() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", &provider.url]).await.exits(0);
    program.write("orders.csv", orders(["A".to_owned()]));
    let run = keyed(&program, &[&["run"], &QUICK[..]].concat());
    program.run(&["import", "orders.csv"]).await.exits(0);
    run.stop().await.exits(0);
    let refund = async |key: &str| {
        keyed(&program, &["refund", "A", "--key", key, "--amount", "1.00", "--wait", "30"]).end().await.exits(0);
        let mark = "SELECT left(replace(value, '-', ''), 12) FROM settings WHERE key = 'installation'";
        format!("{}:{key}", program.stack.value::<String>(mark).await)
    };
    let of_original = refund("first").await;
    program.stack.sql("UPDATE settings SET value = gen_random_uuid() WHERE key = 'installation'").await;
    // What takes orders of another installation, and would charge them, is refused.
    for args in [&["run", "--until-drained"][..], &["serve", "--http", "127.0.0.1:0"], &["import", "orders.csv"]] {
        let refused = keyed(&program, args).end().await.exits(6);
        assert!(refused.stderr.contains("take each other's orders"), "{args:?}: {refused:?}");
    }
    disown(&program).await;
    program.run(&["provider", "set", &provider.url]).await.exits(0);
    let of_copy = refund("second").await;
    assert_ne!(of_original[..12], of_copy[..12]);
    let ledger = provider.ledger().await;
    let mut expected = [of_original, of_copy];
    expected.sort();
    let references = ledger.keys().filter(|(kind, _)| kind == "refund").map(|(_, reference)| reference.clone());
    assert_eq!(references.collect::<Vec<_>>(), expected);
    ledgers_agree(&program).await;
}

#[tokio::test]
async fn what_those_who_charge_nobody_are_told_counts_as_well() {
    for args in [&["import", "--no-wait", "orders.csv"][..], &["run", "--until-drained", "--stages", "reservation"]] {
        let program = Program::seeded(10, &[1_000]).await;
        program.write("orders.csv", orders(["A".to_owned()]));
        // Without a word nothing is decided.
        program.run(args).await.exits(0);
        assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM gateway_terms").await, 0, "{args:?}");
        program.run(&[args, &["--gateway", "http://127.0.0.1:9"]].concat()).await.exits(0);
        let shown = program.run(&["provider", "--json"]).await.exits(0).json();
        assert_eq!(shown["gateways"][0]["url"], "http://127.0.0.1:9", "{shown}");
        program.run(&["run", "--until-drained", "--success-rate", "1"]).await.exits(6);
    }
}

#[tokio::test]
async fn what_a_refusal_suggests_makes_true_what_the_process_was_told() {
    let program = Program::seeded(10, &[1_000]).await;
    let plain = ["http://pay.example", "--allow-plain-gateway"];
    program.run(&[&["provider", "set"], &plain[..], &["--currency", "CHF"]].concat()).await.exits(0);
    for told in [
        &["--success-rate", "0.5"][..],
        &["--currency", "USD"],
        &["--success-rate", "0.6"],
        &["--gateway", plain[0], plain[1]],
        &["--currency", "EUR"],
    ] {
        let run = [&["run", "--until-drained"], told].concat();
        let refused = program.run(&run).await.exits(6);
        let (_, suggested) = refused.stderr.rsplit_once("for all of them: orderstream ").expect("a command");
        program.run(&suggested.split_whitespace().collect::<Vec<_>>()).await.exits(0);
        program.run(&run).await.exits(0);
    }
}

#[tokio::test]
async fn what_is_for_the_simulator_is_not_passed_over_where_a_provider_is_named() {
    let program = Program::seeded(10, &[1_000]).await;
    program.write("orders.csv", orders(["A".to_owned()]));
    for args in [&["run", "--until-drained"][..], &["import", "orders.csv"]] {
        for flags in [["--success-rate", "0.5"], ["--payment-latency-ms", "5"]] {
            let told = [args, &["--gateway", "http://127.0.0.1:9"], &flags[..]].concat();
            let refused = program.run(&told).await.exits(2);
            assert!(refused.stderr.contains(&flags.join(" ")) && refused.stderr.contains("--gateway"), "{refused:?}");
        }
    }
    assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM gateway_terms").await, 0);
}

#[tokio::test]
async fn who_wants_the_simulator_is_told_of_the_provider_that_takes_the_money_now() {
    let program = Program::seeded(10, &[1_000]).await;
    let set = async |args: &[&str]| program.run(&[&["provider", "set"], args].concat()).await;
    for url in ["http://127.0.0.1:8", "http://127.0.0.1:9"] {
        set(&[url]).await.exits(0);
    }
    let refused = set(&["--simulator"]).await.exits(6);
    assert!(refused.stderr.contains("are taken by http-2 (http://127.0.0.1:9, EUR)"), "{refused:?}");
    // Of those before, the last one.
    set(&["--simulator", "--uncharged"]).await.exits(0);
    let refused = set(&["--simulator", "--success-rate", "0.5"]).await.exits(6);
    assert!(refused.stderr.contains("were taken by http-2 (http://127.0.0.1:9, EUR)"), "{refused:?}");
}

#[tokio::test]
async fn who_takes_the_money_changes_only_together_with_its_action() {
    let program = Program::seeded(10, &[1_000]).await;
    let log = async || program.run(&["actions", "--json"]).await.exits(0).json()["actions"].clone();
    program.stack.sql("ALTER TABLE actions ADD CONSTRAINT log_is_full CHECK (false) NOT VALID").await;
    for args in [&["run", "--until-drained"][..], &["provider", "set", "http://127.0.0.1:9"]] {
        program.run(args).await.exits(1);
        assert_eq!(program.stack.value::<i64>("SELECT count(*) FROM gateway_terms").await, 0, "{args:?}");
    }
    program.stack.sql("ALTER TABLE actions DROP CONSTRAINT log_is_full").await;

    // The first process decides, and that is an action like any other.
    program.run(&["run", "--until-drained"]).await.exits(0);
    program.run(&["run", "--until-drained"]).await.exits(0);
    let actions = log().await;
    assert_eq!(actions.as_array().map(Vec::len), Some(1), "{actions}");
    let first = &actions[0];
    assert_eq!((&first["verb"], &first["via"], &first["affected"]), (&"set_provider".into(), &"cli".into(), &1.into()));
    assert_eq!((&first["target"], &first["outcome"]), (&"the simulator in EUR".into(), &"done".into()), "{first}");
    assert!(first["actor"].as_str().is_some_and(|actor| actor.contains('@')), "{first}");
    assert_eq!(first["detail"]["gateway"]["name"], "simulator", "{first}");

    let set = program.run(&["provider", "set", "http://127.0.0.1:9", "--json"]).await.exits(0).json();
    let action = log().await[0].clone();
    assert_eq!((&set["action"], &action["detail"]["before"]["name"]), (&action["id"], &"simulator".into()), "{action}");
}

#[tokio::test]
async fn two_accounts_at_one_url_are_two_gateways_by_their_names() {
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", "https://pay.example"]).await.exits(0);
    program.run(&["provider", "set", "https://pay.example", "--name", "second"]).await.exits(0);
    let shown = program.run(&["provider", "--json"]).await.exits(0).json();
    assert_eq!(shown["history"][0]["gateway"], "second", "{shown}");
    for name in ["none", "simulator"] {
        program.run(&["provider", "set", "https://pay.example", "--name", name]).await.exits(2);
    }
    program.run(&["provider", "set", "https://pay.example", "--name", "a.b"]).await.exits(0);
    let refused = program.run(&["provider", "set", "https://pay.example", "--name", "a-b"]).await.exits(6);
    assert!(refused.stderr.contains("the same variable"), "{refused:?}");
}
