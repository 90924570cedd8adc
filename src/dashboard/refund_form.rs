//! Giving money back from an order's page: how much is said before it is done, what came of it is shown, and whoever
//! presses the button again gives nothing twice.
//!
//! An order's forms have keys that follow from its code: one after the other. A form has the first whose refund has not
//! come to its end. A form that is sent twice, another tab with it, a page that is gone back to or loaded anew before the
//! outcome is known, all ask for the same refund, whatever else is given back meanwhile from elsewhere. Once the outcome
//! is known, the next form has the next key. The key stands in the address of the page that asks, so that going back to
//! it finds the same one.

use std::{collections::HashSet, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use chrono::{DateTime, Utc};
use minijinja::context;
use pipeline::{
    domain::{ActionOutcome, ActionVerb, ActionVia, Cents, OrderCode, RefundRequest, RefundStatus},
    store::{self, Claim, KeptAnswer, OrderDetail, RefundRow, RequestKey},
    topology::StageName,
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    address::Address,
    fields::Fields,
    login::{read_form, see_other},
    page::{Nav, page},
    refund_outcome::outcome,
    visitor::{Acting, Visitor},
};
use crate::{
    actions::{Deed, Effect, Recorder},
    http::{
        App, links,
        problem::{Code, Problem},
        query::Params,
        refunds::{Asked, ask},
    },
    output,
};

/// Most bytes of the form.
const FORM_BYTES_MAX: u64 = 16_384;

/// Under which name keys of forms are claimed, whoever sends them.
const ROUTE: &str = "page: refund an order";

/// How long a form that was sent waits for the refund's outcome: a provider answers within this, or its answer is seen
/// on the page later.
const OUTCOME_WITHIN: Duration = Duration::from_secs(5);

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What an order's refunds leave to give back, and whether it can be.
pub(super) fn left_of(detail: &OrderDetail) -> i64 {
    let is_refused =
        |refund: &&RefundRow| matches!(refund.status.parse(), Ok(RefundStatus::Refused | RefundStatus::Failed));
    let granted = detail.refunds.iter().filter(|refund| !is_refused(refund) && !refund.automatic);
    let granted: i64 = granted.filter_map(|refund| refund.amount).map(Cents::get).sum();
    match detail.order.status.as_str() {
        "completed" => (detail.order.total.get() - granted).max(0),
        _ => 0,
    }
}

/// An amount with its currency.
pub(super) fn sum(cents: i64, currency: &str) -> String {
    output::amount(Cents::new(cents), currency)
}

/// Whether the order's pieces can come back: sold, and not brought back by another refund.
pub(super) fn may_restock(detail: &OrderDetail) -> bool {
    detail.order.status == "completed" && !detail.refunds.iter().any(|refund| refund.restocked)
}

/// Whether what came of a refund is not known yet.
pub(super) fn is_open(refund: &RefundRow) -> bool {
    matches!(refund.status.parse(), Ok(RefundStatus::Pending | RefundStatus::Waiting))
}

/// The key of a form on a page that was made while the order's refunds were these.
pub(super) fn key_of(installation: &str, detail: &OrderDetail) -> String {
    let ended: HashSet<&str> =
        detail.refunds.iter().filter(|refund| !is_open(refund)).map(|refund| refund.key.as_str()).collect();
    let mut given = 0;
    loop {
        let key = nth_key(installation, &detail.order.code, given);
        if !ended.contains(key.as_str()) {
            return key;
        }
        given += 1;
    }
}

/// The key of an order's form after so many that were given, or refused, by the forms before it.
fn nth_key(installation: &str, code: &str, given: u64) -> String {
    let mut hash = Sha256::new();
    for part in [installation, code] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(given.to_be_bytes());
    let hash: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("page-{hash}")
}

/// When a form with this key was sent whose refund is not known yet.
pub(super) async fn sent_at(app: &App, detail: &OrderDetail, key: &str) -> Result<Option<DateTime<Utc>>, Problem> {
    if detail.refunds.iter().any(|refund| refund.key == key) {
        return Ok(None);
    }
    Ok(store::request_key_made_at(&app.reports.pool(), 0, ROUTE, key).await?)
}

/// An amount without the commas between its thousands. Any other comma stays, and is refused: `10,50` is not 1,050.
fn without_thousands(text: &str) -> String {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let mut groups = whole.split(',');
    let first = groups.next().unwrap_or_default();
    let is_digits =
        |group: &str, most: usize| (1..=most).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_digit());
    match is_digits(first, 3) && groups.all(|group| group.len() == 3 && is_digits(group, 3)) {
        true => text.replacen(whole, &whole.replace(',', ""), 1),
        false => text.to_owned(),
    }
}

