//! Replaying and discarding: first it is said what and how many, then it is done.

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use minijinja::{Value, context};
use pipeline::{domain::ActionVia, streams::LetterId};

use super::{CONDITIONS, group, matching, which};
use crate::{
    actions::{Recorder, WHY_CHARS_MAX},
    cli::dead::{DiscardArgs, ReplayArgs, Which},
    commands::dead::{groups::groups, tally::Tally},
    dashboard::{
        banner::{banner, told_of},
        fields::{Fields, query},
        login::{read_form, see_other},
        look::look_again,
        page::{Nav, page},
        visitor::{Acting, Visitor},
    },
    http::{
        App,
        dead_letter_actions::{discard_letters, preview_replay, replay_letters},
        dead_letters::desk,
        problem::{Code, Problem},
        query::{Params, encoded, invalid},
    },
    output::thousands,
};

/// Most bytes of the form: a page of ids and a reason.
const BYTES_MAX: u64 = 64 * 1024;

/// Most letters that are named one by one.
const IDS_MAX: usize = 200;

/// Groups that are listed before anything is done.
const GROUPS_SHOWN: usize = 5;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Replay,
    Discard,
}

impl Verb {
    fn of(fields: &Fields) -> Result<Self, Problem> {
        match fields.get("verb") {
            "replay" => Ok(Self::Replay),
            "discard" => Ok(Self::Discard),
            _ => Err(Problem::new(Code::Invalid, "verb: replay or discard")),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
        }
    }
}

/// Which letters are meant, never all of them by accident.
fn chosen(fields: &Fields) -> Result<Which, Problem> {
    let which = which(fields)?;
    if which.ids.len() > IDS_MAX {
        return Err(invalid("id", format!("at most {IDS_MAX} at once")));
    }
    if which.is_all() && fields.get("all") != "yes" {
        return Err(Problem::new(Code::Invalid, "no letter is selected: go back and select some"));
    }
    Ok(which)
}

/// Says what would be done, to how many, and asks why.
pub(in crate::dashboard) async fn show(
    State(app): State<App>,
    Acting(visitor): Acting,
    Params(fields): Params<Fields>,
) -> Result<Response, Problem> {
    let verb = Verb::of(&fields)?;
    let which = chosen(&fields)?;
    ask(&app, &visitor, &fields, verb, which, "").await
}

async fn ask(
    app: &App,
    visitor: &Visitor,
    fields: &Fields,
    verb: Verb,
    which: Which,
    wrong: &str,
) -> Result<Response, Problem> {
    let mut desk = desk(app).await?;
    let by_id = !which.ids.is_empty();
    let up_to = which.up_to;
    let found = groups(&mut desk, which.clone()).await?;
    let preview = match verb {
        Verb::Replay => preview(app, visitor, which.clone(), after(fields)?).await?,
        Verb::Discard => Preview::default(),
    };
    // What is counted here is what is meant: not what dies while somebody reads it.
    let up_to = up_to.or(found.up_to).filter(|_| !by_id).map(|up_to| up_to.to_string());
    let mut hidden = vec![("verb", verb.as_str())];
    hidden.extend(fields.some(&[CONDITIONS, &["id", "all", "after"]].concat()));
    hidden.extend(up_to.as_deref().map(|up_to| ("up_to", up_to)));
    let count = matching(&found);
    let replayed: u64 = found.groups.iter().map(|group| group.replayed).sum();
    let many = letters_of(count);
    let context = context! {
        banner => banner(app, fields).await,
        wrong,
        is_replay => verb == Verb::Replay,
        is_further => !fields.get("after").is_empty(),
        many,
        count,
        refused => preview.refused,
        refused_words => preview.words(),
        willing => preview.willing,
        willing_words => letters_of(preview.willing),
        look => match &*which.ids {
            [id] => format!("/dead/{}", encoded(&id.to_string())),
            _ => format!("/dead?{}", query(&[&[("view", "letters")], &*fields.some(CONDITIONS)].concat())),
        },
        replayed,
        replayed_shown => thousands(replayed),
        is_partial => found.of < found.total,
        of => thousands(found.of),
        groups => found.groups.iter().take(GROUPS_SHOWN).map(group).collect::<Vec<Value>>(),
        more => found.groups.len().saturating_sub(GROUPS_SHOWN),
        why => fields.get("why"),
        hidden => hidden.iter().map(|(name, value)| Value::from(vec![(*name).to_owned(), (*value).to_owned()])).collect::<Vec<Value>>(),
    };
    let title = if verb == Verb::Replay { "Replay dead letters" } else { "Discard dead letters" };
    page(app, visitor, Nav::Dead, "dead_confirm.html", title, context)
}

