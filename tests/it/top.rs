//! `orderstream top` on a real terminal: tmux holds it, presses keys and looks at the screen.

use std::{
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pipeline::{
    message::DeadReason,
    streams::{Consumer, Delivery, HandOff},
    topology::StageName,
};
use serde_json::Value;
use tokio::process::Command;

use crate::program::{
    Orderstream, Program, Running,
    harness::{eventually, order},
};

/// A terminal with a shell in it, which has started the program. It ends when dropped.
struct Terminal {
    socket: String,
}

impl Terminal {
    /// Starts `top` with these variables.
    async fn start(program: &Program, (columns, rows): (u16, u16), env: &[(&str, &str)]) -> Self {
        // Its own for each: the server of the one before may still be ending.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let terminal = Self { socket: format!("{}-top-{number}", program.stack.namespace) };
        let script =
            format!("echo before; '{}' top; echo \"it ended with $?\"; exec cat", env!("CARGO_BIN_EXE_orderstream"));
        let mut command = terminal.tmux(&["-f", "/dev/null", "-u", "new-session", "-d"]);
        command.args(["-x", &columns.to_string(), "-y", &rows.to_string(), "sh", "-c", &script]);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("ORDERSTREAM_") || ["TMUX", "NO_COLOR", "RUST_LOG"].contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        command
            .current_dir(program.folder())
            .env("DATABASE_URL", &program.stack.database_url)
            .env("REDIS_URL", program.stack.redis_url())
            .env("ORDERSTREAM_NAMESPACE", &program.stack.namespace)
            .env("LC_ALL", "C.UTF-8")
            .envs(env.iter().copied());
        let status = command.status().await.expect("tmux is installed: scripts/setup.sh");
        assert!(status.success(), "{status}");
        terminal
    }

    fn tmux(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]).args(args).stdin(Stdio::null());
        command
    }

    async fn output(&self, args: &[&str]) -> String {
        let output = self.tmux(args).output().await.expect("tmux");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, as tmux names them.
    async fn press(&self, keys: &[&str]) {
        self.output(&[&["send-keys"], keys].concat()).await;
    }

    /// What is on the screen.
    async fn screen(&self) -> String {
        self.output(&["capture-pane", "-p"]).await
    }

    /// The first screen for which this holds.
    async fn until(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let looked = async {
            eventually(what, async || {
                last = self.screen().await;
                holds(&last)
            })
            .await;
        };
        looked.await;
        last
    }

    async fn shows(&self, text: &str) -> String {
        self.until(&format!("the screen shows {text:?}"), |screen| screen.contains(text)).await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let mut command = std::process::Command::new("tmux");
        command.args(["-L", &self.socket, "kill-server"]).stdin(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = command.status() {
            eprintln!("tmux: {error}");
        }
    }
}

/// The words of a stage's line.
fn row<'a>(screen: &'a str, stage: &str) -> Vec<&'a str> {
    let mut rows = screen.lines().map(|line| line.trim_start_matches('▸').split_whitespace().collect::<Vec<_>>());
    rows.find(|words| words.first() == Some(&stage)).unwrap_or_default()
}

async fn snapshot(program: &Program) -> Value {
    program.run(&["top", "--json", "--count", "1"]).await.exits(0).json()
}

fn stage<'a>(snapshot: &'a Value, name: &str) -> &'a Value {
    let stages = snapshot["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["stage"] == name).expect("the stage")
}

async fn publish(program: &Program, rows: &str) {
    program.generate("orders.csv", &["--rows", rows, "--customers", "5", "--products", "5"]).await;
    program.run(&["import", "orders.csv", "--no-wait"]).await.exits(0);
}

async fn workers(program: &Program, stages: &str) -> Running {
    let running = program.start(&["run", "--stages", stages]);
    running.says("running").await;
    running
}

