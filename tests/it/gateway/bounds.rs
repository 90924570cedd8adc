//! How many calls, how many in a second, how often again, and how long.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use pipeline::gateway::{ChargeAnswer, Gateway};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::Barrier};

use super::raw::{Raw, Seen, approved, response, send};
use crate::program::provider::{charge, charges, client, refund};

fn all_approved(answers: &[ChargeAnswer]) -> bool {
    answers.iter().all(|answer| matches!(answer, ChargeAnswer::Approved(_)))
}

#[tokio::test]
async fn no_more_calls_are_in_flight_than_allowed_whatever_number_of_batches() {
    // Nobody is answered before eight are there: fewer would never come to an end.
    let eight = Arc::new(Barrier::new(8));
    let server = Raw::serve(move |seen: Seen, connection| {
        let eight = Arc::clone(&eight);
        async move {
            eight.wait().await;
            send(connection, &response("200 OK", "", &approved(&seen.body))).await;
        }
    })
    .await;
    let client = client(&server.url, |settings| settings.calls_max = 8);
    let (first, second) = (charges(0..40), charges(40..80));
    let other = client.clone();
    let (first, second) = tokio::join!(client.charge(&first), other.charge(&second));
    assert!(all_approved(&first) && all_approved(&second));
    // A call that the client has ended may still be in the server's hands for a moment.
    let most = server.most.load(Ordering::SeqCst);
    assert!((8..=16).contains(&most), "{most}");
}

#[tokio::test]
async fn calls_keep_to_their_rate() {
    let server = Raw::serve(async |seen: Seen, connection| {
        send(connection, &response("200 OK", "", &approved(&seen.body))).await;
    })
    .await;
    let client = client(&server.url, |settings| settings.calls_per_second_max = NonZeroU32::new(50));
    let begun = Instant::now();
    assert!(all_approved(&client.charge(&charges(0..55)).await));
    // Five at once, fifty in a second.
    assert!(begun.elapsed() >= Duration::from_millis(990), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn who_has_no_turn_in_time_is_not_called_and_the_batch_comes_back() {
    let server = Raw::serve(async |_: Seen, mut connection: tokio::net::TcpStream| {
        connection.read_to_end(&mut Vec::new()).await.ok();
    })
    .await;
    let client = client(&server.url, |settings| {
        settings.timeout = Duration::from_millis(500);
        settings.calls_max = 4;
    });
    let answers = client.charge(&charges(0..100)).await;
    let without =
        answers.iter().filter(|answer| matches!(answer, ChargeAnswer::Unknown(why) if why.contains("no turn")));
    assert!((92..=96).contains(&without.count()));
    assert!(server.requests.load(Ordering::SeqCst) <= 8);
}

#[tokio::test]
async fn a_busy_provider_is_asked_again_and_one_that_is_not_there_given_up_in_time() {
    for busy in ["429 Too Many Requests", "503 Service Unavailable"] {
        let server = Raw::serve(move |seen: Seen, connection| async move {
            let answer = match seen.number {
                0..4 => response(busy, "", ""),
                _ => response("200 OK", "", &approved(&seen.body)),
            };
            send(connection, &answer).await;
        })
        .await;
        let client = client(&server.url, |_| {});
        assert!(all_approved(&client.charge(&[charge("ORD-1")]).await));
        assert_eq!(server.requests.load(Ordering::SeqCst), 5);
    }
    // Who asks for more time than there is gets it another time.
    for seconds in [3600, u64::MAX] {
        let server = Raw::serve(move |_: Seen, connection| async move {
            let header = format!("retry-after: {seconds}\r\n");
            send(connection, &response("429 Too Many Requests", &header, "")).await;
        })
        .await;
        let answers = client(&server.url, |_| {}).charge(&[charge("ORD-1")]).await;
        assert!(matches!(&answers[0], ChargeAnswer::Unknown(why) if why.contains("429")), "{answers:?}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    }

    let port = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let client = client(&format!("http://{port}"), |settings| settings.timeout = Duration::from_secs(1));
    let answers = client.charge(&charges(0..100)).await;
    for answer in answers {
        assert!(
            matches!(&answer, ChargeAnswer::Unknown(why) if why.contains("refused") || why.contains("no ")),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_request_is_what_the_contract_says() {
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let server = {
        let seen = Arc::clone(&seen);
        Raw::serve(move |request: Seen, connection| {
            seen.lock().expect("nobody panics").push(request);
            send(connection, "")
        })
        .await
    };
    let client = client(&format!("{}/v1/", server.url), |_| {});
    let odd = "a&b=c d/ü?#%";
    client.charge(&[charge(odd)]).await;
    client.find_charges(&[charge(odd)]).await;
    client.give_back(&[refund("r-1", "ORD-1", 100)]).await;
    let seen = seen.lock().expect("nobody panics");
    let head = |n: usize| seen[n].head.to_lowercase();
    assert!(head(0).starts_with("post /v1/charges http/1.1"), "{}", head(0));
    for header in ["authorization: bearer sk_test", "content-type: application/json", "idempotency-key: charge-"] {
        assert!(head(0).contains(header), "{header} in {}", head(0));
    }
    assert_eq!(seen[0].body, format!(r#"{{"amount":"39.98","currency":"EUR","reference":"{odd}"}}"#));
    assert!(head(1).starts_with("get /v1/charges?reference=a%26b%3dc+d%2f%c3%bc%3f%23%25 "), "{}", head(1));
    assert!(head(2).contains("idempotency-key: refund-"));
    assert_eq!(
        seen[2].body,
        r#"{"charge":null,"charge_reference":"ORD-1","amount":"1.00","currency":"EUR","reference":"r-1"}"#
    );
}
