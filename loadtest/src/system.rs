//! The system under test: one that is running, or a private one for the time of a run.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::program::{Audit, Program, Urls};

/// Longest wait for a private system to be ready: it creates a database.
const READY_WAIT: Duration = Duration::from_secs(120);

/// Longest wait for it to stop: it drains, and Postgres writes a checkpoint.
const STOP_WAIT: Duration = Duration::from_secs(60);

/// Lines of its log that a failure shows.
const LOG_LINES: usize = 20;

/// Where the system is.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Postgres of a running system; without this and --redis-url, a private system is started for the run
    #[arg(long, env = "DATABASE_URL", requires = "redis_url", hide_env_values = true)]
    database_url: Option<String>,
    /// Redis of a running system
    #[arg(long, env = "REDIS_URL", requires = "database_url", hide_env_values = true)]
    redis_url: Option<String>,
    /// The program orderstream; by default the one next to this program
    #[arg(long, env = "ORDERSTREAM_BIN")]
    program: Option<PathBuf>,
    /// A process of the running system whose processor time counts as orderstream's; may be given more than once
    #[arg(long, value_name = "PID", requires = "database_url")]
    program_pid: Vec<u32>,
    /// Options for `orderstream dev` when a private system is started, as in `-- --batch 2000`
    #[arg(last = true, value_name = "DEV OPTIONS", conflicts_with = "database_url")]
    dev_options: Vec<String>,
}

/// A system under test.
pub(crate) struct System {
    program: Program,
    servers: Urls,
    program_pids: Vec<u32>,
    private: Option<Private>,
}

/// A system that lives for one run.
struct Private {
    child: Child,
    stdout: Option<Lines<BufReader<ChildStdout>>>,
    state: TempDir,
}

impl System {
    /// Takes the running system that `target` names, or sets a private one going; [`System::ready`] waits for it.
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let program = Program::find(target.program.as_deref())?;
        let urls = target.database_url.clone().zip(target.redis_url.clone());
        let private = if urls.is_none() { Some(Private::start(program.path(), &target.dev_options)?) } else { None };
        let program_pids = match &private {
            Some(private) => private.child.id().into_iter().collect(),
            None => target.program_pid.clone(),
        };
        let (database, redis) = urls.unwrap_or_default();
        Ok(Self { program, servers: Urls { database, redis }, program_pids, private })
    }

    /// Waits until a private system takes orders.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let Some(private) = &mut self.private else { return Ok(()) };
        let urls = timeout(READY_WAIT, private.read_urls()).await;
        let urls = urls.unwrap_or_else(|_| bail!("not ready after {} s", READY_WAIT.as_secs()));
        let urls =
            urls.with_context(|| format!("{} dev did not start{}", self.program.path().display(), private.log_tail()))?;
        self.servers = Urls { database: urls.0, redis: urls.1 };
        Ok(())
    }

    /// Whether it was started for this run.
    pub(crate) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Where its Postgres is.
    pub(crate) fn database_url(&self) -> &str {
        &self.servers.database
    }

    /// Where its Redis is.
    pub(crate) fn redis_url(&self) -> &str {
        &self.servers.redis
    }

    /// Its processes, as far as known.
    pub(crate) fn program_pids(&self) -> Vec<u32> {
        self.program_pids.clone()
    }

    /// Returns when a private system has ended by itself, and never for one that runs elsewhere.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        let Some(private) = &mut self.private else { return std::future::pending().await };
        match private.child.wait().await {
            Ok(status) => anyhow::anyhow!("the system ended during the run, {status}{}", private.log_tail()),
            Err(error) => error.into(),
        }
    }

    /// Fills the catalogue.
    pub(crate) async fn seed(&self, products: u64, customers: u64, stock: u64) -> Result<()> {
        self.program.seed(&self.servers, products, customers, stock).await
    }

    /// Proves the books, or `None` where the program is not at hand.
    pub(crate) async fn audit(&self) -> Result<Option<Audit>> {
        match self.program.exists() {
            true => Ok(Some(self.program.audit(&self.servers).await?)),
            false => Ok(None),
        }
    }

    /// Stops a private system and removes its state.
    pub(crate) async fn stop(self) -> Result<()> {
        match self.private {
            Some(private) => private.stop().await,
            None => Ok(()),
        }
    }
}

impl Private {
    fn start(program: &Path, options: &[String]) -> Result<Self> {
        if !program.exists() {
            bail!(
                "{} does not exist: build it with `cargo build --release -p orderstream`, name it with --program, \
                 or set DATABASE_URL and REDIS_URL to measure a running system",
                program.display()
            );
        }
        // Others may pass through it: run as root, the servers are run by another user.
        let state =
            tempfile::Builder::new().prefix("loadtest-").permissions(Permissions::from_mode(0o755)).tempdir()?;
        let mut child = Command::new(program)
            .args(["dev", "--state-dir"])
            .arg(state.path().join("state"))
            .args(options)
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log_path(state.path()))?)
            // Its own group: Ctrl-C reaches this program alone, which then stops the system in an orderly way.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let stdout = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(Self { child, stdout, state })
    }

    /// Reads what `dev` prints until it is ready.
    async fn read_urls(&mut self) -> Result<(String, String)> {
        // It stays ours while we wait: should the wait be broken off, the program must not print into a closed pipe.
        let lines = self.stdout.as_mut().context("its output was read already")?;
        let (mut database_url, mut redis_url) = (None, None);
        while let Some(line) = lines.next_line().await? {
            match line.split_once('=') {
                Some(("DATABASE_URL", url)) => database_url = Some(url.to_owned()),
                Some(("REDIS_URL", url)) => redis_url = Some(url.to_owned()),
                _ if line == "ready" => {
                    // Whatever else it prints must not fill the pipe.
                    if let Some(mut rest) = self.stdout.take() {
                        tokio::spawn(async move { while let Ok(Some(_)) = rest.next_line().await {} });
                    }
                    return database_url.zip(redis_url).context("it was ready without naming its addresses");
                }
                _ => {}
            }
        }
        bail!("it ended before it was ready")
    }

    async fn stop(mut self) -> Result<()> {
        match self.terminate().await {
            Ok(Ok(status)) if status.success() => Ok(self.state.close()?),
            Ok(Ok(status)) => {
                let tail = self.log_tail();
                self.state.close()?;
                bail!("the system did not stop cleanly, {status}{tail}")
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.child.start_kill()?;
                let state = self.state.keep();
                bail!("the system did not stop in {} s; see {}", STOP_WAIT.as_secs(), state.display())
            }
        }
    }

    async fn terminate(&mut self) -> Result<std::io::Result<ExitStatus>, tokio::time::error::Elapsed> {
        // No id: it has ended already. A failed signal shows as a system that does not stop.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok())
            && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM)
        {
            eprintln!("cannot signal process {pid}: {error}");
        }
        timeout(STOP_WAIT, self.child.wait()).await
    }

    /// The end of what it logged, to be appended to a message.
    fn log_tail(&self) -> String {
        let log = fs::read_to_string(log_path(self.state.path())).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        if tail.is_empty() { String::new() } else { format!("; its log ends with\n{}", tail.join("\n")) }
    }
}

fn log_path(state: &Path) -> PathBuf {
    state.join("loadtest.log")
}
