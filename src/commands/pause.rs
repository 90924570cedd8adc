//! `orderstream pause` and `orderstream resume`.

use std::time::Duration;

use anyhow::Result;
use pipeline::{
    store::{Store, WorkerSettings},
    streams::{self, Connection, Pause, Redis},
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

/// The pauses of an installation. A stage is paused in all partitions alike.
pub(crate) struct Pauses {
    pub(crate) redis: Redis,
    pub(crate) connection: Connection,
    pub(crate) partitions: u16,
}

impl Pauses {
    async fn open(backends: &Backends) -> Result<Self> {
        let store: Store = backends.store(WorkerSettings::Report, 1)?;
        let redis = backends.redis()?;
        Ok(Self { partitions: store.partitions().await?, connection: redis.connect().await?, redis })
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
    let mut pauses = Pauses::open(backends).await?;
    for &stage in &args.stages {
        pauses.pause(stage, args.length, &args.why).await?;
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
        if pauses.resume(stage).await? {
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
