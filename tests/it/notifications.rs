//! Who is told of what happened to orders: by a real mail server, whose mails are read back, and by webhooks.

use std::collections::BTreeSet;

use pipeline::store::{self, Customer};
use tokio::process::Command;

use crate::program::{
    Orderstream, Program, Running,
    harness::{eventually, order},
    receiver::Receiver,
    smtp::SmtpServer,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The flags of every notifier here: short waits, so that a dead process' notifications are soon somebody else's.
const FLAGS: &[&str] = &["--success-rate", "1", "--mail-from", "Shop <shop@example.com>", "--notify-timeout", "1"];

/// Workers that mail over this server.
fn mailing(program: &Program, server: &SmtpServer, args: &[&str]) -> Running {
    with_env(program, &[("ORDERSTREAM_SMTP_URL", &server.url())], &[&["run", "--notify", "mail"], args].concat())
}

fn with_env(program: &Program, env: &[(&str, &str)], args: &[&str]) -> Running {
    let args = [args, FLAGS].concat();
    Running::spawn(program.command(&args).envs(env.iter().copied()), &args)
}

/// Orders of one piece of product 1, for customer 1.
async fn order_pieces(program: &Program, codes: &[String]) {
    let orders: Vec<_> = codes.iter().map(|code| order(code, 1, &[(1, 1, 1999)])).collect();
    program.stack.publish(&orders).await;
}

fn codes(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}-{n}")).collect()
}

async fn count(program: &Program, condition: &str) -> i64 {
    program.stack.value(&format!("SELECT count(*) FROM notifications WHERE {condition}")).await
}

/// An event of money that went back, as the refund stage writes it.
async fn refund(program: &Program, code: &str) {
    program
        .stack
        .sql(&format!(
            "WITH counter AS (UPDATE event_counter SET last_seq = last_seq + 1 RETURNING last_seq),
                  refund AS (INSERT INTO refunds (key, order_id, order_code, amount_cents, asked_cents, request_hash,
                                                  status, reason, gateway, reference_prefix, settled_at)
                             SELECT 'R-' || code, id, code, 999, 999, 1, 'succeeded', 'damaged <b>', 'simulator',
                                    reference_mark(), now()
                             FROM orders WHERE code = '{code}' RETURNING key, order_id)
             INSERT INTO events (seq, order_id, kind, amount_cents, refund_key)
             SELECT last_seq, order_id, 'refunded', 999, key FROM counter, refund"
        ))
        .await;
}

