//! Whose account is charged: a URL does not say it, the key does.

use serde_json::Value;

use super::installed::{QUICK, charged, keyed, ledgers_agree, orders, standing};
use crate::program::{
    Done, Orderstream, Program, Running,
    harness::eventually,
    provider::{KEY, Provider},
};

/// A command with a key of its own.
fn keyed_with(program: &Program, key: &str, args: &[&str]) -> Running {
    Running::spawn(program.command(args).env("ORDERSTREAM_GATEWAY_KEY", key), args)
}

/// The fingerprints that are recorded of a gateway.
async fn fingerprints(program: &Program, name: &str) -> Vec<String> {
    let shown = program.run(&["provider", "--json"]).await.exits(0).json();
    let gateways = shown["gateways"].as_array().expect("gateways");
    let gateway = gateways.iter().find(|gateway| gateway["name"] == name).expect("the gateway");
    let all = gateway["key_fingerprints"].as_array().expect("fingerprints").iter();
    all.map(|one| one.as_str().expect("a text").to_owned()).collect()
}

/// Workers that have nothing to do, with a key.
async fn started_with(program: &Program, key: &str) -> Done {
    keyed_with(program, key, &["run", "--until-drained"]).end().await
}

#[tokio::test]
async fn a_process_with_the_key_of_another_account_charges_nobody_and_both_are_named() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", &provider.url]).await.exits(0);
    assert!(fingerprints(&program, "http").await.is_empty());
    started_with(&program, KEY).await.exits(0);
    let known = fingerprints(&program, "http").await;
    assert!(known.len() == 1 && known[0].len() == 16, "{known:?}");

    program.write("orders.csv", orders(["A".to_owned()]));
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    for args in [&["run", "--until-drained"][..], &["import", "orders.csv"]] {
        let refused = keyed_with(&program, "sk_other", args).end().await.exits(6);
        for text in [&known[0], "has the fingerprint", "--name NEW", "orderstream provider key http"] {
            assert!(refused.stderr.contains(text), "{text:?} is not in {refused:?}");
        }
        assert!(!refused.stderr.contains("sk_other"), "{refused:?}");
    }
    // Who has none would be asked by the provider who he is.
    let refused = program.run(&["run", "--until-drained"]).await.exits(6);
    assert!(refused.stderr.contains("has no key") && refused.stderr.contains(&known[0]), "{refused:?}");
    assert!(standing(&program).await.is_empty());
    assert_eq!(charged(&provider).await, (0, 0));

    started_with(&program, KEY).await.exits(0);
    assert_eq!(standing(&program).await, ["http completed 1"]);
    // Nor is a refund asked for at another account.
    let refused = keyed_with(&program, "sk_other", &["refund", "A", "--key", "back"]).end().await.exits(6);
    assert!(refused.stderr.contains(&known[0]), "{refused:?}");
    // An audit that cannot open the ledger says why.
    let audit = keyed_with(&program, "sk_other", &["audit"]).end().await.exits(0);
    assert!(audit.stdout.contains("has the fingerprint"), "{audit:?}");
    keyed_with(&program, "sk_other", &["audit", "--ledgers"]).end().await.exits(6);
    ledgers_agree(&program).await;

    // The other account is another provider, and its key is recorded with its name.
    keyed_with(&program, "sk_other", &["provider", "set", &provider.url]).end().await.exits(6);
    keyed_with(&program, "sk_other", &["provider", "set", &provider.url, "--name", "other"]).end().await.exits(0);
    assert_ne!(fingerprints(&program, "other").await, known);
    started_with(&program, "sk_other").await.exits(0);
    let refused = started_with(&program, KEY).await.exits(6);
    assert!(refused.stderr.contains("the key for http"), "{refused:?}");
}

#[tokio::test]
async fn of_processes_with_several_keys_that_start_together_those_of_one_go_on() {
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", "http://127.0.0.1:9"]).await.exits(0);
    let keys: Vec<String> = (0..6).map(|n| format!("sk_{}", n % 3)).collect();
    let runs: Vec<_> = keys.iter().map(|key| keyed_with(&program, key, &["run", "--until-drained"])).collect();
    let mut went_on = std::collections::BTreeSet::new();
    for (key, run) in keys.iter().zip(runs) {
        let done = run.end().await;
        assert!(matches!(done.code, Some(0 | 6)), "{done:?}");
        if done.code == Some(0) {
            went_on.insert(key);
        }
    }
    assert_eq!(went_on.len(), 1, "{went_on:?}");
    assert_eq!(fingerprints(&program, "http").await.len(), 1);
}

