//! One dead letter: all of it, what to do about it, and sending it on its way again with another body.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use minijinja::context;
use pipeline::{
    domain::ActionVia,
    streams::{DeadLetter, LetterId},
};

use super::{
    confirm::told,
    mask::{is_private, masked},
    reason_in_words,
    remedy::{Remedy, advice, remedy},
    shown,
};
use crate::{
    actions::{Recorder, WHY_CHARS_MAX},
    cli::dead::{ReplayArgs, Which},
    commands::dead::{
        Summary,
        replay::hindrance,
        show::{find, pretty},
    },
    dashboard::{
        banner::banner,
        fields::Fields,
        login::{read_form, see_other},
        look::look_again,
        page::{Nav, page},
        visitor::{Acting, Visitor},
    },
    http::{
        App,
        dead_letter_actions::replay_letters,
        dead_letters::{desk, unknown},
        problem::{Code, Problem},
        query::{Params, encoded},
    },
    output::{cut, inert},
};

/// Most bytes of the form: a body, each byte of which may be three in a form.
const BYTES_MAX: u64 = 1024 * 1024;

/// Most bytes of a body that is shown, and can be edited here.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Fields beside the body that are shown.
const FIELDS_SHOWN: usize = 30;

/// Characters of such a field.
const FIELD_CHARS: usize = 500;

/// How long it is looked whether a replay would fail.
const HINDRANCE_WITHIN: Duration = Duration::from_secs(2);

/// The letter.
pub(in crate::dashboard) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    Params(fields): Params<Fields>,
) -> Result<Response, Problem> {
    let letter = read(&app, &id).await?;
    render(&app, &visitor, &letter, &fields, None).await
}

async fn read(app: &App, id: &str) -> Result<DeadLetter, Problem> {
    let id: LetterId = id.parse().map_err(|_| unknown())?;
    find(&mut desk(app).await?, id).await?.ok_or_else(unknown)
}

/// What was typed, and why it cannot be taken.
struct Refused {
    body: String,
    why: String,
    wrong: String,
}

async fn render(
    app: &App,
    visitor: &Visitor,
    letter: &DeadLetter,
    fields: &Fields,
    refused: Option<Refused>,
) -> Result<Response, Problem> {
    let Summary { id, reason, error, stage, group, order_code, replayed_from, replayed, replays, .. } =
        Summary::of(letter);
    let text = |name: &str| letter.our(name).map(|text| inert(text.as_bytes(), false));
    let body = letter.body().unwrap_or_default();
    let shown_body = pretty(&body[..body.len().min(BODY_BYTES_MAX)]);
    let (masked_body, is_masked) = masked(&shown_body);
    let others = letter.original.iter().filter(|(name, _)| name != b"body");
    let further = others.clone().count().saturating_sub(FIELDS_SHOWN);
    let others = others.take(FIELDS_SHOWN).map(|(name, value)| {
        let name = cut(&inert(name, false), FIELD_CHARS);
        let value = if is_private(&name) { "•••".to_owned() } else { cut(&inert(value, false), FIELD_CHARS) };
        (name, value)
    });
    let is_typed = refused.is_some();
    let is_editable = letter.stage().is_some() && (is_typed || body.is_empty() || editable(body).is_some());
    let is_replayable = letter.replay(None).is_ok();
    // What nobody can tell is tried.
    let hindrance = tokio::time::timeout(HINDRANCE_WITHIN, hindrance(&app.reports, letter)).await;
    let hindrance = hindrance.ok().and_then(Result::ok).flatten();
    let remedy_of_one = match remedy(reason.as_deref()) {
        Remedy::Discard => Remedy::Discard,
        _ if hindrance.is_none() && is_replayable => Remedy::Replay,
        _ if is_editable => Remedy::Edit,
        _ => Remedy::Discard,
    };
    let Refused { body: typed, why, wrong } = refused.unwrap_or_else(|| Refused {
        body: editable(body).unwrap_or_default(),
        why: String::new(),
        wrong: String::new(),
    });
    let context = context! {
        banner => banner(app, fields).await,
        id => id.to_string(),
        reason => reason.as_deref().map_or("nobody of ours wrote it", reason_in_words),
        word => shown(reason.as_deref()),
        error => shown(error.as_deref()),
        stage => shown(stage.as_deref()),
        group,
        order => order_code.map(|code| inert(code.as_bytes(), false)),
        source => text("source_id").zip(text("source_stream")).map(|(id, stream)| format!("{id} in {stream}")),
        first_at => text("first_at"),
        died_at => letter.died_at().map(|at| at.to_rfc3339()),
        deliveries => letter.deliveries(),
        cut => text("fields_cut"),
        imported_from => (letter.first_id() != id.entry).then(|| letter.first_id().to_string()),
        replays,
        replayed_from => replayed_from.map(|id| id.to_string()),
        replayed => replayed.map(|mark| context! {
            became => inert(mark.became.as_bytes(), false),
            at => mark.at,
            times => mark.times,
            edited => mark.edited,
        }),
        has_body => letter.body().is_some(),
        body => masked_body,
        is_masked,
        body_bytes => body.len(),
        is_cut => body.len() > BODY_BYTES_MAX,
        others => others.collect::<Vec<_>>(),
        further,
        advice => advice(reason.as_deref()),
        remedy => remedy_of_one.as_str(),
        hindrance,
        is_editable,
        is_editing => fields.get("edit") == "yes",
        is_replayable,
        typed,
        is_typed,
        why,
        wrong,
    };
    page(app, visitor, Nav::Dead, "dead_letter.html", &format!("Dead letter {id}"), context)
}