/// Makes a dead letter of an order that waits for reservation.
async fn bury(program: &Program, code: &str) {
    program.stack.publish(&[order(code, 1, &[(1, 2, 500)])]).await;
    let stage = StageName::Reservation;
    let mut consumer = Consumer::join(&program.stack.redis, stage, 0, "gravedigger").await.expect("Redis");
    let entries = consumer.read_new(10, std::time::Duration::from_millis(1)).await.expect("entries");
    let letters = entries.into_iter().map(|Delivery { entry, .. }| {
        let mut letter = entry.fields;
        let died = [
            ("reason", DeadReason::RefusedByDatabase.as_str().to_owned()),
            ("error", "made by a test".to_owned()),
            ("stage", stage.as_str().to_owned()),
            ("source_stream", program.stack.redis.keys().stream(0, stage)),
            ("source_id", entry.id.to_string()),
        ];
        letter.extend(died.map(|(name, value)| (name.as_bytes().to_vec(), value.into_bytes())));
        (entry.id, HandOff::Dead { fields: letter, owned: true })
    });
    consumer.hand_off(letters.collect()).await.expect("handed off");
    consumer.leave().await.expect("Redis");
}

#[tokio::test]
async fn a_paused_stage_is_shown_with_the_lag_and_the_seconds_of_the_snapshot_at_any_size() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    let running = workers(&program, "reservation,payment,settlement").await;
    program.run(&["pause", "payment", "--why", "a test"]).await.exits(0);
    publish(&program, "6000").await;
    let terminal = Terminal::start(&program, (140, 40), &[]).await;
    terminal.shows("Payment is paused (a test)").await;
    terminal.until("reservation is done", |screen| row(screen, "reservation").get(2..4) == Some(&["0", "0"])).await;
    let before = snapshot(&program).await;
    let lag = stage(&before, "payment")["lag"].as_u64().expect("a lag");
    assert!(lag > 1_000, "{before}");
    let shown = format!("{},{:03}", lag / 1_000, lag % 1_000);
    let screen = terminal.until("the lag", |screen| row(screen, "payment").get(2) == Some(&shown.as_str())).await;
    let after = snapshot(&program).await;
    let seconds = |snapshot: &Value| stage(snapshot, "payment")["lag_seconds"].as_f64().expect("seconds");
    let of_screen: f64 = row(&screen, "payment")[3].replace(',', "").parse().expect("a number");
    // The screen is a second older than the look of another process, at most.
    assert!(seconds(&before) - 2.0 < of_screen && of_screen < seconds(&after) + 1.0, "{before}\n{screen}\n{after}");
    assert_eq!(row(&screen, "payment")[1], "paused");
    assert!(screen.lines().next().is_some_and(|line| line.ends_with("! warning")), "{screen}");
    for title in ["RETRIES/min", "WORKERS", "LAG, 5 MIN"] {
        assert!(screen.contains(title), "{screen}");
    }

    for (columns, rows) in [("80", "24"), ("60", "15")] {
        terminal.output(&["resize-window", "-x", columns, "-y", rows]).await;
        let columns: usize = columns.parse().expect("a number");
        let small = terminal
            .until("the small screen is drawn", |screen| {
                let fits = screen.lines().all(|line| line.chars().count() <= columns);
                let is_whole = StageName::ALL.iter().all(|stage| !row(screen, stage.as_str()).is_empty());
                fits && is_whole && !screen.contains("RETRIES/min") && screen.contains("q quit")
            })
            .await;
        assert_eq!(row(&small, "payment")[1..3], ["paused", &shown], "{small}");
    }
    running.stop().await.exits(0);
}

