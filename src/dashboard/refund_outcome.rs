//! What an order's page tells of a refund that was asked for there.

use pipeline::{
    domain::{Cents, RefundStatus},
    store::OrderDetail,
};

use super::{
    orders::refund_tone,
    refund_form::{is_lost, is_open, left_of, sum},
};
use crate::http::{App, problem::Problem};

/// What a page tells of a refund that was asked for.
pub(super) struct Outcome {
    pub(super) tone: &'static str,
    pub(super) text: String,
    /// There is more to come.
    pub(super) is_open: bool,
}

/// What came of the refund with this key.
pub(super) async fn outcome(app: &App, detail: &OrderDetail, key: &str, currency: &str) -> Result<Outcome, Problem> {
    let Some(refund) = detail.refunds.iter().find(|refund| refund.key == key) else {
        // Where that is not known, it is believed to be on its way: asking again is safe.
        if is_lost(app, key).await.unwrap_or(false) {
            let text = format!(
                "The refund {key} was lost on its way (Redis was emptied), or is a dead letter: nothing has gone back. Ask again."
            );
            return Ok(Outcome { tone: "warn", text, is_open: false });
        }
        let snapshot = app.monitor.latest();
        let stage = snapshot.stage(pipeline::topology::StageName::Refund);
        let why = match stage {
            Some(stage) if stage.paused.is_some() => {
                " The stage refund is paused: it goes on when somebody resumes it."
            }
            Some(stage) if stage.workers == 0 => " No worker runs the stage refund.",
            _ => "",
        };
        let text =
            format!("The refund {key} is on its way, and not taken in yet.{why} Asking again asks for the same one.");
        return Ok(Outcome { tone: "busy", text, is_open: true });
    };
    let amount = refund.amount.map_or_else(|| "The rest".to_owned(), |amount| sum(amount.get(), currency));
    let left = sum(left_of(detail), currency);
    let is_pieces = refund.amount == Some(Cents::ZERO);
    let (text, is_open) = match refund.status.parse() {
        Ok(RefundStatus::Succeeded) if is_pieces => {
            ("The pieces are back in the stock. No money moved.".to_owned(), false)
        }
        Ok(RefundStatus::Succeeded) => (format!("Refunded: {amount} went back. {left} is left."), false),
        Ok(RefundStatus::Pending) => {
            let text =
                "the payment provider has not confirmed it yet. Asking again here asks for the same one until it has.";
            (format!("{amount} goes back: {text}"), true)
        }
        Ok(RefundStatus::Waiting) => (format!("{amount} waits for the order to reach its end."), true),
        _ => {
            let why = refusal_in_words(refund.refusal.as_deref().unwrap_or_default());
            (format!("Not refunded: {why}. Nothing went back."), false)
        }
    };
    Ok(Outcome { tone: refund_tone(&refund.status), text, is_open })
}

fn refusal_in_words(refusal: &str) -> &str {
    match refusal {
        "exceeds_paid" => "it is more than is left of what was paid",
        "nothing_left" => "nothing is left of what was paid",
        "already_restocked" => "the pieces of the order came back before",
        "order_failed" => "the order failed, and nobody paid for it",
        "not_settled" => "the order did not reach its end in time",
        "unknown_order" => "Postgres has no order of this code",
        "gateway_refused" => "the payment provider refused it",
        other => other,
    }
}

/// What a page tells somebody whose form was used before, for another refund.
pub(super) fn other(detail: &OrderDetail, key: &str, currency: &str) -> String {
    let refund = detail.refunds.iter().find(|refund| refund.key == key);
    let what = match refund.and_then(|refund| refund.amount) {
        Some(amount) => format!("{} of this order", sum(amount.get(), currency)),
        None => "another amount".to_owned(),
    };
    let way = match refund.map(is_open) {
        Some(false) => "See the refunds below; if you still mean yours, ask again here",
        Some(true) | None => "What comes of that is not known yet; if you still mean yours then, ask again here",
    };
    format!(
        "This form gave nothing: one like it has asked for {what} meanwhile, or for the same with another reason or restock. {way}."
    )
}