async fn order(app: &App, code: &str) -> Result<OrderDetail, Problem> {
    let known = match OrderCode::check_known(code) {
        Ok(()) => store::find_order(&app.reports.pool(), code).await?,
        Err(_) => None,
    };
    known.ok_or_else(|| Problem::new(Code::NotFound, "Postgres has no order of this code."))
}

/// Says how much would go back, and asks.
pub(super) async fn confirm(
    State(app): State<App>,
    Acting(visitor): Acting,
    Params(fields): Params<Fields>,
) -> Result<Response, Problem> {
    let detail = order(&app, fields.raw("code").unwrap_or_default()).await?;
    let key = match fields.get("key") {
        "" => key_of(&store::installation(&app.reports.pool()).await?, &detail),
        key => key.to_owned(),
    };
    show(&app, &visitor, &detail, &key, &fields).await
}

async fn show(
    app: &App,
    visitor: &Visitor,
    detail: &OrderDetail,
    key: &str,
    fields: &Fields,
) -> Result<Response, Problem> {
    let currency = detail.order.currency.clone().unwrap_or_default();
    let left = left_of(detail);
    let code = &*detail.order.code;
    let typed = without_thousands(fields.get("amount"));
    let amount = if typed.is_empty() { Cents::new(left).to_string() } else { typed.clone() };
    let reason = fields.get("reason");
    // Where no money is left, the pieces may come back without any.
    let is_nothing = typed.trim_matches(['0', '.']).is_empty();
    let wants_pieces = !fields.get("restock").is_empty() && !typed.is_empty() && is_nothing;
    let is_pieces = may_restock(detail) && (left == 0 && is_nothing || wants_pieces);
    let restock = is_pieces || !fields.get("restock").is_empty();
    let asked = RefundRequest::new(key, code, Some(&amount), Some(reason), restock);
    let is_known = detail.refunds.iter().any(|refund| refund.key == key);
    let cents = asked.as_ref().ok().and_then(|asked| asked.amount).map(Cents::get);
    let wrong = match (&asked, cents) {
        _ if is_known => String::new(),
        _ if left == 0 && !is_pieces => {
            "Nothing is left to refund: either nobody paid for this order, or all went back.".to_owned()
        }
        (Err(error), _) => format!("{error}."),
        (Ok(_), Some(cents)) if cents > left => format!("That is more than is left: {}.", sum(left, &currency)),
        (Ok(_), _) => String::new(),
    };
    let sent_at = sent_at(app, detail, key).await?;
    let before = match is_known || sent_at.is_some() {
        true => Some(outcome(app, detail, key, &currency).await?),
        false => None,
    };
    let customer = detail.order.customer_id;
    let names = store::customer_names(&app.reports.pool(), &[customer]).await?;
    let context = context! {
        code,
        wrong,
        // This form was sent before, and its refund is known, which stands on the order's page, or it is not yet.
        is_known,
        before => before.map(|before| context! { tone => before.tone, text => before.text }),
        is_pieces,
        is_all_back => left == 0,
        sum => cents.map(|cents| sum(cents, &currency)),
        amount,
        reason,
        restock,
        key,
        customer,
        name => names.get(&customer),
        total => sum(detail.order.total.get(), &currency),
        left => sum(left, &currency),
        after => cents.map(|cents| sum((left - cents).max(0), &currency)),
        order => Address::of(links::order_page(code)).with("refund", is_known.then_some(key)).text(),
    };
    let mut response = page(app, visitor, Nav::Orders, "refund.html", &format!("Refund {code}"), context)?;
    if !fields.get("amount").is_empty() && asked.is_err() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// What the form sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundForm {
    key: String,
    #[serde(default)]
    amount: String,
    #[serde(default)]
    reason: String,
    restock: Option<String>,
}

impl RefundForm {
    /// The amount, in the one way to write it: `5` is `5.00`.
    fn amount(&self) -> Option<String> {
        let amount = Some(without_thousands(self.amount.trim())).filter(|amount| !amount.is_empty())?;
        Some(Cents::parse_total(amount.as_bytes()).map_or(amount, |cents| cents.to_string()))
    }

    /// The request, as `POST /v1/refunds` takes it.
    fn request(&self, code: &str) -> Value {
        let reason = Some(self.reason.trim()).filter(|reason| !reason.is_empty());
        json!({
            "refund_key": self.key.trim(), "order_code": code, "amount": self.amount(), "reason": reason,
            "restock": self.restock.is_some(),
        })
    }

