//! Dead letters: what died of what, which letters those are.

mod confirm;
mod letter;
mod mask;
mod remedy;

use axum::{extract::State, response::Response};
use minijinja::{Value, context};
use pipeline::{
    message::{DeadReason, EntryId},
    streams::LetterId,
};

pub(super) use self::{
    confirm::{act, show as confirm},
    letter::{edit, show as letter},
};
use super::{
    banner::banner,
    fields::{Fields, query},
    page::{Nav, page},
    visitor::Visitor,
};
use crate::{
    cli::dead::{ListArgs, Which, YesNo, parse_span},
    commands::dead::{
        groups::{Group, Groups, groups},
        page as letters,
    },
    http::{
        App,
        dead_letters::desk,
        problem::Problem,
        query::{Params, encoded, invalid, word},
    },
    output::{cut, inert, thousands},
};

/// Letters on a page.
const PAGE: u32 = 50;

/// Characters of an error in a row.
const ERROR_CHARS: usize = 160;

/// The conditions that letters are found by.
const CONDITIONS: &[&str] = &["stage", "reason", "order", "group", "replayed", "older_than", "newer_than"];

/// Which letters the fields mean. All conditions must hold; ids name letters one by one.
fn which(fields: &Fields) -> Result<Which, Problem> {
    fn some(text: &str) -> Option<&str> {
        (!text.is_empty()).then_some(text)
    }
    let span =
        |name: &str| some(fields.get(name)).map(parse_span).transpose().map_err(|error: String| invalid(name, error));
    let id = |id: &str| id.parse::<LetterId>().map_err(|error| invalid("id", error));
    let up_to = some(fields.get("up_to")).map(str::parse::<EntryId>).transpose();
    Ok(Which {
        ids: fields.all("id").map(id).collect::<Result<_, _>>()?,
        stage: word("stage", some(fields.get("stage")))?,
        reason: word("reason", some(fields.get("reason")))?,
        order: some(fields.get("order")).map(str::to_owned),
        group: some(fields.get("group")).map(str::to_owned),
        older_than: span("older_than")?,
        newer_than: span("newer_than")?,
        replayed: match fields.get("replayed") {
            "yes" => Some(YesNo::Yes),
            "no" => Some(YesNo::No),
            _ => None,
        },
        up_to: up_to.map_err(|error| invalid("up_to", error))?,
    })
}

/// How many letters were counted.
fn matching(found: &Groups) -> u64 {
    found.groups.iter().map(|group| group.count).sum::<u64>() + found.others
}

/// What died of what; with a condition, the letters themselves.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Params(fields): Params<Fields>,
) -> Result<Response, Problem> {
    let which = which(&fields)?;
    let mut desk = desk(&app).await?;
    let found = groups(&mut desk, which.clone()).await?;
    let banner = banner(&app, &fields).await;
    if which.is_all() && fields.get("view") != "letters" {
        let context = context! {
            banner,
            groups => found.groups.iter().map(group).collect::<Vec<_>>(),
            others => found.others,
            of => thousands(found.of),
            total => thousands(found.total),
            is_partial => found.of < found.total,
            waiting => found.groups.iter().map(|group| group.waiting).sum::<u64>(),
            replayed => found.groups.iter().map(|group| group.replayed).sum::<u64>(),
        };
        return page(&app, &visitor, Nav::Dead, "dead.html", "Dead letters", context);
    }
    let after = match fields.get("after") {
        "" => None,
        id => Some(id.parse().map_err(|error| invalid("after", error))?),
    };
    let chosen = fields.some(CONDITIONS);
    let is_page_chosen = fields.get("selected") == "page";
    let listed = letters(&mut desk, ListArgs { which: which.clone(), limit: PAGE, after }).await?;
    let at =
        |further: &[(&str, &str)]| format!("/dead?{}", query(&[&[("view", "letters")], &*chosen, further].concat()));
    let here = after.map(|after: LetterId| after.to_string());
    let here: Vec<(&str, &str)> = here.iter().map(|after| ("after", after.as_str())).collect();
    let next = listed.next.map(|next| at(&[("after", &next.to_string())]));
    let rows = listed.letters.into_iter().map(|letter| {
        context! {
            id => letter.id.to_string(),
            reason => letter.reason.as_deref().map_or("nobody of ours wrote it", reason_in_words),
            stage => shown(letter.stage.as_deref()),
            order => letter.order_code.as_deref().map(|code| inert(code.as_bytes(), false)),
            error => shown(letter.error.as_deref()),
            died_at => letter.died_at.map(|at| at.to_rfc3339()),
            came_back => letter.replays,
            is_replayed => letter.replayed.is_some(),
        }
    });
    let count = matching(&found);
    let sought = |verb: &str| {
        let all = if which.is_all() { vec![("all", "yes")] } else { Vec::new() };
        format!("/dead/confirm?{}", query(&[&[("verb", verb)], &*chosen, &all].concat()))
    };
    let context = context! {
        banner,
        letters => rows.collect::<Vec<_>>(),
        count => count,
        is_partial => found.of < found.total,
        of => thousands(found.of),
        next,
        first => after.map(|_| at(&[])),
        select => at(&[&*here, &[("selected", if is_page_chosen { "" } else { "page" })]].concat()),
        is_page_chosen,
        replay_all => sought("replay"),
        discard_all => sought("discard"),
        export => format!("/v1/dead-letters/export?{}", query(&for_program(&chosen))),
        chosen => fields.chosen(CONDITIONS),
        stages => choices(pipeline::topology::StageName::ALL.iter().map(|stage| stage.as_str())),
        reasons => choices(REASONS.iter().map(|reason| reason.as_str())),
    };
    page(&app, &visitor, Nav::Dead, "dead_list.html", "Dead letters", context)
}

