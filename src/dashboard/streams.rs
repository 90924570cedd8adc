//! Streams: how each stands, how it was, who reads it; and pausing its stage.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use chrono::{DateTime, SecondsFormat};
use minijinja::{Value, context, value::Serde};
use pipeline::{domain::ActionVia, message::EntryId, streams::StreamState, topology::StageName};
use serde::{Deserialize, Serialize};

use super::{
    banner::{banner, told_of},
    fields::Fields,
    format::{NOTHING, utc},
    login::{read_form, see_other},
    look::look_again,
    overview::described,
    page::{Nav, page},
    visitor::{Acting, Visitor},
};
use crate::{
    actions::{self, ClaimWish, Recorder, WHY_CHARS_MAX},
    commands::{
        pause::Pauses,
        pending::{HeldMessage, PendingWish, held},
    },
    http::{
        App,
        dead_letter_actions::in_time,
        problem::{Code, Problem},
        query::{Params, word},
    },
    monitor::{self, History, ProcessView, Range, Series},
    output::thousands,
};

/// Rows of a table of a chart.
const ROWS_MAX: usize = 60;

/// Most bytes of a form.
const FORM_BYTES_MAX: u64 = 8_192;

/// Longest time for which messages are to have been untouched, in seconds.
const IDLE_SECONDS_MAX: u64 = 86_400;

/// Pending messages on a page.
const PENDING_MAX: usize = 25;

/// How long Redis has for what a page can be without.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest pause, in minutes: a month.
const MINUTES_MAX: u64 = 44_640;

/// All of them.
pub(super) async fn list(State(app): State<App>, visitor: Visitor) -> Result<Response, Problem> {
    let memories = asked(&app, async {
        let mut memories = Vec::new();
        for stage in StageName::ALL {
            memories.push(memory(&app, stage).await?);
        }
        Some(memories)
    });
    let memories = memories.await.unwrap_or_default();
    let row = |(index, stage)| context! { memory => memories.get(index).copied(), ..described(stage) };
    let rows: Vec<Value> = StageName::ALL.into_iter().enumerate().map(row).collect();
    page(&app, &visitor, Nav::Streams, "streams.html", "Streams", context! { rows })
}

/// What Redis says, if it says it soon: a page must not hang on what it can be without.
async fn asked<T>(app: &App, question: impl Future<Output = Option<T>>) -> Option<T> {
    if app.dashboard.looks.newest().live.stale {
        return None;
    }
    tokio::time::timeout(PATIENCE, question).await.ok().flatten()
}

/// The memory of a stage's streams, if Redis answers.
async fn memory(app: &App, stage: StageName) -> Option<u64> {
    let mut connection = app.connection().await.ok()?;
    let mut sum = 0;
    for partition in 0..app.partitions {
        let memory = app.redis.stream_memory(&mut connection, partition, stage).await;
        sum += app.answered(memory).await.ok()?;
    }
    Some(sum)
}

/// One of them.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    Path(stage): Path<String>,
    Params(fields): Params<Fields>,
) -> Result<Response, Problem> {
    let stage = stage_of(&stage)?;
    let range: Range = word("range", fields.raw("range"))?.unwrap_or_default();
    let look = app.dashboard.looks.newest();
    let view = look.snapshot.stage(stage);
    let streams = view.map_or(&[][..], |view| &view.partitions);
    let memory = asked(&app, memory(&app, stage)).await;
    let processes = &look.snapshot.processes;
    let consumers: Vec<Member<'_>> = streams
        .iter()
        .flat_map(|stream| &stream.groups)
        .filter(|group| group.name == stage.as_str())
        .flat_map(|group| &group.consumers)
        .map(|consumer| Member::of(&consumer.name, consumer.pending, consumer.idle_ms, processes))
        .collect();
    // While Redis is away there is a page without charts.
    let history = asked(&app, async { app.monitor.history(range).await.ok() }).await;
    let series = history.as_ref().and_then(|history| Some((history, history.stages.get(&stage)?)));
    let after: Option<EntryId> = word("after", fields.raw("after"))?;
    let held = asked(&app, pending(&app, stage, after.unwrap_or_default())).await.unwrap_or_default();
    let context = context! {
        pending_next => held.next.map(|next| format!("/streams/{stage}?after={next}#pending")),
        pending_after => after.is_some(),
        pending => Serde(held.messages),
        stage => described(stage),
        paused => view.is_some_and(|view| view.paused.is_some()),
        flash => banner(&app, &fields).await,
        range => range.as_str(),
        ranges => Range::ALL.map(Range::as_str).to_vec(),
        history => series.map(|(history, series)| told(history, series)),
        streams => streams.iter().map(|stream| of_stream(stream, memory)).collect::<Vec<_>>(),
        consumers => Serde(consumers),
    };
    page(&app, &visitor, Nav::Streams, "stream.html", described_title(stage), context)
}

