//! A Redis and a Postgres that can be killed and started again: real servers with durable settings, on Unix sockets in
//! a folder that is gone afterwards.

use std::{
    env,
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::control::Control;
use crate::{ledger::Ledger, program::Urls};

/// How long a server may take to answer: it may have to read a large log first.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// How often a starting server is asked.
const ANSWER_POLL: Duration = Duration::from_millis(10);

/// How long a server may take to stop in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// What Postgres is told beyond its defaults, which are durable. A stack for a laptop, as `orderstream dev` has it.
const POSTGRES_SETTINGS: &[&str] =
    &["listen_addresses=", "shared_buffers=256MB", "max_wal_size=4GB", "max_connections=200", "timezone=UTC"];

/// What Redis is told.
const REDIS_SETTINGS: &[&str] = &[
    "--port 0",
    "--appendonly yes",
    "--appendfsync everysec",
    "--maxmemory-policy noeviction",
    // Small, so that a start does not take long and rewrites are hit, too.
    "--auto-aof-rewrite-min-size 32mb",
    "--unixsocketperm 777",
];

/// Both servers, and the folder of everything that a run leaves behind until its end.
pub(super) struct Servers {
    redis: Option<Child>,
    postgres: Option<Child>,
    /// Postgres does not run as root.
    user: Option<User>,
    // Last: it is removed when nobody works in it any more.
    folder: TempDir,
}

impl Servers {
    /// Makes the folder and starts both.
    pub(super) async fn start() -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("loadtest-").permissions(Permissions::from_mode(0o755)).tempdir()?;
        let user = if Uid::effective().is_root() { Some(unprivileged_user()?) } else { None };
        let mut servers = Self { redis: None, postgres: None, user, folder };
        for name in ["run", "redis", "postgres"] {
            let path = servers.path(name);
            fs::create_dir(&path)?;
            if let Some(user) = &servers.user {
                chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
            fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        }
        servers.create_cluster().await?;
        servers.start_redis().await?;
        servers.start_postgres().await?;
        Ok(servers)
    }

    /// Where they are.
    pub(super) fn urls(&self) -> Urls {
        let sockets = self.path("run");
        Urls {
            database: format!("postgres://loadtest@localhost/postgres?host={}", sockets.display()),
            redis: format!("unix://{}", sockets.join("redis.sock").display()),
        }
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts Redis and waits until it answers.
    pub(super) async fn start_redis(&mut self) -> Result<()> {
        let mut command = self.guarded(&find("redis-server")?);
        command.arg("--dir").arg(self.path("redis")).arg("--unixsocket").arg(self.path("run").join("redis.sock"));
        command.args(REDIS_SETTINGS.iter().flat_map(|setting| setting.split(' '))).args(["--save", ""]);
        let log = self.path("redis.log");
        let mut child = spawn(&mut command, &log)?;
        let mut control = Control::new(&self.urls().redis);
        let deadline = Instant::now() + START_PATIENCE;
        while !control.answers().await {
            check_starting("Redis", &mut child, deadline, &log)?;
            sleep(ANSWER_POLL).await;
        }
        self.redis = Some(child);
        Ok(())
    }

    /// Starts Postgres and waits until it accepts connections.
    pub(super) async fn start_postgres(&mut self) -> Result<()> {
        let (data, sockets) = (self.path("postgres"), self.path("run"));
        // Its own processes are gone, but their numbers may belong to others by now, which would keep it from starting.
        for lock in [data.join("postmaster.pid"), sockets.join(".s.PGSQL.5432.lock")] {
            match fs::remove_file(&lock) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let mut command = self.guarded(&find("postgres")?);
        command.arg("-D").arg(&data).arg("-c").arg(format!("unix_socket_directories={}", sockets.display()));
        command.args(POSTGRES_SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        let log = self.path("postgres.log");
        let mut child = spawn(&mut command, &log)?;
        let url = self.urls().database;
        let deadline = Instant::now() + START_PATIENCE;
        while Ledger::connect(&url).await.is_err() {
            check_starting("Postgres", &mut child, deadline, &log)?;
            sleep(ANSWER_POLL).await;
        }
        self.postgres = Some(child);
        Ok(())
    }

    /// Ends Redis without warning.
    pub(super) async fn kill_redis(&mut self) -> Result<()> {
        if let Some(mut child) = self.redis.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Ends all processes of Postgres without warning, as if the machine had lost them.
    pub(super) async fn kill_postgres(&mut self) -> Result<()> {
        let Some(mut child) = self.postgres.take() else { return Ok(()) };
        let postmaster = pid(&child)?;
        // Stopped first, so that it can neither fork nor notice while its children are counted.
        kill(postmaster, Signal::SIGSTOP)?;
        let children = children_of(postmaster);
        child.kill().await?;
        for &process in &children {
            // One that has just ended by itself is as dead.
            kill(process, Signal::SIGKILL).ok();
        }
        while children.iter().any(|process| is_alive(*process)) {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Stops Postgres in good order; open transactions are rolled back.
    pub(super) async fn stop_postgres(&mut self) -> Result<()> {
        if let Some(mut child) = self.postgres.take() {
            kill(pid(&child)?, Signal::SIGINT)?;
            child.wait().await?;
        }
        Ok(())
    }

    /// Copies all logs to a folder.
    pub(super) fn keep_logs(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(self.folder.path())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log")
                && let Some(name) = path.file_name()
            {
                fs::copy(&path, folder.join(name))?;
            }
        }
        Ok(())
    }

    async fn create_cluster(&self) -> Result<()> {
        let output = self
            .guarded(&find("initdb")?)
            .args(["--username", "loadtest", "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "-D"])
            .arg(self.path("postgres"))
            .stdin(Stdio::null())
            .output()
            .await?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// A command that runs as the servers' user and dies with this process, however that ends. Ctrl-C does not reach it.
    fn guarded(&self, program: &Path) -> Command {
        let mut command = guarded(self.user.as_ref(), program);
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Postgres removes its shared memory when it is told to go; killed, it would leave a little behind.
        if let Some(child) = &mut self.postgres
            && let Ok(postmaster) = pid(child)
            && kill(postmaster, Signal::SIGQUIT).is_ok()
        {
            let deadline = Instant::now() + STOP_PATIENCE;
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for child in [&mut self.postgres, &mut self.redis].into_iter().flatten() {
            // It may have ended; there is nobody left to tell.
            child.start_kill().ok();
        }
    }
}

/// A command that dies with this process: the kernel sees to it. Its process group is its own.
pub(super) fn guarded(user: Option<&User>, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
        command.env("HOME", "/nonexistent");
    }
    command.arg("--").arg(program).process_group(0).kill_on_drop(true);
    command
}

fn spawn(command: &mut Command, log: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("cannot run setpriv, which is part of util-linux")
}

fn check_starting(name: &str, child: &mut Child, deadline: Instant, log: &Path) -> Result<()> {
    let ended = child.try_wait()?;
    if ended.is_some() || Instant::now() > deadline {
        bail!("{name} does not start{}", log_tail(log));
    }
    Ok(())
}

/// The end of a log, to be appended to a message.
pub(super) fn log_tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(LINES)..];
    if tail.is_empty() { String::new() } else { format!("; its log ends with\n{}", tail.join("\n")) }
}

fn pid(child: &Child) -> Result<Pid> {
    let pid = child.id().context("the process has ended")?;
    Ok(Pid::from_raw(i32::try_from(pid)?))
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// Whether a process runs; an ended one that nobody waits for stays in the table as a zombie.
fn is_alive(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The path of a server program: in PATH, or where distributions put Postgres, the newest version first.
fn find(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().parse().unwrap_or(0), entry.path().join("bin")))
        .collect();
    versions.sort();
    env::split_paths(&path)
        .chain(versions.into_iter().rev().map(|(_, folder)| folder))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("the program {program} is not installed: apt-get install redis-server postgresql"))
}

fn unprivileged_user() -> Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("Postgres does not run as root, and there is no user postgres or nobody to run it as")
}
