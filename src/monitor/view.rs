//! From looks to what people see: one view a stage, over all its partitions.

use pipeline::{
    message::EntryId,
    store::Currencies,
    streams::{GroupState, ProcessReport, StreamState},
    topology::StageName,
};

use super::{
    LIVE_SECONDS,
    sample::{Sample, instant},
    snapshot::{DeadLetters, ProcessView, StageState, StageView, Today, Trend},
    window::Window,
};

/// Who waits longer than so many seconds is behind. Below that, batches come and go.
pub(super) const BEHIND_SECONDS: f64 = 5.0;

/// Of what processes say, no more is shown: others may write there.
const REFUSAL_CHARS_MAX: usize = 200;

/// The lag of the stage's own group; `None` when Redis cannot tell. Without a group everything in the stream waits.
pub(super) fn own_lag(stream: &StreamState, stage: StageName) -> Option<u64> {
    own_group(stream, stage).map_or(Some(stream.length), |group| group.lag)
}

pub(super) fn own_group(stream: &StreamState, stage: StageName) -> Option<&GroupState> {
    stream.groups.iter().find(|group| group.name == stage.as_str())
}

/// Every stage.
pub(super) fn stages(sample: &Sample, window: &Window, processes: &[ProcessView]) -> Vec<StageView> {
    let views = sample.streams.iter().enumerate();
    views.map(|(index, (stage, streams))| view(index, *stage, streams, sample, window, processes)).collect()
}

fn view(
    index: usize,
    stage: StageName,
    streams: &[StreamState],
    sample: &Sample,
    window: &Window,
    processes: &[ProcessView],
) -> StageView {
    let groups = || streams.iter().filter_map(|stream| own_group(stream, stage));
    let lags = streams.iter().map(|stream| own_lag(stream, stage));
    let lag: Option<u64> = lags.into_iter().try_fold(0, |sum, lag| lag.map(|lag| sum + lag));
    let unknown = groups().find_map(|group| group.lag_unknown);
    // Where an id is of the future, the looks tell for how long its entry has been there at least.
    let seen = |stream: &StreamState, id: Option<EntryId>| id.map(|id| window.age(stream, id, sample.at_ms));
    let unread = streams.iter().filter_map(|stream| match own_group(stream, stage) {
        Some(group) => group.unread_age_ms.or_else(|| seen(stream, group.oldest_unread)),
        // Nobody has ever read it.
        None => stream.first_id.map(|id| {
            let seen = window.age(stream, id, sample.at_ms);
            sample.at_ms.saturating_sub(id.ms).max(seen)
        }),
    });
    let lag_seconds = unread.max().map_or(0.0, seconds);
    let held = streams.iter().filter_map(|stream| {
        let group = own_group(stream, stage)?;
        group.pending_age_ms.or_else(|| seen(stream, group.oldest_pending))
    });
    let oldest_pending_seconds = held.max().map_or(0.0, seconds);
    let books = || groups().filter_map(|group| group.books);
    let trend = window.trend(index);
    let rates = window.rates(index);
    let workers = processes.iter().filter(|process| process.is_live() && process.runs(stage)).count() as u64;
    let mut view = StageView {
        stage,
        stream: stage.stream(),
        length: streams.iter().map(|stream| stream.length).sum(),
        entries_added: streams.iter().map(|stream| stream.entries_added).sum(),
        lag,
        lag_unknown: unknown.map(|reason| reason.to_string()),
        lag_seconds,
        age_unknown: groups().find_map(|group| group.age_unknown).map(|why| why.to_string()),
        clears_in_seconds: clears_in(lag, trend),
        trend,
        missing: books().try_fold(0, |sum, books| Some(sum + books.missing?)),
        lost: books().map(|books| books.lost).sum(),
        redriven: books().map(|books| books.redriven).sum(),
        pending: groups().map(|group| group.pending).sum(),
        oldest_pending_seconds,
        oldest_seconds: lag_seconds.max(oldest_pending_seconds),
        rate_in: rates.rate_in,
        rate_out: rates.rate_out,
        retries_per_minute: rates.retries_per_minute,
        dead_per_minute: rates.dead_per_minute,
        consumers: groups().map(|group| group.consumers.len() as u64).sum(),
        workers,
        paused: sample.pauses.iter().find(|pause| pause.stage == stage).cloned(),
        state: StageState::Idle,
        spark: window.spark(index),
        partitions: streams.to_vec(),
    };
    view.state = state_of(&view);
    view
}