fn described_title(stage: StageName) -> &'static str {
    match stage {
        StageName::Reservation => "Reservation",
        StageName::Payment => "Payment",
        StageName::Settlement => "Settlement",
        StageName::Refund => "Refund",
        StageName::Callback => "Callback",
    }
}

/// Messages in somebody's hands.
#[derive(Default)]
struct Page {
    messages: Vec<HeldMessage>,
    next: Option<EntryId>,
}

/// The oldest of them, of every partition; only the first partition can be paged through.
async fn pending(app: &App, stage: StageName, after: EntryId) -> Option<Page> {
    let mut connection = app.connection().await.ok()?;
    let mut page = Page::default();
    for partition in 0..app.partitions {
        let wish = PendingWish { stage, partition, consumer: None, after, limit: PENDING_MAX, bodies: true };
        let held = app.answered(held(&app.redis, &mut connection, &wish).await).await.ok()?;
        page.next = page.next.max(held.next);
        page.messages.extend(held.pending);
    }
    Some(page)
}

/// A consumer, with what its process says of itself.
#[derive(Serialize)]
struct Member<'a> {
    name: &'a str,
    pending: u64,
    idle_ms: u64,
    host: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> Member<'a> {
    fn of(name: &'a str, pending: u64, idle_ms: u64, processes: &'a [ProcessView]) -> Self {
        // A consumer is named after its process: host, number, start, worker.
        let process = processes.iter().find(|process| name.starts_with(&format!("{}:{}:", process.host, process.pid)));
        let host = process.map(|process| process.host.as_str());
        Self { name, pending, idle_ms, host, version: process.map(|process| process.version.as_str()) }
    }
}

