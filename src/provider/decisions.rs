//! What is decided after it was answered, and the callbacks that say so.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use pipeline::retry::delays_up_to;
use reqwest::{Client, StatusCode, Url, redirect};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinHandle};
use tracing::debug;

use super::{
    Fault, Provider,
    book::{Booking, Kind, Status},
    faults::without_installation,
};
use crate::signature::{Secret, sign};

/// Most callbacks under way at once.
const CALLBACKS_MAX: usize = 64;

/// How long a receiver may take for a callback.
const CALLBACK_MAX: Duration = Duration::from_secs(5);

/// The longest wait between two tries of a callback.
const DELAY_MAX: Duration = Duration::from_secs(2);

/// Who is told of decisions.
#[derive(Debug, Clone)]
pub struct CallbackTarget {
    /// Where callbacks are posted.
    pub url: Url,
    /// By which they are signed.
    pub secret: Secret,
}

/// Sends callbacks.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    client: Client,
    target: CallbackTarget,
    turns: Arc<Semaphore>,
}

impl Sender {
    pub(super) fn new(target: CallbackTarget) -> anyhow::Result<Self> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .pool_max_idle_per_host(CALLBACKS_MAX)
            .timeout(CALLBACK_MAX)
            .build()?;
        Ok(Self { client, target, turns: Arc::new(Semaphore::new(CALLBACKS_MAX)) })
    }

    /// Sends the decision until it is taken. A conflict says that it was taken before.
    async fn deliver(&self, booking: &Booking) {
        let body = callback_body(booking);
        let id = format!("msg_{}", booking.first.id);
        let mut delays = delays_up_to(DELAY_MAX);
        loop {
            let taken = {
                let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
                self.post(&id, &body).await
            };
            match taken {
                Ok(status) if status.is_success() || status == StatusCode::CONFLICT => return,
                Ok(status) => debug!(callback = id, status = status.as_u16(), "a callback was not taken"),
                Err(error) => debug!(callback = id, %error, "a callback did not arrive"),
            }
            tokio::time::sleep(delays.next().unwrap_or(DELAY_MAX)).await;
        }
    }

    async fn post(&self, id: &str, body: &[u8]) -> Result<StatusCode, reqwest::Error> {
        // Signed anew each time: the receiver refuses what was signed long ago.
        let timestamp = Utc::now().timestamp();
        let request = self
            .client
            .post(self.target.url.clone())
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", sign(&self.target.secret, id, timestamp, body))
            .header("content-type", "application/json")
            .body(body.to_vec());
        Ok(request.send().await?.status())
    }
}

/// The JSON of a callback.
fn callback_body(booking: &Booking) -> Vec<u8> {
    let first = &booking.first;
    let kind = match booking.status {
        Status::Approved => "charge.approved",
        Status::Declined => "charge.declined",
        Status::Succeeded => "refund.succeeded",
        Status::Failed => "refund.failed",
        Status::Pending => match first.kind {
            Kind::Charge => "charge.pending",
            Kind::Refund => "refund.pending",
        },
    };
    let data = json!({
        "id": first.id,
        "reference": first.reference,
        "amount": first.cents,
        "currency": first.currency,
    });
    json!({ "type": kind, "data": data }).to_string().into_bytes()
}

impl Provider {
    /// What is decided of a charge or refund of this reference.
    pub(super) fn says_yes(&self, kind: Kind, reference: &str) -> bool {
        match kind {
            Kind::Charge => self.behaviour.approvals.approves(without_installation(reference)),
            Kind::Refund => !self.behaviour.faults.hit(Fault::RefundFailures, reference),
        }
    }

    /// Takes up what was owed when the provider ended.
    pub(super) fn resume(&self) {
        let owed = self.books().book.owed();
        for index in owed {
            drop(self.decide_later(index));
        }
    }

    /// Decides what is pending when its time has come, and sends the callback.
    pub(super) fn decide_later(&self, index: usize) -> JoinHandle<()> {
        let provider = self.clone();
        tokio::spawn(async move {
            let shutdown = provider.shutdown.clone();
            tokio::select! {
                () = provider.decide(index) => {}
                () = shutdown.begun() => {}
            }
        })
    }

    async fn decide(&self, index: usize) {
        let Behaviours { reference, kind, at } = self.about(index);
        let faults = &self.behaviour.faults;
        let after = match () {
            () if faults.hit(Fault::Early, &reference) => Duration::ZERO,
            () if faults.hit(Fault::Late, &reference) => self.behaviour.late_after,
            () => self.behaviour.callback_after,
        };
        // What passed while the provider was not running has passed.
        let passed = Duration::from_millis((Utc::now().timestamp_millis() - at).try_into().unwrap_or(0));
        tokio::time::sleep(after.saturating_sub(passed)).await;
        let (booking, last) = {
            let mut books = self.books();
            let books = &mut *books;
            books.book.decide(&mut books.ledger, index, self.says_yes(kind, &reference));
            let booking = books.book.get(index).clone();
            let line = booking.line;
            (booking, line)
        };
        if self.flushed.reaches(last).await.is_err() || faults.hit(Fault::Lost, &reference) {
            return;
        }
        let Some(sender) = &self.sender else { return };
        sender.deliver(&booking).await;
        if faults.hit(Fault::Doubled, &reference) {
            sender.deliver(&booking).await;
        }
        let mut books = self.books();
        let books = &mut *books;
        books.book.note_delivery(&mut books.ledger, index);
    }

    fn about(&self, index: usize) -> Behaviours {
        let books = self.books();
        let first = &books.book.get(index).first;
        Behaviours { reference: first.reference.clone(), kind: first.kind, at: first.at }
    }
}

/// What a decision depends on.
struct Behaviours {
    reference: String,
    kind: Kind,
    /// When it was booked.
    at: i64,
}
