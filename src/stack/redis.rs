//! The stack's Redis.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use nix::sys::signal::Signal;

use super::{
    folder::Folder,
    process::{self, find, run, run_as},
};
use crate::signals;

/// Loading a large append-only file takes its time.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// After so long it has written its pid file, or ended.
const FIRST_STEPS: Duration = Duration::from_secs(5);

fn data(folder: &Folder) -> PathBuf {
    folder.path().join("redis")
}

fn socket(folder: &Folder) -> PathBuf {
    folder.sockets().join("redis.sock")
}

fn pid_file(folder: &Folder) -> PathBuf {
    data(folder).join("redis.pid")
}

/// How to reach it.
pub(super) fn url(folder: &Folder) -> String {
    format!("unix://{}", socket(folder).display())
}

/// Whether it runs.
pub(super) fn is_running(folder: &Folder) -> bool {
    process::running(&pid_file(folder), "redis", &data(folder)).is_some()
}

/// Starts it, unless it runs.
pub(super) fn ensure_running(folder: &Folder) -> anyhow::Result<()> {
    if is_running(folder) {
        return await_answer(folder);
    }
    let program = find("redis-server", "redis-server")?;
    let data = data(folder);
    folder.create(&data)?;
    // Left behind by a crash, perhaps under another user; Redis goes on without a file that it cannot write.
    match fs::remove_file(pid_file(folder)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let config = data.join("redis.conf");
    let log = data.join("redis.log");
    // Durable: an append-only file, and no eviction that could delete a stream.
    fs::write(
        &config,
        format!(
            "port 0\nunixsocket \"{socket}\"\nunixsocketperm 700\ndir \"{data}\"\ndaemonize yes\npidfile \"{pid}\"\n\
             logfile \"{log}\"\nappendonly yes\nappendfsync {fsync}\nsave \"\"\nmaxmemory-policy noeviction\n\
             auto-aof-rewrite-min-size 256mb\n",
            socket = socket(folder).display(),
            data = data.display(),
            pid = pid_file(folder).display(),
            log = log.display(),
            fsync = if folder.sync() { "everysec" } else { "no" },
        ),
    )?;
    // Whatever it makes of the file: never on a port.
    run(run_as(folder.server_user(), program).arg(&config).args(["--port", "0"]).stdin(std::process::Stdio::null()))?;
    await_answer(folder)
}

/// Waits until it answers: it listens before it has loaded its file.
fn await_answer(folder: &Folder) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut ran = false;
    while !answers(folder) {
        let runs = is_running(folder);
        let ended = !runs && (ran || begun.elapsed() > FIRST_STEPS);
        ran |= runs;
        // Before it has written its pid file, nobody could stop it.
        if ran && signals::is_ending() {
            bail!("Redis is not waited for any longer");
        }
        if ended || begun.elapsed() > START_PATIENCE {
            let log = data(folder).join("redis.log");
            bail!("Redis did not start; its log ends with:\n{}", process::log_tail(&log));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn answers(folder: &Folder) -> bool {
    let pong = || -> std::io::Result<bool> {
        let mut connection = UnixStream::connect(socket(folder))?;
        connection.write_all(b"PING\r\n")?;
        let mut reply = [0; 5];
        connection.read_exact(&mut reply)?;
        // One that cannot write says so instead, and is there; one that loads its file is not ready.
        Ok(&reply == b"+PONG" || reply[0] == b'-' && &reply != b"-LOAD")
    };
    pong().unwrap_or(false)
}

/// Stops it; it writes its append-only file to the end.
pub(super) fn stop(folder: &Folder) -> anyhow::Result<()> {
    match process::running(&pid_file(folder), "redis", &data(folder)) {
        Some(pid) => process::stop(pid, Signal::SIGTERM, Duration::from_secs(60)),
        None => Ok(()),
    }
}
