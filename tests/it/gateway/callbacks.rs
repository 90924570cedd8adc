//! Callbacks of the provider: signed, twice, early, late, lost, and sent until they are taken.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use chrono::{DateTime, Utc};
use orderstream::{
    provider::{Fault, Faults},
    signature::{Secret, verify},
};
use pipeline::{
    domain::{CallbackKind, Cents},
    gateway::{ChargeAnswer, Gateway},
    message::{Callback, decode_callback},
};
use tokio::net::TcpListener;

use super::faults::hit_by;
use crate::program::{
    harness::eventually,
    provider::{Provider, charge, refund},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Takes callbacks, or refuses them with the status that it is told.
#[derive(Clone)]
struct Receiver {
    url: String,
    answer: Arc<AtomicU16>,
    taken: Arc<Mutex<Vec<(Callback, Instant)>>>,
    refused: Arc<AtomicU16>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let receiver = Self {
            url: format!("http://{}/webhooks/payments", listener.local_addr().expect("an address")),
            answer: Arc::new(AtomicU16::new(204)),
            taken: Arc::default(),
            refused: Arc::default(),
        };
        let routes = Router::new().route("/webhooks/payments", post(take)).with_state(receiver.clone());
        tokio::spawn(async { axum::serve(listener, routes).await });
        receiver
    }

    fn taken(&self) -> Vec<(Callback, Instant)> {
        self.taken.lock().expect("nobody panics").clone()
    }

    fn of(&self, reference: &str) -> Vec<Callback> {
        let of = |(callback, _): (Callback, _)| (callback.reference == reference).then_some(callback);
        self.taken().into_iter().filter_map(of).collect()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let secret = Secret::parse(SECRET).expect("a secret");
    let now = Utc::now().timestamp();
    verify(&[secret], &id, &timestamp, &header("webhook-signature"), &body, now).expect("a good signature");
    let status = StatusCode::from_u16(receiver.answer.load(Ordering::SeqCst)).expect("a status");
    if status.is_success() || status == StatusCode::CONFLICT {
        let callback = decode_callback(&body, &id, DateTime::UNIX_EPOCH).expect("a callback");
        receiver.taken.lock().expect("nobody panics").push((callback, Instant::now()));
    } else {
        receiver.refused.fetch_add(1, Ordering::SeqCst);
    }
    status
}

async fn start(provider: &mut Provider, receiver: &Receiver, args: &[&str]) {
    let args = [&["--seed", "7", "--approve", "1", "--callback", &receiver.url], args].concat();
    provider.start_with(&args, &[("ORDERSTREAM_WEBHOOK_SECRET", SECRET)]).await;
}

async fn with(receiver: &Receiver, args: &[&str]) -> Provider {
    let mut provider = Provider::idle();
    start(&mut provider, receiver, args).await;
    provider
}

fn pending(answers: &[ChargeAnswer]) -> bool {
    answers.iter().all(|answer| matches!(answer, ChargeAnswer::Pending(_)))
}

#[tokio::test]
async fn decisions_come_by_callback_doubled_early_late_and_lost_as_foretold() {
    let receiver = Receiver::start().await;
    let shares = ["--pending", "1", "--lost", "0.1", "--doubled", "0.1", "--early", "0.1", "--late", "0.1"];
    let args = [&shares[..], &["--callback-after", "100", "--late-after", "1500", "--latency", "50"]].concat();
    let provider = with(&receiver, &args).await;
    let faults = [Fault::Lost, Fault::Doubled, Fault::Early, Fault::Late]
        .into_iter()
        .fold(Faults::none(7), |faults, fault| faults.with(fault, 0.1));
    let client = provider.client();
    let [lost, doubled, early, late] =
        [Fault::Lost, Fault::Doubled, Fault::Early, Fault::Late].map(|fault| hit_by(&faults, fault));
    let plain = (0..).map(|n| format!("ORD-{n}")).find(|reference| !faults.is_pending(reference)).expect("one");

    let begun = Instant::now();
    assert!(pending(&client.charge(&[charge(&early)]).await));
    assert_eq!(receiver.of(&early).len(), 1, "before the answer");
    assert!(pending(&client.charge(&[&lost, &doubled, &late, &plain].map(|reference| charge(reference))).await));
    eventually("the callbacks are there", async || {
        receiver.of(&doubled).len() == 2 && receiver.of(&plain).len() == 1 && receiver.of(&late).len() == 1
    })
    .await;
    let taken = receiver.taken();
    let (_, at) = taken.iter().find(|(callback, _)| callback.reference == late).expect("it is there");
    assert!(at.duration_since(begun) >= Duration::from_millis(1500));
    let both = receiver.of(&doubled);
    assert_eq!((&both[0].event_id, &both[0]), (&both[1].event_id, &both[1]));
    assert_eq!((both[0].kind, both[0].amount), (CallbackKind::ChargeApproved, Cents::new(3998)));
    // Long decided, and only who asks hears of it.
    assert!(matches!(client.find_charges(&[charge(&lost)]).await[0], ChargeAnswer::Approved(_)));
    assert!(receiver.of(&lost).is_empty());
}

#[tokio::test]
async fn a_callback_is_sent_until_it_is_taken_through_outages_of_both_sides() {
    let receiver = Receiver::start().await;
    receiver.answer.store(503, Ordering::SeqCst);
    let args = ["--pending", "1", "--callback-after", "0"];
    let mut provider = with(&receiver, &args).await;
    let charges = [charge("ORD-1"), charge("ORD-2")];
    assert!(pending(&provider.client().charge(&charges).await));
    let refused = async |more: u16| {
        let before = receiver.refused.load(Ordering::SeqCst);
        eventually("callbacks are refused", async || receiver.refused.load(Ordering::SeqCst) >= before + more).await;
    };
    refused(4).await;
    provider.kill().await;
    start(&mut provider, &receiver, &args).await;
    refused(4).await;
    assert!(receiver.taken().is_empty());
    // A conflict says that it is there already.
    receiver.answer.store(409, Ordering::SeqCst);
    eventually("both are taken", async || receiver.taken().len() == 2).await;

    // Taken is taken: after another start only what is new is told.
    let path = provider.local.state().with_file_name("ledger.ndjson");
    let delivered = || std::fs::read_to_string(&path).expect("the ledger").matches(r#""fact":"delivered""#).count();
    eventually("the ledger knows", async || delivered() == 2).await;
    provider.kill().await;
    receiver.answer.store(200, Ordering::SeqCst);
    start(&mut provider, &receiver, &args).await;
    provider.client().give_back(&[refund("r-1", "ORD-1", 3998)]).await;
    eventually("the refund is told", async || receiver.taken().len() >= 3).await;
    assert_eq!(receiver.of("r-1")[0].kind, CallbackKind::RefundSucceeded);
    assert_eq!(receiver.taken().len(), 3);
}

#[tokio::test]
async fn what_was_pending_at_a_kill_is_decided_afterwards() {
    let receiver = Receiver::start().await;
    let mut provider = with(&receiver, &["--pending", "1", "--callback-after", "3600000"]).await;
    assert!(pending(&provider.client().charge(&[charge("ORD-1")]).await));
    provider.kill().await;
    start(&mut provider, &receiver, &["--pending", "1", "--callback-after", "0"]).await;
    eventually("it is told", async || receiver.of("ORD-1").len() == 1).await;
    assert!(matches!(provider.client().find_charges(&[charge("ORD-1")]).await[0], ChargeAnswer::Approved(_)));
}
