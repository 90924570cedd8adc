//! `orderstream pause` and `orderstream resume`.

use anyhow::Result;
use pipeline::{
    store::{Store, WorkerSettings},
    streams::{Connection, Pause, Redis},
    topology::StageName,
};
use serde_json::json;

use crate::{
    backends::Backends,
    cli::operate::{PauseArgs, ResumeArgs},
    config::Globals,
    exit::Exit,
    output,
};

/// The pauses of an installation.
pub(super) struct Pauses {
    redis: Redis,
    connection: Connection,
    partitions: u16,
}

impl Pauses {
    async fn open(backends: &Backends) -> Result<Self> {
        let store: Store = backends.store(WorkerSettings::Report, 1)?;
        let redis = backends.redis()?;
        Ok(Self { partitions: store.partitions().await?, connection: redis.connect().await?, redis })
    }

    /// What is paused. A stage is paused in all partitions alike.
    async fn list(&mut self) -> Result<Vec<Pause>> {
        let mut pauses = Vec::new();
        for stage in StageName::ALL {
            pauses.extend(self.redis.pause_of(&mut self.connection, 0, stage).await?);
        }
        Ok(pauses)
    }
}

pub(super) async fn pause(backends: &Backends, args: &PauseArgs, globals: &Globals) -> Result<Exit> {
    let mut pauses = Pauses::open(backends).await?;
    for &stage in &args.stages {
        for partition in 0..pauses.partitions {
            pauses.redis.pause(&mut pauses.connection, partition, stage, args.length, &args.why).await?;
        }
    }
    let list = pauses.list().await?;
    if globals.json {
        output::json(&json!({ "paused": list }))?;
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
    let mut pauses = Pauses::open(backends).await?;
    let stages = if args.stages.is_empty() { &StageName::ALL[..] } else { &args.stages };
    let mut resumed = Vec::new();
    for &stage in stages {
        let mut was_paused = false;
        for partition in 0..pauses.partitions {
            was_paused |= pauses.redis.resume(&mut pauses.connection, partition, stage).await?;
        }
        if was_paused {
            resumed.push(stage);
        }
    }
    if globals.json {
        output::json(&json!({ "resumed": resumed }))?;
        return Ok(Exit::Done);
    }
    let names: Vec<&str> = resumed.iter().map(|stage| stage.as_str()).collect();
    output::text_line(&match names.is_empty() {
        true => "Nothing was paused.".to_owned(),
        false => format!("Resumed {}.", names.join(", ")),
    })?;
    Ok(Exit::Done)
}

/// A pause in words.
pub(super) fn sentence(pause: &Pause) -> String {
    let end = pause.seconds_left.map_or_else(String::new, |seconds| format!(", for {seconds} s more"));
    let why = if pause.why.is_empty() { String::new() } else { format!(": {}", pause.why.escape_debug()) };
    format!("{} is paused since {}{end}{why}", pause.stage, pause.since)
}