#[tokio::test]
async fn p_pauses_and_resumes_a_stage_with_a_reason_and_q_gives_the_terminal_back() {
    let program = Program::seeded(5, &[1_000]).await;
    let running = workers(&program, "payment").await;
    let terminal = Terminal::start(&program, (140, 40), &[]).await;
    terminal.shows("▸ reservation").await;
    terminal.press(&["j", "p"]).await;
    terminal.shows("Why pause payment?").await;
    terminal.press(&["Escape"]).await;
    terminal.until("the question is gone", |screen| !screen.contains("Why pause")).await;
    assert_eq!(program.run(&["pause", "--json"]).await.exits(0).json()["paused"], Value::Array(Vec::new()));
    terminal.press(&["p"]).await;
    terminal.shows("Why pause payment?").await;
    terminal.press(&["-l", "gate quits"]).await;
    terminal.press(&["Enter"]).await;
    terminal.shows("✓ Paused payment.").await;
    terminal.shows("Payment is paused (gate quits)").await;
    assert_eq!(program.run(&["pause", "--json"]).await.exits(0).json()["paused"][0]["why"], "gate quits");

    terminal.press(&["p"]).await;
    terminal.shows("Why resume payment?").await;
    terminal.press(&["-l", "it is back"]).await;
    terminal.press(&["Enter"]).await;
    terminal.shows("✓ Resumed payment.").await;
    terminal.until("it is idle", |screen| row(screen, "payment").get(1) == Some(&"idle")).await;
    let actions = program.run(&["actions", "--json"]).await.exits(0).json();
    let told = |at: usize| {
        let action = &actions["actions"][at];
        [&action["verb"], &action["target"], &action["via"], &action["why"]]
            .map(|text| text.as_str().expect("text").to_owned())
    };
    assert_eq!(told(0), ["resume", "payment", "top", "it is back"]);
    assert_eq!(told(1), ["pause", "payment", "top", "gate quits"]);

    terminal.press(&["q"]).await;
    let screen = terminal.shows("it ended with 0").await;
    assert!(screen.starts_with("before\nit ended with 0"), "{screen}");
    running.stop().await.exits(0);
}

#[tokio::test]
async fn ctrl_c_and_sigterm_give_the_terminal_back() {
    let program = Program::get().await;
    let terminal = Terminal::start(&program, (80, 24), &[]).await;
    terminal.shows("q quit").await;
    terminal.press(&["C-c"]).await;
    let screen = terminal.shows("it ended with 0").await;
    assert!(screen.starts_with("before\nit ended with 0"), "{screen}");
    drop(terminal);

    let terminal = Terminal::start(&program, (80, 24), &[]).await;
    terminal.shows("q quit").await;
    let shell = terminal.output(&["display-message", "-p", "#{pane_pid}"]).await;
    let shell = shell.trim();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("a shell");
    let top = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("the program");
    kill(Pid::from_raw(top), Signal::SIGTERM).expect("it runs");
    let screen = terminal.shows("it ended with 0").await;
    assert!(screen.starts_with("before\nit ended with 0"), "{screen}");
}

#[tokio::test]
async fn no_color_means_none() {
    let program = Program::get().await;
    for (env, coloured) in [(&[("NO_COLOR", "1")][..], false), (&[], true)] {
        let terminal = Terminal::start(&program, (140, 40), env).await;
        terminal.until("a look", |screen| !row(screen, "payment").is_empty() && screen.contains("q quit")).await;
        let screen = terminal.output(&["capture-pane", "-p", "-e"]).await;
        assert!(screen.contains("\x1b["), "attributes: {screen:?}");
        assert_eq!(colours(&screen) > 0, coloured, "{screen:?}");
    }
}

/// Escape sequences that choose a colour other than the terminal's own.
fn colours(screen: &str) -> usize {
    let sequences = screen.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m'));
    let codes = sequences.flat_map(|(codes, _)| codes.split(';')).filter_map(|code| code.parse::<u8>().ok());
    codes.filter(|code| matches!(code, 30..=38 | 40..=48 | 90..=97 | 100..=107)).count()
}

#[tokio::test]
async fn a_lag_that_redis_cannot_tell_is_shown_as_unknown() {
    let program = Program::seeded(5, &[1_000_000; 5]).await;
    // The group exists, and reads nothing.
    program.drain().await;
    publish(&program, "50").await;
    let lag = stage(&snapshot(&program).await, "reservation")["lag"].as_u64().expect("a lag").to_string();
    let terminal = Terminal::start(&program, (80, 24), &[]).await;
    terminal.until("a lag", |screen| row(screen, "reservation").contains(&lag.as_str())).await;
    let mut redis = program.stack.connection().await;
    let stream = program.stack.redis.keys().stream(0, StageName::Reservation);
    let ids: Vec<(String, Vec<String>)> =
        redis::cmd("XRANGE").arg(&stream).arg("-").arg("+").query_async(&mut redis).await.expect("entries");
    let middle = &ids[ids.len() / 2].0;
    let deleted: i64 = redis::cmd("XDEL").arg(&stream).arg(middle).query_async(&mut redis).await.expect("a number");
    assert_eq!(deleted, 1);
    let screen = terminal.until("unknown", |screen| row(screen, "reservation").contains(&"unknown")).await;
    let words = row(&screen, "reservation");
    let at = words.iter().position(|word| *word == "unknown").expect("a word");
    assert!(words[at + 1].parse::<f64>().is_ok_and(|seconds| seconds > 0.0), "the seconds are known: {screen}");
}