/// A body as it can be typed: text without anything that a page or a form would change.
fn editable(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= BODY_BYTES_MAX)?;
    let is_plain = inert(body, true) == text;
    is_plain.then(|| pretty(body))
}

/// Sends it on its way again with what was typed, unless its stage would refuse that, too.
pub(in crate::dashboard) async fn edit(
    State(app): State<App>,
    Acting(visitor): Acting,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let fields: Fields = read_form(&headers, body, BYTES_MAX).await?;
    let letter = read(&app, &id).await?;
    let typed = fields.raw("body").unwrap_or_default().to_owned();
    let why = fields.get("why").to_owned();
    let again = fields.get("again") == "yes";
    let refuse = async |typed: String, why: String, wrong: String| {
        let refused = Refused { body: typed, why, wrong };
        let mut response = render(&app, &visitor, &letter, &fields, Some(refused)).await?;
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        Ok(response)
    };
    if why.is_empty() || why.chars().count() > WHY_CHARS_MAX {
        let wrong = format!("Say why, in at most {WHY_CHARS_MAX} characters: others will want to know.");
        return refuse(typed, why, wrong).await;
    }
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let which = Which { ids: vec![letter.id], ..Which::default() };
    let args = ReplayArgs {
        which,
        all: false,
        dry_run: false,
        again,
        force: false,
        body: None,
        rate: u32::MAX,
        why: Some(why.clone()),
        after: None,
    };
    match replay_letters(&app, &recorder, args, Some(typed.as_bytes())).await {
        Ok(tally) => {
            look_again(&app).await;
            Ok(see_other(&format!("/dead/{}?{}", encoded(&id), told(&tally))))
        }
        Err(problem) if problem.code() == Code::Invalid => refuse(typed, why, problem.detail().to_owned()).await,
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_back_as_it_was_can_be_edited() {
        assert_eq!(editable(br#"{"a":1}"#).as_deref(), Some("{\n  \"a\": 1\n}"));
        assert_eq!(editable(b"nonsense").as_deref(), Some("nonsense"));
        for body in [&b"\xff"[..], "a\u{202e}b".as_bytes(), b"a\x07b"] {
            assert_eq!(editable(body), None);
        }
    }
}