    fn is_valid(&self, code: &str) -> bool {
        let amount = self.amount();
        RefundRequest::new(self.key.trim(), code, amount.as_deref(), Some(&self.reason), self.restock.is_some()).is_ok()
    }
}

/// What became of a form.
enum Sent {
    /// The refund is on its way, or was asked for before.
    Asked(Asked),
    /// A form with the same key asked for another refund.
    Other,
}

/// Asks for a refund, as `POST /v1/refunds` does, and waits for what comes of it.
pub(super) async fn send(
    State(app): State<App>,
    Acting(visitor): Acting,
    Path(code): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    take(&app, &visitor, code, &headers, body).await
}

/// The order of a form, where its code cannot stand in a path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    code: String,
}

/// The same, of an order whose code cannot stand in a path.
pub(super) async fn send_named(
    State(app): State<App>,
    Acting(visitor): Acting,
    Params(Named { code }): Params<Named>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    take(&app, &visitor, code, &headers, body).await
}

async fn take(
    app: &App,
    visitor: &Visitor,
    code: String,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let form: RefundForm = read_form(headers, body, FORM_BYTES_MAX).await?;
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let deed = Deed { verb: ActionVerb::Refund, target: code.clone(), why: form.reason.trim() };
    let effect = |sent: &Result<Sent, Problem>| {
        let (affected, outcome, what) = match sent {
            Ok(Sent::Asked(Asked::Published { .. })) => (1, ActionOutcome::Done, "asked for".to_owned()),
            Ok(Sent::Asked(Asked::Known(_))) => (0, ActionOutcome::Done, "was asked for before".to_owned()),
            Ok(Sent::Other) => (0, ActionOutcome::Refused, "another one was asked for by such a form".to_owned()),
            Err(problem) => (0, ActionOutcome::Refused, problem.detail().to_owned()),
        };
        let restock = form.restock.is_some();
        let detail =
            json!({ "refund_key": form.key.trim(), "amount": form.amount(), "restock": restock, "what": what });
        Effect { affected, outcome, detail }
    };
    let work = async { Ok(once(app, headers, &form, &code).await) };
    let (sent, _) = recorder.act(deed, work, effect).await?;
    let to = Address::of(links::order_page(&code));
    let key = match sent? {
        Sent::Asked(Asked::Known(refund)) => refund.key,
        Sent::Asked(Asked::Published { key, .. }) => key,
        Sent::Other => return Ok(see_other(&to.with("other", Some(form.key.trim())).text())),
    };
    // What is not over by then is told on the page once it is.
    let _in_time = tokio::time::timeout(OUTCOME_WITHIN, ended(app, &key)).await.is_ok();
    Ok(see_other(&to.with("refund", Some(key)).text()))
}

/// Asks, unless a form with this key has asked for something else.
async fn once(app: &App, headers: &HeaderMap, form: &RefundForm, code: &str) -> Result<Sent, Problem> {
    let request = form.request(code).to_string();
    if !form.is_valid(code) {
        return ask(app, headers, request.as_bytes()).await.map(Sent::Asked);
    }
    let hash = Sha256::digest(request.as_bytes()).into();
    let claim = RequestKey { token_id: 0, route: ROUTE, key: form.key.trim().to_owned(), hash };
    let pool = app.store.pool();
    let claimed = match store::claim_request_key(&pool, &claim).await? {
        Claim::Ours(until) => Some(until),
        // It may have been lost on its way: the same refund is asked for again.
        Claim::Answered(_) | Claim::InProgress => None,
        Claim::Reused if !is_lost(app, form.key.trim()).await? => return Ok(Sent::Other),
        // What was asked for has reached nobody, and never will: this is asked for instead. Should it come all the same, from a
        // dead letter, say, it is a conflict: a key is given once.
        Claim::Reused => match store::reclaim_request_key(&pool, &claim).await? {
            Some(until) => Some(until),
            None => return Ok(Sent::Other),
        },
    };
    let asked = ask(app, headers, request.as_bytes()).await;
    if let Some(until) = claimed {
        let noted = match &asked {
            Ok(_) => {
                // Nobody reads it: what came of the refund is told.
                let answer = KeptAnswer { status: 202, headers: "[]".to_owned(), body: Vec::new(), import_id: None };
                store::keep_answer(&pool, &claim, until, &answer).await
            }
            Err(_) => store::release_request_key(&pool, &claim, until).await,
        };
        if let Err(error) = noted {
            // It frees itself in two minutes, for the same refund only.
            tracing::warn!(%error, "the key of a form could not be noted");
        }
    }
    match asked {
        Ok(asked) => Ok(Sent::Asked(asked)),
        Err(problem) if problem.code() == Code::RefundConflict => Ok(Sent::Other),
        Err(problem) => Err(problem),
    }
}