#[tokio::test]
async fn customers_get_one_readable_mail_for_each_event_and_what_they_are_called_does_nothing() {
    let program = Program::seeded(1, &[100]).await;
    let server = SmtpServer::start().await;
    let customers = [
        (1, "Zoë \"Å\" <script>alert(1)</script>\r\nBcc: victim@example.com\r\n\r\nBody", "zoe@example.com"),
        (2, "Nobody", "not an address"),
        (3, "Sneaky", "sneaky@example.com\r\nBcc: victim@example.com"),
        (4, "Refused", "refused@example.com"),
        (5, "Later", "later@example.com"),
        (6, "例え", "例え@example.com"),
    ];
    let customers = customers.map(|(id, name, email)| Customer { id, name: name.to_owned(), email: email.to_owned() });
    store::upsert_customers(&program.stack.reports.pool(), &customers).await.expect("customers");
    let hostile = "<i>&'Ü {{ 7 * 7 }}";
    let pieces = |code: &str, customer, pieces| order(code, customer, &[(1, pieces, 1999)]);
    program
        .stack
        .publish(&[
            pieces(hostile, 1, 1),
            pieces("TOO-MUCH", 1, 1_000),
            pieces("TO-NOBODY", 2, 1),
            pieces("TO-SNEAKY", 3, 1),
            pieces("TO-REFUSED", 4, 1),
            pieces("TO-LATER", 5, 1),
            pieces("TO-UNICODE", 6, 1),
            pieces("TO-UNKNOWN", 999, 1),
        ])
        .await;
    mailing(&program, &server, &["--until-drained"]).end().await.exits(0);
    refund(&program, "TO-UNICODE").await;
    let run = mailing(&program, &server, &["--until-drained"]).end().await.exits(0);
    assert!(!run.stderr.contains("victim"), "{}", run.stderr);

    let mails = server.mails().await;
    for mail in &mails {
        assert_eq!(mail.defects, Vec::<String>::new(), "{mail:?}");
        assert!(!mail.header_names.contains(&"bcc".to_owned()) && mail.to.len() == 1, "{mail:?}");
        assert_eq!(mail.headers["from"], "Shop <shop@example.com>");
        assert_eq!(mail.headers["auto-submitted"], "auto-generated");
    }
    let mail = |subject: &str| {
        let found: Vec<_> = mails.iter().filter(|mail| mail.headers["subject"] == subject).collect();
        assert_eq!(found.len(), 1, "{subject:?} in {mails:#?}");
        found[0]
    };
    let complete = mail(&format!("Your order {hostile} is complete"));
    assert_eq!(complete.to, ["zoe@example.com"]);
    assert!(complete.headers["to"].contains("Zoë") && complete.headers["to"].ends_with("<zoe@example.com>"));
    assert!(complete.plain.contains("Dear Zoë \"Å\" <script>alert(1)</script> Bcc: victim@example.com Body,"));
    assert!(complete.plain.contains("Total: 19.99 EUR") && complete.plain.contains(hostile), "{}", complete.plain);
    assert!(complete.html.contains("&lt;script&gt;") && !complete.html.contains("<script"), "{}", complete.html);
    assert!(complete.html.contains("&lt;i&gt;&amp;") && !complete.html.contains("49"), "{}", complete.html);
    let failed = mail("Your order TOO-MUCH could not be carried out");
    assert!(failed.plain.contains("out of stock") && failed.html.contains("out of stock"), "{failed:?}");
    let refunded = mail("Refund of 9.99 EUR for your order TO-UNICODE");
    assert!(refunded.plain.contains("Reason: damaged <b>") && refunded.html.contains("damaged &lt;b&gt;"));
    assert_eq!(refunded.to, ["例え@example.com"]);
    assert_eq!(mails.len(), 4, "{mails:#?}");

    // Who cannot be reached is known, with the reason; who may be later is tried again.
    for (code, why) in [
        ("TO-NOBODY", "cannot be used"),
        ("TO-SNEAKY", "cannot be used"),
        ("TO-REFUSED", "550"),
        ("TO-UNKNOWN", "no mail address"),
    ] {
        let listed = program.run(&["notifications", "--order", code, "--json"]).await.exits(0).json();
        let listed = &listed["notifications"][0];
        assert_eq!(listed["status"], "dead", "{listed}");
        assert!(listed["last_error"].as_str().expect("a reason").contains(why), "{listed}");
    }
    assert_eq!(count(&program, "status = 'pending' AND last_error LIKE '%451%'").await, 1, "TO-LATER");
    let table = program.run(&["notifications", "--status", "dead"]).await.exits(0).stdout;
    assert_eq!(table.lines().count(), 5, "{table}");
    // The address was put right meanwhile.
    program.stack.sql("UPDATE customers SET email = 'found@example.com' WHERE id = 4").await;
    let id: i64 = program.stack.value("SELECT max(id) FROM notifications WHERE last_error LIKE '%550%'").await;
    program.run(&["notifications", "retry", &id.to_string()]).await.exits(0);
    program.run(&["notifications", "retry", &id.to_string()]).await.exits(5);
    mailing(&program, &server, &["--until-drained"]).end().await.exits(0);
    assert!(server.mails().await.iter().any(|mail| mail.to == ["found@example.com"]));
}

