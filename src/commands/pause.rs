//! `orderstream pause`, `orderstream resume` and `orderstream claim`.

use std::time::Duration;

use anyhow::Result;
use pipeline::{
    domain::ActionVia,
    store::{Store, WorkerSettings},
    streams::{self, Connection, Pause, Redis},
    topology::StageName,
};
use serde_json::json;

use super::shutdown_on_signal;
use crate::{
    actions::{self, Actor, ClaimWish, Note, Recorder},
    backends::Backends,
    cli::operate::{ClaimArgs, PauseArgs, ResumeArgs},
    config::Globals,
    exit::Exit,
    output::{self, inert, thousands},
};

/// How long Postgres may take to say how many partitions there are.
const PARTITIONS_MAX: Duration = Duration::from_secs(3);

/// The pauses of an installation. A stage is paused in all partitions alike.
pub(crate) struct Pauses {
    pub(crate) redis: Redis,
    pub(crate) connection: Connection,
    pub(crate) partitions: u16,
}

impl Pauses {
    /// Over connections of its own. While Postgres is away, what Redis has seen of the installation must do: Postgres
    /// may be what somebody pauses for.
    async fn open(backends: &Backends, store: &Store) -> Result<Self> {
        let (pauses, warning) = Self::open_quietly(backends, store).await?;
        if let Some(warning) = warning {
            crate::output::note!("warning: {warning}");
        }
        Ok(pauses)
    }

    /// The same, for those who tell warnings themselves.
    pub(crate) async fn open_quietly(backends: &Backends, store: &Store) -> Result<(Self, Option<String>)> {
        let mut warning = None;
        let redis = backends.redis()?;
        let mut connection = redis.connect().await?;
        let partitions = match tokio::time::timeout(PARTITIONS_MAX, store.partitions()).await {
            Ok(Ok(partitions)) => partitions,
            Ok(Err(error)) if !error.is_transient() && !error.is_unreachable() => return Err(error.into()),
            Ok(Err(_)) | Err(_) => {
                let seen = redis.partitions_seen(&mut connection).await?;
                warning = Some(format!("Postgres is away; Redis has streams of {seen} partition(s)"));
                seen
            }
        };
        Ok((Self { partitions, connection, redis }, warning))
    }

    /// What is paused.
    pub(crate) async fn list(&mut self) -> Result<Vec<Pause>, streams::Error> {
        let mut pauses = Vec::new();
        for stage in StageName::ALL {
            pauses.extend(self.redis.pause_of(&mut self.connection, 0, stage).await?);
        }
        Ok(pauses)
    }

    /// Pauses a stage, for a while or until it is resumed.
    pub(crate) async fn pause(
        &mut self,
        stage: StageName,
        length: Option<Duration>,
        why: &str,
    ) -> Result<(), streams::Error> {
        for partition in 0..self.partitions {
            self.redis.pause(&mut self.connection, partition, stage, length, why).await?;
        }
        Ok(())
    }

    /// Lets a stage go on; whether it was paused.
    pub(crate) async fn resume(&mut self, stage: StageName) -> Result<bool, streams::Error> {
        let mut was_paused = false;
        for partition in 0..self.partitions {
            was_paused |= self.redis.resume(&mut self.connection, partition, stage).await?;
        }
        Ok(was_paused)
    }
}

pub(super) async fn pause(backends: &Backends, args: &PauseArgs, globals: &Globals) -> Result<Exit> {
    let (recorder, mut pauses) = desk(backends).await?;
    let mut notes = Vec::new();
    for &stage in &args.stages {
        notes.push(actions::pause(&recorder, &mut pauses, stage, args.length, &args.why).await?);
    }
    warn(&notes);
    let list = pauses.list().await?;
    if globals.json {
        output::json(&json!({ "paused": list, "actions": notes }))?;
        return Ok(Exit::Done);
    }
    if list.is_empty() {
        output::text_line("Nothing is paused.")?;
    }
    for pause in list {
        output::text_line(&sentence(&pause))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn resume(backends: &Backends, args: &ResumeArgs, globals: &Globals) -> Result<Exit> {
    let (recorder, mut pauses) = desk(backends).await?;
    let stages = match args.stages.is_empty() {
        true => pauses.list().await?.iter().map(|pause| pause.stage).collect(),
        false => args.stages.clone(),
    };
    let (mut resumed, mut notes) = (Vec::new(), Vec::new());
    for stage in stages {
        let (was_paused, note) = actions::resume(&recorder, &mut pauses, stage, &args.why).await?;
        notes.push(note);
        if was_paused {
            resumed.push(stage);
        }
    }
    warn(&notes);
    if globals.json {
        output::json(&json!({ "resumed": resumed, "actions": notes }))?;
        return Ok(Exit::Done);
    }
    let names: Vec<&str> = resumed.iter().map(|stage| stage.as_str()).collect();
    output::text_line(&match names.is_empty() {
        true => "Nothing was paused.".to_owned(),
        false => format!("Resumed {}.", names.join(", ")),
    })?;
    Ok(Exit::Done)
}

pub(super) async fn claim(backends: &Backends, args: &ClaimArgs, globals: &Globals) -> Result<Exit> {
    let (recorder, mut pauses) = desk(backends).await?;
    let stop = shutdown_on_signal()?;
    let ClaimArgs { stage, consumer, idle, dry_run, why } = args.clone();
    let wish = ClaimWish { stage, consumer, idle, dry_run };
    let (claimed, note) = actions::claim(&recorder, &mut pauses, &wish, &why, &stop).await?;
    warn(note.as_slice());
    let exit = if claimed.interrupted { Exit::Interrupted } else { Exit::Done };
    if globals.json {
        let mut document = serde_json::to_value(&claimed)?;
        document["actions"] = json!(note.as_slice());
        output::json(&document)?;
        return Ok(exit);
    }
    for (consumer, released) in &claimed.consumers {
        let left = match released.left {
            0 => String::new(),
            left => format!(", {} deleted from the stream stay", thousands(left)),
        };
        output::text_line(&format!("{}  {}{left}", inert(consumer.as_bytes(), false), thousands(released.free)))?;
    }
    let free = thousands(claimed.claimed);
    output::text_line(&match (claimed.claimed, dry_run) {
        (0, _) => format!("No consumer of {stage} holds messages that were idle for {} s.", idle.as_secs()),
        (_, true) => format!("Messages that would be free for others: {free}."),
        (_, false) => format!("Messages that are free for others, at once: {free}."),
    })?;
    Ok(exit)
}

async fn desk(backends: &Backends) -> Result<(Recorder, Pauses)> {
    let store = backends.store(WorkerSettings::Report, 1)?;
    let pauses = Pauses::open(backends, &store).await?;
    Ok((Recorder::new(&store, Actor::of_this_process(ActionVia::Cli)), pauses))
}

fn warn(notes: &[Note]) {
    notes.iter().for_each(Note::warn);
}

/// A pause in words.
pub(super) fn sentence(pause: &Pause) -> String {
    let end = pause.seconds_left.map_or_else(String::new, |seconds| format!(", for {seconds} s more"));
    let why = if pause.why.is_empty() { String::new() } else { format!(": {}", pause.why.escape_debug()) };
    format!("{} is paused since {}{end}{why}", pause.stage, pause.since)
}