/// Whether what a form has asked for is not on its way any more, and Postgres does not know it: Redis was emptied, or it became
/// a dead letter.
pub(super) async fn is_lost(app: &App, key: &str) -> Result<bool, Problem> {
    let mut connection = app.connection().await?;
    for partition in 0..app.partitions {
        let waiting = app.redis.backlog(&mut connection, partition, StageName::Refund).await;
        if app.answered(waiting).await? > 0 {
            return Ok(false);
        }
    }
    Ok(store::find_refund(&app.store.pool(), key).await?.is_none())
}

/// Waits until the refund has come to its end.
async fn ended(app: &App, key: &str) {
    loop {
        match store::find_refund(&app.reports.pool(), key).await {
            Ok(Some(refund)) if refund.settled_at.is_some() => return,
            Ok(_) => tokio::time::sleep(LOOK_EVERY).await,
            // The page will say that Postgres is away.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use pipeline::store::OrderSummary;

    use super::*;

    fn order(refunds: &[(&str, &str, i64)]) -> OrderDetail {
        let at = DateTime::UNIX_EPOCH;
        let refund = |(key, status, cents): &(&str, &str, i64)| RefundRow {
            key: (*key).to_owned(),
            amount: Some(Cents::new(*cents)),
            status: (*status).to_owned(),
            reason: None,
            refusal: None,
            restocked: false,
            automatic: false,
            created_at: at,
            settled_at: None,
        };
        OrderDetail {
            order: OrderSummary {
                id: 1,
                code: "A".to_owned(),
                customer_id: 1,
                status: "completed".to_owned(),
                failure_reason: None,
                total: Cents::new(2_000),
                currency: Some("EUR".to_owned()),
                created_at: at,
                settled_at: Some(at),
            },
            refunded: Cents::ZERO,
            partition: 0,
            import_id: None,
            received_at: at,
            lines: Vec::new(),
            payments: Vec::new(),
            refunds: refunds.iter().map(refund).collect(),
            callbacks: Vec::new(),
            events: Vec::new(),
            notifications: Vec::new(),
        }
    }

    #[test]
    fn only_commas_between_thousands_are_taken_away() {
        for (typed, amount) in
            [("1,234.50", "1234.50"), ("1,234,567", "1234567"), ("10.50", "10.50"), ("12", "12"), ("", "")]
        {
            assert_eq!(without_thousands(typed), amount);
        }
        for wrong in ["10,50", "1,0", ",100", "1,,000", "1234,567", "1.000,50", "1,000.5,0"] {
            assert!(without_thousands(wrong).contains(','), "{wrong}");
        }
    }

    #[test]
    fn a_form_keeps_its_key_until_the_end_of_its_own_refund_is_known() {
        let key = |refunds: &[(&str, &str, i64)]| key_of("i", &order(refunds));
        let first = key(&[]);
        for open in ["pending", "waiting"] {
            assert_eq!(first, key(&[(&first, open, 500)]), "nobody knows yet what comes of it");
            let meanwhile = [(&*first, open, 500), ("another", "succeeded", 100), ("one-more", "refused", 100)];
            assert_eq!(first, key(&meanwhile), "what is given from elsewhere changes nothing");
        }
        assert_eq!(first, key(&[("another", "succeeded", 100)]), "it may have been sent, and not be known yet");
        for ended in ["succeeded", "refused", "failed"] {
            let second = key(&[(&first, ended, 500)]);
            assert_ne!(first, second, "{ended}");
            assert_eq!(second, key(&[(&second, "pending", 100), (&first, ended, 500)]));
            assert_ne!(second, key(&[(&second, "succeeded", 100), (&first, ended, 500)]));
        }
        assert_ne!(first, key_of("another installation", &order(&[])));
        assert!(pipeline::domain::RefundKey::new(first).is_ok());
    }

    #[test]
    fn what_is_granted_is_not_left_before_it_has_gone_back() {
        let refunds = [("a", "pending", 500), ("b", "succeeded", 300), ("c", "refused", 9_000), ("d", "waiting", 100)];
        assert_eq!(left_of(&order(&refunds)), 1_100);
        let mut failed = order(&[]);
        failed.order.status = "failed".to_owned();
        assert_eq!(left_of(&failed), 0);
    }
}
