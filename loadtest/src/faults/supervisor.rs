//! `orderstream run`, started again whenever it ends, as a supervisor does in production.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::servers::guarded;
use crate::program::{Program, Urls, tell};

/// How long a supervisor waits before it starts a process again.
const RESTART_DELAY: Duration = Duration::from_millis(200);

/// How long a process may take to end in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(40);

/// What `run` logs when it takes over messages, and the field with their number.
const TOOK_OVER: (&str, &str) = ("took over messages", "messages=");

/// What was seen of all processes together.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Seen {
    /// Starts.
    pub(super) starts: u64,
    /// How processes ended that nobody here had ended, by exit code or signal.
    pub(super) ended_by_themselves: BTreeMap<String, u64>,
    /// Messages that they took over from silent consumers, as they logged it.
    pub(super) taken_over: u64,
    /// Lines of log by the second, from the start.
    #[serde(skip)]
    pub(super) lines: Vec<u32>,
}

struct Shared {
    seen: Seen,
    log: File,
    started: Instant,
    stopping: bool,
    /// The process of each slot, while one runs.
    processes: Vec<Option<u32>>,
    /// Processes whose end is our doing.
    ended_by_us: Vec<u32>,
}

/// Keeps several processes running.
pub(super) struct Supervisor {
    shared: Arc<Mutex<Shared>>,
    // Aborted when dropped, and the processes are killed with them.
    slots: JoinSet<()>,
}

/// What every process is started with.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) program: Program,
    pub(super) servers: Urls,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
}

impl Supervisor {
    /// Starts `count` processes; what they log goes to the file `log`.
    pub(super) fn start(recipe: &Recipe, count: usize, log: &Path) -> Result<Self> {
        let shared = Shared {
            seen: Seen::default(),
            log: File::options().create(true).append(true).open(log)?,
            started: Instant::now(),
            stopping: false,
            processes: vec![None; count],
            ended_by_us: Vec::new(),
        };
        let shared = Arc::new(Mutex::new(shared));
        let mut slots = JoinSet::new();
        for slot in 0..count {
            let (recipe, shared) = (recipe.clone(), Arc::clone(&shared));
            slots.spawn(async move {
                if let Err(error) = keep_running(&recipe, slot, &shared).await {
                    eprintln!("loadtest: orderstream run cannot be kept running: {error:#}");
                }
            });
        }
        Ok(Self { shared, slots })
    }

    /// The processes that run.
    pub(super) fn processes(&self) -> Vec<u32> {
        locked(&self.shared).processes.iter().flatten().copied().collect()
    }

    /// Sends a signal to one of the processes. A signal that ends it is remembered as ours.
    pub(super) fn signal(&self, process: u32, signal: Signal) -> Result<()> {
        if matches!(signal, Signal::SIGKILL | Signal::SIGTERM) {
            locked(&self.shared).ended_by_us.push(process);
        }
        Ok(kill(Pid::from_raw(i32::try_from(process)?), signal)?)
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        locked(&self.shared).seen.clone()
    }

    /// Stops all processes in good order.
    pub(super) async fn stop(mut self) -> Result<Seen> {
        locked(&self.shared).stopping = true;
        for process in self.processes() {
            self.signal(process, Signal::SIGTERM)?;
        }
        let all = async { while self.slots.join_next().await.is_some() {} };
        timeout(STOP_PATIENCE, all).await.context("orderstream run does not stop")?;
        Ok(self.seen())
    }
}

async fn keep_running(recipe: &Recipe, slot: usize, shared: &Arc<Mutex<Shared>>) -> Result<()> {
    while !locked(shared).stopping {
        let mut command = guarded(None, recipe.program.path());
        tell(command.arg("run").args(&recipe.args), &recipe.servers);
        command.envs(recipe.env.iter().cloned()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot run setpriv, which is part of util-linux")?;
        let process = child.id().context("a process that was just started has a number")?;
        {
            let mut shared = locked(shared);
            shared.processes[slot] = Some(process);
            shared.seen.starts += 1;
        }
        let (mut stdout, stderr) = (child.stdout.take().context("a pipe")?, child.stderr.take().context("a pipe")?);
        let mut lines = BufReader::new(stderr).lines();
        let mut printed = String::new();
        let log = async {
            while let Ok(Some(line)) = lines.next_line().await {
                locked(shared).note(process, &line);
            }
        };
        let (status, (), _) = tokio::join!(child.wait(), log, stdout.read_to_string(&mut printed));
        locked(shared).ended(slot, process, status?);
        sleep(RESTART_DELAY).await;
    }
    Ok(())
}

impl Shared {
    fn note(&mut self, process: u32, line: &str) {
        let second = usize::try_from(self.started.elapsed().as_secs()).unwrap_or(usize::MAX);
        if self.seen.lines.len() <= second {
            self.seen.lines.resize(second + 1, 0);
        }
        self.seen.lines[second] += 1;
        self.seen.taken_over += taken_over(line);
        // A log that cannot be written does not change what is proven here.
        writeln!(self.log, "[{process}] {line}").ok();
    }

    fn ended(&mut self, slot: usize, process: u32, status: ExitStatus) {
        self.processes[slot] = None;
        match self.ended_by_us.iter().position(|&ours| ours == process) {
            Some(at) => drop(self.ended_by_us.swap_remove(at)),
            None => *self.seen.ended_by_themselves.entry(status.to_string()).or_default() += 1,
        }
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many messages a line of log says were taken over.
fn taken_over(line: &str) -> u64 {
    let (what, field) = TOOK_OVER;
    let number = || line.split_once(field)?.1.split(' ').next()?.parse().ok();
    if line.contains(what) { number().unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_were_taken_over_are_read_from_the_log() {
        let line =
            "2026-11-22T23:00:00Z  INFO took over messages of a silent consumer stage=payment partition=0 messages=37";
        assert_eq!(taken_over(line), 37);
        assert_eq!(taken_over("INFO running stages=payment messages=3"), 0);
    }
}