/// The same conditions as the API has them.
fn for_program<'a>(chosen: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let truth = |value| if value == "yes" { "true" } else { "false" };
    chosen.iter().map(|&(name, value)| (name, if name == "replayed" { truth(value) } else { value })).collect()
}

/// The words of a list, to choose from.
fn choices<'a>(words: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let every = [(String::new(), "any".to_owned())];
    every.into_iter().chain(words.map(|word| (word.to_owned(), word.replace('_', " ")))).collect()
}

/// A group as a row.
fn group(group: &Group) -> Value {
    let Group { group: name, stage, reason, error, count, replayed, waiting, came_back, newest, oldest, example } =
        group;
    let open = [("group", name.as_str()), ("replayed", "no")];
    context! {
        stage => shown(stage.as_deref()),
        reason => reason.as_deref().map_or("nobody of ours wrote it", reason_in_words),
        error => shown(Some(error)),
        count => thousands(*count),
        is_one => *count == 1,
        replayed => thousands(*replayed),
        waiting => *waiting,
        came_back => *came_back,
        newest => newest.map(|at| at.to_rfc3339()),
        oldest => oldest.map(|at| at.to_rfc3339()),
        example => example.to_string(),
        letters => format!("/dead?{}", query(&[("group", name)])),
        replay => format!("/dead/confirm?{}", query(&[&[("verb", "replay")], &open[..]].concat())),
        discard => format!("/dead/confirm?{}", query(&[("verb", "discard"), ("group", name)])),
        advice => remedy::advice(reason.as_deref()),
        remedy => remedy::remedy(reason.as_deref()).as_str(),
        edit => match count {
            1 => format!("/dead/{}?edit=yes#edit", encoded(&example.to_string())),
            _ => format!("/dead?{}", query(&open)),
        },
    }
}

/// A text from anybody, in a row.
fn shown(text: Option<&str>) -> String {
    text.map_or_else(|| super::format::NOTHING.to_owned(), |text| cut(&inert(text.as_bytes(), false), ERROR_CHARS))
}

/// Every reason, to choose from.
const REASONS: [DeadReason; 11] = [
    DeadReason::NoBody,
    DeadReason::TooLarge,
    DeadReason::Undecodable,
    DeadReason::InvalidOrder,
    DeadReason::InvalidRefund,
    DeadReason::InvalidCallback,
    DeadReason::Conflict,
    DeadReason::UnknownOrder,
    DeadReason::Deleted,
    DeadReason::RefusedByDatabase,
    DeadReason::AttemptsExhausted,
];

/// Why it died, for somebody who does not know the words.
fn reason_in_words(reason: &str) -> &'static str {
    match reason.parse() {
        Ok(DeadReason::NoBody) => "it has no content",
        Ok(DeadReason::TooLarge) => "it is too large",
        Ok(DeadReason::Undecodable) => "it cannot be read",
        Ok(DeadReason::InvalidOrder) => "it is no valid order",
        Ok(DeadReason::InvalidRefund) => "it is no valid refund",
        Ok(DeadReason::InvalidCallback) => "it is no valid callback",
        Ok(DeadReason::Conflict) => "another one with this name came first",
        Ok(DeadReason::UnknownOrder) => "its order is not in Postgres",
        Ok(DeadReason::Deleted) => "it was deleted before it was read",
        Ok(DeadReason::RefusedByDatabase) => "Postgres refused it",
        Ok(DeadReason::AttemptsExhausted) => "workers died with it in hand",
        Err(_) => "for a reason that this version does not know",
    }
}
