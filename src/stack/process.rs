//! Finding, starting and stopping server programs.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User},
};

/// Where distributions put Postgres, beside the PATH; the newest version wins.
const POSTGRES_FOLDERS: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/pgsql"];

/// The path of a server program.
pub(super) fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join(program));
    let mut versioned: Vec<(u32, PathBuf)> = POSTGRES_FOLDERS
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten())
        .map(|entry| {
            let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
            (version, entry.path().join("bin").join(program))
        })
        .collect();
    versioned.sort();
    let found = in_path.chain(versioned.into_iter().rev().map(|(_, path)| path)).find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!(
            "the program {program} is not installed; on Debian or Ubuntu: apt-get install {package}\n\
             or set DATABASE_URL and REDIS_URL to servers that run elsewhere"
        ),
    }
}

/// A command that runs as another user, if one is given.
pub(super) fn run_as(user: Option<&User>, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    if let Some(user) = user {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).env("HOME", "/nonexistent").env("USER", &user.name);
    }
    command.current_dir("/");
    command
}

/// Runs a command to its end; what it printed is in the error.
pub(super) fn run(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output()?;
    if !output.status.success() {
        bail!(
            "{} failed: {}{}",
            command.get_program().to_string_lossy(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// The process that a pid file names, if it runs and is the server of this data folder: after a crash another process
/// may have got its number, be it the same program for another folder. Both servers work in their data folders.
pub(super) fn running(pid_file: &Path, program: &str, data: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file).ok()?.lines().next()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let pid = Pid::from_raw(pid);
    if !name.starts_with(program) || !is_alive(pid) {
        return None;
    }
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (works_in == data.canonicalize().ok()?).then_some(pid)
}

/// Waits until no process of this program works in the folder any more, at most so long.
pub(super) fn await_end_of_all(program: &str, data: &Path, patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && any_works_in(program, data) {
        thread::sleep(Duration::from_millis(5));
    }
}

fn any_works_in(program: &str, data: &Path) -> bool {
    let Ok(data) = data.canonicalize() else { return false };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    processes
        .filter(|process| fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with(program)))
        .any(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == data))
}

/// Sends a signal and waits for the end.
pub(super) fn stop(pid: Pid, signal: Signal, patience: Duration) -> anyhow::Result<()> {
    kill(pid, signal)?;
    let deadline = Instant::now() + patience;
    while is_alive(pid) {
        if Instant::now() > deadline {
            bail!("process {pid} still runs after {} s", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Whether the process runs. In a container without an init process, an ended one stays in the table as a zombie.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses and may contain any character.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The last lines of a log, for an error message.
pub(super) fn log_tail(path: &Path) -> String {
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