#[tokio::test]
async fn who_asks_or_gives_back_has_to_have_the_key_as_well_and_who_calls_nobody_does_not() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    keyed(&program, &["provider", "set", &provider.url]).end().await.exits(0);
    program.write("orders.csv", orders(["A".to_owned()]));
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    started_with(&program, KEY).await.exits(0);
    for args in
        [&["run", "--until-drained", "--stages", "collector"][..], &["run", "--until-drained", "--stages", "refund"]]
    {
        let refused = program.run(args).await.exits(6);
        assert!(refused.stderr.contains("has no key"), "{refused:?}");
    }
    // A refund is granted by whoever is asked for it, and waits for somebody with the key.
    program.run(&["refund", "A", "--key", "back", "--wait", "0"]).await;
    assert_eq!(program.stack.value::<String>("SELECT status FROM refunds").await, "pending");
    assert!(provider.ledger().await.keys().all(|(kind, _)| kind == "charge"));
    program.run(&["run", "--until-drained", "--stages", "reservation,settlement,relay"]).await.exits(0);
}

#[tokio::test]
async fn a_key_is_not_recorded_for_charges_that_were_confirmed_without_one_before_the_provider_is_asked() {
    let provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    keyed(&program, &["provider", "set", &provider.url]).end().await.exits(0);
    program.write("orders.csv", orders(["A".to_owned()]));
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    started_with(&program, KEY).await.exits(0);
    // As if no process had had a key until now.
    program.stack.sql("UPDATE gateways SET key_fingerprints = '{}'").await;
    let refused = started_with(&program, "sk_other").await.exits(6);
    assert!(refused.stderr.contains("orderstream provider key http"), "{refused:?}");
    keyed_with(&program, "sk_other", &["provider", "key", "http"]).end().await.exits(6);
    keyed_with(&program, "sk_other", &["provider", "set", &provider.url]).end().await;
    assert!(fingerprints(&program, "http").await.is_empty());
    keyed_with(&program, KEY, &["provider", "key", "http"]).end().await.exits(0);
    started_with(&program, KEY).await.exits(0);
}

#[tokio::test]
async fn a_process_without_the_key_of_an_earlier_provider_gives_up_none_of_its_payments() {
    // Decided after a while, and nobody is told.
    let first = Provider::start(&["--approve", "1", "--lost", "1", "--callback-after", "8000"]).await;
    let second = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000]).await;
    keyed(&program, &["provider", "set", &first.url]).end().await.exits(0);
    program.write("orders.csv", orders(["A".to_owned()]));
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    let start = |keys: &[&str]| {
        let flags =
            ["--claim-idle", "1", "--reconcile-every", "1", "--payment-timeout", "600", "--gateway-timeout", "1"];
        let args = [&["run"], &flags[..]].concat();
        let mut command = program.command(&args);
        command.envs(keys.iter().map(|name| (format!("ORDERSTREAM_GATEWAY_KEY_{name}"), KEY)));
        Running::spawn(&mut command, &args)
    };
    let run = start(&["HTTP"]);
    let holds = async |what: &str| {
        program.stack.value::<i64>(&format!("SELECT count(*) FROM payments WHERE {what}")).await == 1
    };
    eventually("an answer is promised", async || holds("provider_id IS NOT NULL").await).await;
    run.crash().await;
    program.run(&["provider", "set", &second.url]).await.exits(0);
    let without = start(&["HTTP_2"]);
    program.stack.sql("UPDATE payments SET expires_at = now(), due_at = now(), checks = 0").await;
    eventually("it was taken up, and left alone", async || holds("checks >= 2").await).await;
    assert!(holds("status = 'pending'").await);
    let told = without.stop().await.exits(0).stderr;
    assert_eq!(told.matches("payments wait for their gateway").count(), 1, "it was asked again and again: {told}");
    // Whoever asks before would be told that it is not decided, and end it.
    eventually("the first provider has decided", async || charged(&first).await == (1, 1)).await;
    let with = start(&["HTTP", "HTTP_2"]);
    eventually("it completes", async || standing(&program).await == ["http completed 1"]).await;
    with.stop().await.exits(0);
}

#[tokio::test]
async fn no_two_providers_have_one_variable_for_their_keys() {
    let program = Program::seeded(10, &[1_000]).await;
    program.run(&["provider", "set", "http://127.0.0.1:1"]).await.exits(0);
    program.run(&["provider", "set", "http://127.0.0.1:2", "--name", "http_2"]).await.exits(0);
    let set = program.run(&["provider", "set", "http://127.0.0.1:3", "--json"]).await.exits(0).json();
    assert_eq!(set["gateway"]["name"], "http-3", "{set}");
}