#[tokio::test]
async fn a_mail_server_that_is_away_delays_nobody_and_gets_every_mail_when_it_is_back() {
    let program = Program::seeded(1, &[1_000_000]).await;
    let mut server = SmtpServer::start().await;
    server.crash().await;
    let run = mailing(&program, &server, &["--notify", "log"]);
    order_pieces(&program, &codes("AWAY", 60)).await;
    run.says("The mail server is away").await;
    eventually("all orders are settled and in the log", async || {
        count(&program, "channel = 'log' AND status = 'sent'").await == 60
    })
    .await;
    assert_eq!(count(&program, "channel = 'mail' AND status = 'pending' AND attempts = 0").await, 60);
    // It has tried what can be tried: an end that is asked for does not wait for the mail server.
    run.stop().await.exits(0);
    mailing(&program, &server, &["--notify", "log", "--until-drained"]).end().await.exits(0);
    let run = mailing(&program, &server, &["--notify", "log"]);
    server.start_again().await;
    eventually("every mail is out", async || count(&program, "status = 'sent'").await == 120).await;
    run.stop().await.exits(0);
    assert_eq!(server.count(), 60, "one for each");
    program.audit().await;
}

#[tokio::test]
async fn each_of_a_thousand_orders_is_told_once_on_each_channel_through_kills_and_a_redis_that_lost_everything() {
    const ORDERS: usize = 1_000;
    const IN_FLIGHT: usize = 8;
    let program = Program::seeded(1, &[1_000_000]).await;
    let server = SmtpServer::start().await;
    let flags = ["--notify", "log", "--notify-concurrency", &IN_FLIGHT.to_string(), "--claim-idle", "1"];
    order_pieces(&program, &codes("KILLED", ORDERS)).await;
    // Two at a time: one of them notifies.
    let mut kills = 0;
    for part in 1..=3 {
        let (first, second) = (mailing(&program, &server, &flags), mailing(&program, &server, &flags));
        eventually("some more are out", async || server.count() >= part * ORDERS / 4).await;
        first.crash().await;
        second.crash().await;
        kills += 2;
    }
    mailing(&program, &server, &[&flags[..], &["--until-drained"]].concat()).end().await.exits(0);
    eventually("what the dead had in hand is out", async || {
        mailing(&program, &server, &[&flags[..], &["--until-drained"]].concat()).end().await.exits(0);
        count(&program, "status = 'pending'").await == 0
    })
    .await;

    // The stream of events comes a second time, from the first one on.
    program.stack.forget_keys().await.expect("Redis");
    mailing(&program, &server, &[&flags[..], &["--until-drained"]].concat()).end().await.exits(0);

    let orders = i64::try_from(ORDERS).expect("a small number");
    assert_eq!(program.stack.value::<i64>("SELECT min(last_seq) FROM notification_channels").await, orders);
    for channel in ["mail", "log"] {
        let condition = format!("channel = '{channel}' AND status = 'sent'");
        assert_eq!(count(&program, &condition).await, orders, "{channel}");
    }
    let mails = server.mails().await;
    let subjects: BTreeSet<&str> = mails.iter().map(|mail| &*mail.headers["subject"]).collect();
    let ids: BTreeSet<&str> = mails.iter().map(|mail| &*mail.headers["message-id"]).collect();
    assert_eq!((subjects.len(), ids.len()), (ORDERS, ORDERS), "nobody is forgotten, and a repeat can be recognised");
    assert!(mails.len() <= ORDERS + kills * IN_FLIGHT, "only what a kill interrupted came twice: {}", mails.len());
    program.audit().await;
}