#[tokio::test]
async fn dead_letters_are_grouped_filtered_and_replayed_after_a_question() {
    let program = Program::seeded(5, &[1_000]).await;
    for code in ["D-1", "D-2", "D-3"] {
        bury(&program, code).await;
    }
    let terminal = Terminal::start(&program, (140, 40), &[]).await;
    terminal.shows("q quit").await;
    terminal.press(&["d"]).await;
    terminal.shows("reservation, refused_by_database: 3 letters").await;
    terminal.press(&["Enter", "j", "/"]).await;
    terminal.shows("Filter:").await;
    terminal.press(&["-l", "d-2"]).await;
    terminal.press(&["Enter"]).await;
    let screen = terminal.shows("refused_by_database: 1 letter").await;
    assert!(screen.contains("D-2") && screen.contains("made by a test") && !screen.contains("D-1"), "{screen}");
    let replayed = async |yes: &str| {
        let letters = program.run(&["dead", "list", "--replayed", yes, "--json"]).await.exits(0).json();
        letters["letters"].as_array().expect("letters").len()
    };
    terminal.press(&["r"]).await;
    terminal.shows("Replay 1 letter, letter ").await;
    terminal.press(&["n"]).await;
    terminal.until("the question is gone", |screen| !screen.contains("Replay 1 letter")).await;
    assert_eq!(replayed("yes").await, 0);
    terminal.press(&["r"]).await;
    terminal.shows("Replay 1 letter, letter ").await;
    terminal.press(&["y"]).await;
    terminal.shows("✓ Replayed 1 letter.").await;
    assert_eq!(replayed("yes").await, 1);

    // The filter goes, and the group is chosen: what was replayed is left out.
    terminal.press(&["Escape"]).await;
    terminal.shows("refused_by_database: 3 letters").await;
    terminal.press(&["g", "r"]).await;
    terminal.shows("Replay 2 letters, reservation, refused_by_database?").await;
    terminal.press(&["y"]).await;
    terminal.shows("✓ Replayed 2 letters.").await;
    assert_eq!(replayed("no").await, 0);
    let actions = program.run(&["actions", "--json"]).await.exits(0).json();
    let action = &actions["actions"][0];
    assert_eq!(
        [&action["verb"], &action["via"], &action["affected"]],
        [&"replay".into(), &"top".into(), &2.into()] as [&Value; 3]
    );
    terminal.press(&["q"]).await;
    terminal.shows("it ended with 0").await;
    program.drain().await;
    assert_eq!(program.ends().await.len(), 3);
}

#[tokio::test]
async fn with_json_there_is_a_snapshot_a_line_and_without_a_terminal_a_hint() {
    let program = Program::get().await;
    let lines = program.run(&["top", "--json", "--count", "2"]).await.exits(0).stdout;
    let snapshots: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let numbers: Vec<u64> = snapshots.iter().map(|snapshot| snapshot["seq"].as_u64().expect("a number")).collect();
    assert!(matches!(numbers[..], [first, second] if 0 < first && first < second), "{numbers:?}");
    assert_eq!(snapshots[1]["stages"].as_array().map(Vec::len), Some(5));
    let refused = program.run(&["top"]).await.exits(2);
    assert!(refused.stderr.contains("top --json") && refused.stderr.contains("status"), "{refused:?}");
    assert!(program.run(&["top", "--count", "1"]).await.exits(2).stderr.contains("--json"));
}
