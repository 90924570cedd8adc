//! The stack's Postgres.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use nix::sys::signal::Signal;

use super::{
    folder::Folder,
    process::{self, find, run, run_as},
};

const PACKAGE: &str = "postgresql";
const USER: &str = "orderstream";
const DATABASE: &str = "orderstream";

/// Durable, and sized for a laptop: nothing here trades a promise for speed.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=256MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "wal_buffers=16MB",
    "max_connections=1000",
    "timezone=UTC",
];

/// How long the processes of a Postgres may take to notice that their first one is gone. What goes on after that, Postgres
/// itself refuses to start beside.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(10);

/// How to reach it.
pub(super) fn url(folder: &Folder) -> String {
    format!("postgres://{USER}@localhost/{DATABASE}?host={}", folder.sockets().display())
}

fn data(folder: &Folder) -> PathBuf {
    folder.path().join("postgres")
}

fn log(folder: &Folder) -> PathBuf {
    folder.path().join("postgres.log")
}

/// Whether it runs.
pub(super) fn is_running(folder: &Folder) -> bool {
    let data = data(folder);
    process::running(&data.join("postmaster.pid"), "postgres", &data).is_some()
}

/// Starts it, unless it runs.
pub(super) fn ensure_running(folder: &Folder) -> anyhow::Result<()> {
    let data = data(folder);
    if is_running(folder) {
        return Ok(());
    }
    // Where only the first process was killed, the others end as soon as they notice. A new one would refuse to start
    // while they share its memory.
    process::await_end_of_all("postgres", &data, ORPHANS_PATIENCE);
    let pg_ctl = find("pg_ctl", PACKAGE)?;
    if !data.join("PG_VERSION").exists() {
        create(folder, &data)?;
    }
    // Left behind by a crash. Postgres itself would refuse to start where another process has got the number, or where
    // its own has ended and stays in the table as a zombie.
    let socket_lock = folder.sockets().join(".s.PGSQL.5432.lock");
    for lock in [data.join("postmaster.pid"), socket_lock] {
        if process::running(&lock, "postgres", &data).is_some() {
            continue;
        }
        match fs::remove_file(lock) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let settings: Vec<String> = SETTINGS
        .iter()
        .map(|setting| format!("-c {setting}"))
        .chain([format!("-c fsync={}", if folder.sync() { "on" } else { "off" })])
        .chain([format!("-c unix_socket_directories='{}' -c unix_socket_permissions=0700", folder.sockets().display())])
        .collect();
    let started = run_as(folder.server_user(), &pg_ctl)
        .arg("start")
        .args(["--silent", "--wait", "--timeout=120", "--pgdata"])
        .arg(&data)
        .arg("--log")
        .arg(log(folder))
        .arg("--options")
        .arg(settings.join(" "))
        .stdin(std::process::Stdio::null())
        // The server inherits these: a pipe would keep whoever reads our output waiting for its end.
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()?;
    if !started.success() {
        return Err(anyhow!("Postgres did not start; its log ends with:\n{}", process::log_tail(&log(folder))));
    }
    Ok(())
}

/// A new cluster with one database. It comes into being under another name: a crash half-way leaves nothing that
/// looks complete.
fn create(folder: &Folder, data: &Path) -> anyhow::Result<()> {
    let unfinished = data.with_extension("new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    folder.create(&unfinished)?;
    run(run_as(folder.server_user(), find("initdb", PACKAGE)?)
        .args(["--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8"])
        .args((!folder.sync()).then_some("--no-sync"))
        .arg("--pgdata")
        .arg(&unfinished))
    .context("cannot create the Postgres cluster")?;
    let mut single = run_as(folder.server_user(), find("postgres", PACKAGE)?);
    single.args(["--single", "-D"]).arg(&unfinished).arg("postgres");
    let statement = unfinished.join("create.sql");
    fs::write(&statement, format!("CREATE DATABASE {DATABASE}\n"))?;
    run(single.stdin(fs::File::open(&statement)?)).context("cannot create the database")?;
    fs::remove_file(&statement)?;
    if data.exists() {
        fs::remove_dir(data)?;
    }
    fs::rename(&unfinished, data)?;
    Ok(())
}

/// Stops it, rolling back what is open.
pub(super) fn stop(folder: &Folder) -> anyhow::Result<()> {
    let data = data(folder);
    match process::running(&data.join("postmaster.pid"), "postgres", &data) {
        Some(pid) => process::stop(pid, Signal::SIGINT, Duration::from_secs(60)),
        None => Ok(()),
    }
}