#[tokio::test]
async fn mails_go_by_starttls_to_a_server_that_is_trusted_and_not_at_all_to_another() {
    let program = Program::seeded(1, &[10]).await;
    let (certificate, key) = (program.path("certificate.pem"), program.path("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .await
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let server = SmtpServer::with_certificate(certificate.clone(), key).await;
    order_pieces(&program, &codes("TLS", 1)).await;
    let url = format!("smtp://localhost:{}?tls=required", server.port);
    let args = ["run", "--notify", "mail", "--until-drained"];
    let done = with_env(&program, &[("ORDERSTREAM_SMTP_URL", &url)], &args).end().await.exits(0);
    assert!(done.stderr.contains("The mail server is away"), "{}", done.stderr);
    assert_eq!((server.count(), count(&program, "status = 'pending' AND attempts = 0").await), (0, 1));
    let trust = [("ORDERSTREAM_SMTP_URL", &*url), ("SSL_CERT_FILE", certificate.to_str().expect("a path"))];
    let run = with_env(&program, &trust, &["run", "--notify", "mail"]);
    eventually("the mail is out", async || count(&program, "status = 'sent'").await == 1).await;
    run.stop().await.exits(0);
    assert!(server.mails().await[0].tls);
}

#[tokio::test]
async fn webhooks_are_signed_tried_again_and_never_follow_a_redirect() {
    let program = Program::seeded(1, &[100]).await;
    let receiver = Receiver::start(SECRET).await;
    let names = ["FAILS-FIRST", "HANGS-FIRST", "REDIRECTS", "TALKS", "FINE"].map(str::to_owned);
    order_pieces(&program, &names).await;
    let env = [("ORDERSTREAM_NOTIFY_SECRET", SECRET)];
    let args = ["run", "--notify", "webhook", "--notify-webhook", &receiver.url, "--notify-attempts-max", "2"];
    let run = with_env(&program, &env, &args);
    eventually("four are delivered and one is dead", async || {
        count(&program, "status = 'sent'").await == 4 && count(&program, "status = 'dead'").await == 1
    })
    .await;
    let done = run.stop().await.exits(0);
    assert!(!done.stderr.contains("hidden") && !done.stderr.contains(SECRET), "{}", done.stderr);
    assert_eq!(receiver.strayed(), 0);
    for (code, tries) in [("FAILS-FIRST", 2), ("HANGS-FIRST", 2), ("REDIRECTS", 2), ("TALKS", 1), ("FINE", 1)] {
        let got = receiver.got(code);
        let ids: BTreeSet<_> = got.iter().map(|(id, _)| id).collect();
        assert_eq!((got.len(), ids.len()), (tries, 1), "{code}: {got:?}");
        let body = &got[0].1;
        assert_eq!(["kind", "amount", "currency"].map(|name| &body[name]), ["completed", "19.99", "EUR"], "{body}");
        assert_eq!((&body["id"], &body["customer_name"]), (&(*got[0].0).into(), &"Customer 1".into()), "{body}");
    }
    let listed = program.run(&["notifications", "--status", "dead", "--json"]).await.exits(0).json();
    let listed = &listed["notifications"][0];
    assert!(
        listed["order_code"] == "REDIRECTS" && listed["last_error"].as_str().expect("why").contains("307"),
        "{listed}"
    );
    let retried = program.run(&["notifications", "retry", "--all-dead", "--json"]).await.exits(0).json();
    assert_eq!(retried["requeued"].as_array().expect("ids").len(), 1);
}

#[tokio::test]
async fn a_channel_begins_when_it_is_first_switched_on_and_goes_on_where_it_stood_after_a_while_off() {
    let program = Program::seeded(1, &[100]).await;
    let receiver = Receiver::start(SECRET).await;
    let notifying = async |channels: &str, more: &[&str]| {
        let hook = ["--notify-webhook", &*receiver.url];
        let args = [&["run", "--until-drained", "--notify", channels], &hook[..], more].concat();
        let run = with_env(&program, &[("ORDERSTREAM_NOTIFY_SECRET", SECRET)], &args).end().await.exits(0);
        run.stderr
    };
    let told = async |channel: &str| {
        let codes = "SELECT coalesce(string_agg(DISTINCT split_part(o.code, '-', 1), ' '), '')
                     FROM notifications n JOIN orders o ON o.id = n.order_id WHERE n.status = 'sent' AND n.channel =";
        program.stack.value::<String>(&format!("{codes} '{channel}'")).await
    };
    // Nobody is told of the past, be it a minute old; of what waits for the workers that begin with the channel, somebody is.
    order_pieces(&program, &codes("PAST", 5)).await;
    notifying("none", &[]).await;
    order_pieces(&program, &codes("NEW", 3)).await;
    let said = notifying("log", &[]).await;
    assert!(said.contains("switched on for the first time") && said.contains("--notify-last-day"), "{said}");
    assert_eq!((said.matches("kind=completed").count(), told("log").await), (3, "NEW".to_owned()), "{said}");
    assert_eq!(count(&program, "true").await, 3);

    // A second channel begins later, and with a word for it tells of the last day.
    let said = notifying("log,webhook", &["--notify-last-day"]).await;
    assert_eq!((told("log").await, told("webhook").await), ("NEW".to_owned(), "NEW PAST".to_owned()), "{said}");

    // What happens while a channel is off waits, as long as it is of the last day; whether another one is on is nothing to it.
    order_pieces(&program, &codes("LOGGED", 2)).await;
    notifying("log", &[]).await;
    order_pieces(&program, &codes("SILENT", 2)).await;
    notifying("none", &[]).await;
    order_pieces(&program, &codes("OLD", 1)).await;
    notifying("none", &[]).await;
    program
        .stack
        .sql(
            "UPDATE events SET at = at - interval '25 hours'
             FROM orders o WHERE o.id = order_id AND o.code LIKE 'OLD-%'",
        )
        .await;
    let said = notifying("log,webhook", &["--notify-last-day"]).await;
    assert!(!said.contains("for the first time"), "{said}");
    assert_eq!(told("log").await, "LOGGED NEW SILENT");
    assert_eq!(told("webhook").await, "LOGGED NEW PAST SILENT");

    // Pieces that come back without money are no news for customers.
    program.run(&["refund", "NEW-0", "--key", "pieces", "--amount", "0", "--restock"]).await.exits(0);
    let before = count(&program, "true").await;
    notifying("log,webhook", &[]).await;
    assert_eq!(count(&program, "true").await, before);
    program.audit().await;
}

#[tokio::test]
async fn a_channel_that_lacks_something_is_refused_at_the_start_and_secrets_are_not_repeated() {
    let program = Program::get().await;
    program.write("failed.txt.j2", "{{ no_such_value }}");
    let folder = program.folder().to_str().expect("a path").to_owned();
    let url = ("ORDERSTREAM_SMTP_URL", "smtps://shop:verysecret@mail.example.com");
    let plain = ("ORDERSTREAM_SMTP_URL", "smtp://shop:verysecret@mail.example.com");
    let secret = ("ORDERSTREAM_NOTIFY_SECRET", "whsec_verysecret");
    let hook = ["--notify", "webhook", "--notify-webhook", "https://example.com/hook"];
    for (env, args, told) in [
        (&[][..], &["--notify", "mail"][..], "ORDERSTREAM_SMTP_URL"),
        (&[plain], &["--notify", "mail"], "unencrypted"),
        (&[url], &["--notify", "mail", "--templates", &folder], "--templates"),
        (&[], &["--notify", "webhook"], "--notify-webhook"),
        (&[], &hook, "ORDERSTREAM_NOTIFY_SECRET"),
        (&[secret], &hook, "ORDERSTREAM_NOTIFY_SECRET"),
        (&[], &["--notify", "pigeon"], "pigeon"),
    ] {
        let done = with_env(&program, env, &[&["run"], args].concat()).end().await.exits(2);
        assert!(done.stderr.contains(told) && !done.stderr.contains("verysecret"), "{}", done.stderr);
    }
}