#[tokio::test]
async fn the_key_of_the_provider_before_is_not_sent_to_the_new_one_by_a_process_that_starts_again() {
    let (first, mut second) = (Provider::start(&["--approve", "1"]).await, Provider::idle());
    second.start_with(&["--approve", "1"], &[("ORDERSTREAM_GATEWAY_KEY", "sk_second")]).await;
    let program = Program::seeded(10, &[1_000]).await;
    keyed(&program, &["run", "--until-drained", "--gateway", &first.url]).end().await.exits(0);
    // Whoever sets it has the key of before as well.
    let set = keyed(&program, &["provider", "set", &second.url]).end().await.exits(0);
    assert!(set.stderr.contains("is the key for http"), "{set:?}");
    program.write("orders.csv", orders(["A".to_owned()]));
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
    for args in [&["run", "--until-drained"][..], &["run", "--until-drained", "--gateway", &second.url]] {
        let refused = keyed(&program, args).end().await.exits(6);
        for text in ["is the key for http", &first.url, &second.url, "ORDERSTREAM_GATEWAY_KEY_HTTP_2"] {
            assert!(refused.stderr.contains(text), "{text:?} is not in {refused:?}");
        }
    }
    assert!(fingerprints(&program, "http-2").await.is_empty());
    started_with(&program, "sk_second").await.exits(0);
    assert_eq!(standing(&program).await, ["http-2 completed 1"]);
    assert_eq!(charged(&first).await, (0, 0));
    // Both providers may have given the same key: that has to be said.
    keyed(&program, &["provider", "set", "https://pay.example", "--name", "third"]).end().await.exits(0);
    let refused = started_with(&program, KEY).await.exits(6);
    assert!(refused.stderr.contains("orderstream provider key third"), "{refused:?}");
    keyed(&program, &["provider", "key", "third"]).end().await.exits(0);
    assert_eq!(fingerprints(&program, "third").await, fingerprints(&program, "http").await);
    started_with(&program, KEY).await.exits(0);
}

#[tokio::test]
async fn a_key_is_changed_while_processes_run_and_only_for_the_same_account() {
    let mut provider = Provider::start(&["--approve", "1"]).await;
    let program = Program::seeded(10, &[1_000_000]).await;
    keyed(&program, &["provider", "set", &provider.url]).end().await.exits(0);
    let old = fingerprints(&program, "http").await;
    assert_eq!(old.len(), 1);
    let run = keyed(&program, &[&["run"], &QUICK[..]].concat());
    let bring = async |name: &str, count: u32| {
        program.write("orders.csv", orders((0..count).map(|n| format!("{name}-{n}"))));
        program.run(&["import", "orders.csv"]).await.exits(0);
    };
    bring("OLD", 20).await;
    eventually("the old key has charged", async || standing(&program).await == ["http completed 20"]).await;

    // Another account at the same address knows nothing of these charges.
    provider.kill().await;
    let mut other = Provider::idle();
    other.url.clone_from(&provider.url);
    other.start_with(&[], &[("ORDERSTREAM_GATEWAY_KEY", "sk_new")]).await;
    let refused = keyed_with(&program, "sk_new", &["provider", "key", "http"]).end().await.exits(6);
    assert!(refused.stderr.contains("it does not know it") && refused.stderr.contains("--unverified"), "{refused:?}");
    other.kill().await;
    provider.start_with(&["--approve", "1"], &[("ORDERSTREAM_GATEWAY_KEY", "sk_new")]).await;
    let refused = keyed_with(&program, "sk_wrong", &["provider", "key", "http"]).end().await.exits(6);
    assert_eq!(refused.stderr.matches("401").count(), 1, "{refused:?}");
    assert!(!refused.stderr.contains("--unverified"), "it has not said whose account it is: {refused:?}");
    program.run(&["provider", "key", "http"]).await.exits(2);
    keyed(&program, &["provider", "key", "nobody"]).end().await.exits(5);
    assert_eq!(fingerprints(&program, "http").await, old);
    started_with(&program, "sk_new").await.exits(6);

    let changed = keyed_with(&program, "sk_new", &["provider", "key", "http", "--why", "rotated"]).end().await.exits(0);
    assert!(changed.stdout.contains("knows them as they are stored (5)"), "{changed:?}");
    let action: Value = program.run(&["actions", "--verb", "accept_key", "--json"]).await.exits(0).json();
    let done = action["actions"].as_array().expect("actions").iter().find(|one| one["outcome"] == "done");
    assert_eq!(done.expect("an action")["why"], "rotated", "{action}");
    // Both are keys of the account: nobody has to stop at once.
    started_with(&program, "sk_new").await.exits(0);
    started_with(&program, KEY).await.exits(0);
    // Until the old one is taken back: what runs with it ends before it asks for money.
    keyed_with(&program, "sk_new", &["provider", "key", "http", "--only"]).end().await.exits(0);
    started_with(&program, KEY).await.exits(6);
    bring("NEW", 10).await;
    let ended = run.end().await.exits(6);
    assert!(ended.stderr.contains(&old[0]), "{ended:?}");
    started_with(&program, "sk_new").await.exits(0);
    assert_eq!(standing(&program).await, ["http completed 30"]);
    let args = ["audit", "--ledgers"];
    let audit = keyed_with(&program, "sk_new", &args).end().await.exits(0);
    assert!(audit.stdout.contains("The books balance."), "{audit:?}");
    // Another currency is charged to the same account, which has the same keys ever after.
    program.run(&["provider", "set", &provider.url, "--currency", "USD"]).await.exits(0);
    keyed_with(&program, "sk_third", &["provider", "key", "http", "--unverified"]).end().await.exits(0);
    let both = [fingerprints(&program, "http").await, fingerprints(&program, "http-2").await];
    assert!(both[0].len() == 2 && both[0] == both[1], "{both:?}");
}