fn state_of(view: &StageView) -> StageState {
    let waits = view.lag != Some(0) || view.pending > 0;
    match view {
        view if view.paused.is_some() => StageState::Paused,
        view if waits && view.workers == 0 => StageState::NoWorker,
        view if view.lag.is_none() => StageState::Unknown,
        view if view.oldest_seconds >= BEHIND_SECONDS => StageState::Behind,
        view if waits || view.rate_out > 0.0 || view.rate_in > 0.0 => StageState::KeepingUp,
        _ => StageState::Idle,
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
fn clears_in(lag: Option<u64>, trend: Trend) -> Option<f64> {
    match (lag, trend) {
        (Some(lag), Trend::Shrinking { per_second }) if per_second > 0.0 => Some(lag as f64 / per_second),
        _ => None,
    }
}

/// Every process that has reported, the longest-running first.
pub(super) fn processes(sample: &Sample, window: &Window) -> Vec<ProcessView> {
    let mut views: Vec<ProcessView> = sample
        .processes
        .iter()
        .map(|report| ProcessView {
            id: report.id.clone(),
            host: report.host.clone(),
            pid: report.pid,
            version: report.version.clone(),
            started_at: instant(report.started_ms),
            http: report.http.clone(),
            roles: report.stages.keys().chain(&report.roles).cloned().collect(),
            silent_seconds: seconds(sample.at_ms.saturating_sub(heard_ms(report.at_ms, sample.refused_ms))),
            draining: report.draining,
            rate: window.process_rate(&report.id),
            messages: report.stages.values().map(|stage| stage.messages).sum(),
        })
        .collect();
    views.sort_by(|one, other| (one.started_at, &one.id).cmp(&(other.started_at, &other.id)));
    views
}

/// When a process was heard of last. While Redis takes no writes nobody can say anything: who was there when that began
/// counts as being there until it ends.
fn heard_ms(reported_ms: u64, refused_ms: Option<(u64, u64)>) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some seconds")]
    const LIVE_MS: u64 = (LIVE_SECONDS * 1_000.0) as u64;
    match refused_ms {
        Some((since, until)) if reported_ms + LIVE_MS > since => reported_ms.max(until),
        _ => reported_ms,
    }
}

/// Why Postgres refuses what a living process asks of it, as that one says.
pub(super) fn refused(
    sample: &Sample,
    processes: &[ProcessView],
    why: impl Fn(&ProcessReport) -> Option<&String>,
) -> Option<String> {
    let live = |id: &str| processes.iter().any(|process| process.id == id && process.is_live());
    let mut told = sample.processes.iter().filter(|report| live(&report.id));
    told.find_map(why).map(|why| why.chars().take(REFUSAL_CHARS_MAX).collect())
}

impl ProcessView {
    /// Whether it runs a stage.
    pub fn runs(&self, stage: StageName) -> bool {
        self.roles.iter().any(|role| role == stage.as_str())
    }
}

/// Dead letters, over all partitions.
pub(super) fn dead_letters(sample: &Sample) -> DeadLetters {
    let age = |ms: u64| seconds(sample.at_ms.saturating_sub(ms));
    let count: u64 = sample.dead.iter().map(|stream| stream.length).sum();
    let reasons = &sample.reasons;
    // Since they were read, some came and some were replayed: a mark each. Who discards takes the mark along.
    let came = i128::from(count) - i128::from(reasons.letters);
    let replayed = i128::from(sample.replayed) - i128::from(reasons.marks);
    let undecided = (i128::from(reasons.undecided) + came - replayed).clamp(0, i128::from(count));
    let undecided = u64::try_from(undecided).unwrap_or_default();
    let is_whole = reasons.looked_at >= count;
    let first = || sample.dead.iter().filter_map(|stream| stream.first_id).map(|id| id.ms).min();
    let oldest = if is_whole { reasons.oldest_ms } else { first() };
    DeadLetters {
        count,
        undecided,
        reasons: reasons.reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
        looked_at: reasons.looked_at,
        newest_seconds: reasons.newest_ms.filter(|_| undecided > 0).map(age),
        oldest_seconds: oldest.filter(|_| undecided > 0).map(age),
    }
}

/// The day's figures.
pub(super) fn today(sample: &Sample, currencies: Currencies) -> Today {
    Today {
        day: sample.day,
        completed: sample.figures.completed,
        failed: sample.figures.failed,
        failed_by: sample.figures.failed_by.iter().map(|(reason, orders)| (reason.to_string(), *orders)).collect(),
        revenue_cents: sample.figures.revenue_cents,
        refunded_cents: sample.figures.refunded_cents,
        paid_back_cents: sample.figures.paid_back_cents,
        currencies,
    }
}

#[expect(clippy::cast_precision_loss, reason = "an age for people")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

const _: () = assert!(LIVE_SECONDS > 2.0, "a process reports once a second");