/// Where to go on.
fn after(fields: &Fields) -> Result<Option<LetterId>, Problem> {
    match fields.get("after") {
        "" => Ok(None),
        id => Ok(Some(id.parse().map_err(|error| invalid("after", error))?)),
    }
}

/// So many letters.
fn letters_of(count: u64) -> String {
    match count {
        1 => "1 letter".to_owned(),
        count => format!("{} letters", thousands(count)),
    }
}

/// What a replay would come to.
#[derive(Default)]
struct Preview {
    /// Letters that would go.
    willing: u64,
    /// Letters that their stage would refuse again.
    refused: u64,
    /// Why, of the first of them.
    why: String,
    /// Not all were looked at.
    is_partial: bool,
}

impl Preview {
    fn words(&self) -> String {
        let Self { willing, refused, why, is_partial } = self;
        let of = if *is_partial { "Of those that were looked at, " } else { "" };
        let (would, them, first) = match refused {
            1 => ("would fail again and is", "it", ""),
            _ => ("would fail again and are", "them", "The first of them: "),
        };
        let instead = if *willing == 0 { format!(" Put {them} right, or discard {them}.") } else { String::new() };
        format!("{of}{} {would} left alone. {first}{why}.{instead}", letters_of(*refused))
    }
}

async fn preview(app: &App, visitor: &Visitor, which: Which, after: Option<LetterId>) -> Result<Preview, Problem> {
    let all = which.is_all();
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let (dry_run, again, force) = (true, false, false);
    let args = ReplayArgs { which, all, dry_run, again, force, body: None, rate: u32::MAX, why: None, after };
    let tally = preview_replay(app, &recorder, args).await?;
    let count = |outcome| tally.outcomes.get(outcome).copied().unwrap_or_default();
    let why = tally.refusal().unwrap_or_default();
    let why = why.split("; --force").next().unwrap_or_default().to_owned();
    Ok(Preview { willing: count("replayed"), refused: count("refused"), why, is_partial: tally.interrupted })
}

/// Does it.
pub(in crate::dashboard) async fn act(
    State(app): State<App>,
    Acting(visitor): Acting,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let fields: Fields = read_form(&headers, body, BYTES_MAX).await?;
    let verb = Verb::of(&fields)?;
    let which = chosen(&fields)?;
    let why = fields.get("why").to_owned();
    if why.is_empty() || why.chars().count() > WHY_CHARS_MAX {
        let wrong = format!("Say why, in at most {WHY_CHARS_MAX} characters: others will want to know.");
        return ask(&app, &visitor, &fields, verb, which, &wrong).await;
    }
    let after = after(&fields)?;
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let again = fields.get("again") == "yes";
    let all = which.is_all();
    let only = if let [id] = *which.ids { Some(id) } else { None };
    let why = Some(why);
    let tally = match verb {
        Verb::Replay => {
            let force = fields.get("force") == "yes";
            let args = ReplayArgs { which, all, dry_run: false, again, force, body: None, rate: u32::MAX, why, after };
            replay_letters(&app, &recorder, args, None).await?
        }
        Verb::Discard => {
            let args = DiscardArgs { which, all, dry_run: false, yes: true, why, after };
            discard_letters(&app, &recorder, args).await?
        }
    };
    let told = told(&tally);
    look_again(&app).await;
    Ok(see_other(&match (tally.interrupted, only) {
        (true, _) => further(&fields, verb, &tally, &told),
        (false, Some(id)) if verb == Verb::Replay => format!("/dead/{}?{told}", encoded(&id.to_string())),
        (false, _) => format!("/dead?{told}"),
    }))
}

/// The address of the banner that tells of it.
pub(super) fn told(tally: &Tally) -> String {
    tally.note.as_ref().map(|note| told_of(note, tally.changed())).unwrap_or_default()
}

/// Where to go on with the rest.
fn further(fields: &Fields, verb: Verb, tally: &Tally, told: &str) -> String {
    let (after, up_to) = (tally.after.map(|id| id.to_string()), tally.up_to.map(|id| id.to_string()));
    let mut rest = vec![("verb", verb.as_str())];
    rest.extend(fields.some(&[CONDITIONS, &["id", "all", "why", "again", "force"]].concat()));
    rest.extend(after.as_deref().map(|after| ("after", after)));
    rest.extend(up_to.as_deref().map(|up_to| ("up_to", up_to)));
    format!("/dead/confirm?{}&{told}", query(&rest))
}