fn of_stream(stream: &StreamState, memory: Option<u64>) -> Value {
    let instant = |id: EntryId| {
        let at = i64::try_from(id.ms).ok().and_then(DateTime::from_timestamp_millis);
        at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    context! {
        key => stream.key.clone(),
        length => stream.length,
        entries_added => stream.entries_added,
        memory,
        first_id => stream.first_id.map(|id| id.to_string()),
        first_at => stream.first_id.and_then(instant),
        last_id => stream.last_id.map(|id| id.to_string()),
        last_at => stream.last_id.and_then(instant),
        groups => Serde(&stream.groups),
    }
}

/// A chart in words and as a table.
fn told(history: &History, series: &Series) -> Value {
    let most = series.lag.iter().flatten().max();
    let longest = series.lag_seconds.iter().flatten().copied().fold(0.0, f64::max);
    let done = series.rate_out.iter().flatten().copied().fold(0.0, f64::max);
    let unknown =
        series.lag.iter().zip(&series.lag_seconds).filter(|(lag, seconds)| lag.is_none() && seconds.is_some());
    let words = match most {
        None => format!("In the last {} nobody looked, or the lag was unknown.", history.range),
        Some(most) => format!(
            "In the last {}: at most {} messages waited, the oldest for {}; at most {} a second were done.{}",
            history.range,
            thousands(*most),
            monitor::span(longest),
            monitor::rate(done),
            match unknown.count() {
                0 => String::new(),
                points =>
                    format!(" The lag was unknown for {}.", monitor::span(points as f64 * history.step_seconds as f64)),
            }
        ),
    };
    let every = history.at.len().div_ceil(ROWS_MAX).max(1);
    let cell = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
    let rows: Vec<Value> = (0..history.at.len())
        .rev()
        .step_by(every)
        .map(|index| {
            let at = i64::try_from(history.at[index]).ok().and_then(|at| DateTime::from_timestamp(at, 0));
            let number = |column: &[Option<u64>]| cell(column.get(index).copied().flatten().map(thousands));
            let rate = |column: &[Option<f64>]| cell(column.get(index).copied().flatten().map(monitor::rate));
            let known = series.lag_seconds.get(index).is_some_and(Option::is_some);
            let lag = series.lag.get(index).copied().flatten().map(thousands);
            context! {
                at => cell(at.map(utc)),
                lag => lag.unwrap_or_else(|| if known { "unknown".to_owned() } else { NOTHING.to_owned() }),
                behind => cell(series.lag_seconds.get(index).copied().flatten().map(monitor::span)),
                pending => number(&series.pending),
                in => rate(&series.rate_in),
                out => rate(&series.rate_out),
            }
        })
        .collect();
    context! { words, rows }
}

/// What the forms send.
#[derive(Debug, Deserialize)]
struct Wish {
    why: String,
    #[serde(default)]
    minutes: String,
    #[serde(default)]
    consumer: String,
    #[serde(default)]
    idle: String,
}

/// Pauses the stage, for a while or until it is resumed.
pub(super) async fn pause(
    State(app): State<App>,
    Acting(visitor): Acting,
    Path(stage): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let stage = stage_of(&stage)?;
    let wish = wish(&headers, body).await?;
    let length = match wish.minutes.as_str() {
        "" => None,
        minutes => {
            let minutes = minutes.parse::<u64>().ok().filter(|minutes| (1..=MINUTES_MAX).contains(minutes));
            let minutes = minutes.ok_or_else(|| Problem::new(Code::Invalid, "minutes: a number of minutes"))?;
            Some(Duration::from_secs(minutes * 60))
        }
    };
    let mut pauses = pauses(&app).await?;
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let note = app.answered(actions::pause(&recorder, &mut pauses, stage, length, &wish.why).await).await?;
    look_again(&app).await;
    Ok(see_other(&format!("/streams/{stage}?{}", told_of(&note, 1))))
}

/// Lets the stage go on.
pub(super) async fn resume(
    State(app): State<App>,
    Acting(visitor): Acting,
    Path(stage): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let stage = stage_of(&stage)?;
    let wish = wish(&headers, body).await?;
    let mut pauses = pauses(&app).await?;
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let (was_paused, note) = app.answered(actions::resume(&recorder, &mut pauses, stage, &wish.why).await).await?;
    look_again(&app).await;
    Ok(see_other(&format!("/streams/{stage}?{}", told_of(&note, u64::from(was_paused)))))
}

/// Makes messages free that a silent consumer holds.
pub(super) async fn claim(
    State(app): State<App>,
    Acting(visitor): Acting,
    Path(stage): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let stage = stage_of(&stage)?;
    let Wish { why, consumer, idle, .. } = wish(&headers, body).await?;
    let idle = idle.parse::<u64>().ok().filter(|idle| (1..=IDLE_SECONDS_MAX).contains(idle));
    let idle = idle.ok_or_else(|| Problem::new(Code::Invalid, "idle: a number of seconds"))?;
    let wish = ClaimWish {
        stage,
        consumer: Some(consumer).filter(|consumer| !consumer.is_empty()),
        idle: Duration::from_secs(idle),
        dry_run: false,
    };
    let mut pauses = pauses(&app).await?;
    let recorder = Recorder::new(&app.store, visitor.caller.actor(ActionVia::Dashboard));
    let work = in_time(async |stop| Ok(actions::claim(&recorder, &mut pauses, &wish, &why, &stop).await?)).await;
    let (claimed, note) = app.answered(work).await?;
    look_again(&app).await;
    let told = note.map(|note| told_of(&note, claimed.claimed)).unwrap_or_default();
    Ok(see_other(&format!("/streams/{stage}?{told}")))
}

async fn wish(headers: &HeaderMap, body: Body) -> Result<Wish, Problem> {
    let wish: Wish = read_form(headers, body, FORM_BYTES_MAX).await?;
    match wish.why.chars().count() {
        1..=WHY_CHARS_MAX => Ok(wish),
        _ => Err(Problem::new(Code::Invalid, format!("why: from 1 to {WHY_CHARS_MAX} characters"))),
    }
}

async fn pauses(app: &App) -> Result<Pauses, Problem> {
    Ok(Pauses { redis: app.redis.clone(), connection: app.connection().await?, partitions: app.partitions })
}

fn stage_of(name: &str) -> Result<StageName, Problem> {
    name.parse().map_err(|error: String| Problem::new(Code::NotFound, error))
}
