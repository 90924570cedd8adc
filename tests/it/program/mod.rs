//! The real program, run on a test's own database and keys, or on a state folder of its own, and those whom it talks to.

pub(crate) mod client;
#[path = "../../../pipeline/tests/it/harness/mod.rs"]
#[allow(dead_code, reason = "the tests of the pipeline share it, and have parts of it for themselves")]
pub(crate) mod harness;
pub(crate) mod model;
pub(crate) mod provider;
pub(crate) mod python;
pub(crate) mod receiver;
pub(crate) mod shop;
pub(crate) mod smtp;

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use harness::Stack;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};

/// What providers of tests know their clients by.
pub(crate) const GATEWAY_KEY: &str = "sk_test";

/// How long a command may take.
const PATIENCE: Duration = harness::PATIENCE.saturating_add(Duration::from_secs(60));

/// The program with servers in its environment: those of the harness, with a database and a namespace of one test.
pub(crate) struct Program {
    pub(crate) stack: Stack,
    folder: TempDir,
}

/// The program with a state folder: it brings its own servers.
pub(crate) struct Local {
    folder: TempDir,
}

/// Runs commands.
pub(crate) trait Orderstream {
    /// The folder that commands run in.
    fn folder(&self) -> &Path;

    /// The program, ready to be started.
    fn command(&self, args: &[&str]) -> Command;

    /// Runs a command to its end.
    async fn run(&self, args: &[&str]) -> Done {
        self.start(args).end().await
    }

    /// Starts a command; killed when dropped.
    fn start(&self, args: &[&str]) -> Running {
        Running::spawn(&mut self.command(args), args)
    }

    /// A path in the folder.
    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a file into the folder.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("a file in the test's folder");
    }

    /// Makes a file of orders and returns its content.
    async fn generate(&self, name: &str, options: &[&str]) -> String {
        self.run(&[&["generate", name, "--quiet"], options].concat()).await.exits(0);
        fs::read_to_string(self.path(name)).expect("the generated file")
    }
}

impl Program {
    /// An empty database with its schema.
    pub(crate) async fn get() -> Self {
        Self { stack: Stack::get().await, folder: folder() }
    }

    /// With a catalogue of customers 1 to `customers`, and products 1, 2, … of these stocks.
    pub(crate) async fn seeded(customers: i64, stocks: &[i64]) -> Self {
        let program = Self::get().await;
        program.stack.seed(customers, stocks).await;
        program
    }

    /// On servers that nobody else uses.
    pub(crate) async fn alone(customers: i64, stocks: &[i64]) -> Self {
        let program = Self { stack: Stack::alone().await, folder: folder() };
        program.stack.seed(customers, stocks).await;
        program
    }

    /// The same, with a Postgres that can be reached at an address of this machine.
    pub(crate) async fn alone_at(address: &str, customers: i64, stocks: &[i64]) -> Self {
        let program = Self { stack: Stack::alone_at(address).await, folder: folder() };
        program.stack.seed(customers, stocks).await;
        program
    }

    /// Runs all workers until nothing is left to do.
    pub(crate) async fn drain(&self) {
        self.run(&["run", "--until-drained", "--claim-idle", "1"]).await.exits(0);
    }

    /// State and reason of every order in Postgres.
    pub(crate) async fn ends(&self) -> model::Ends {
        let rows: Vec<(String, String, Option<String>)> =
            sqlx::query_as("SELECT code, status, failure_reason FROM orders")
                .fetch_all(&self.stack.reports.pool())
                .await
                .expect("orders");
        rows.into_iter().map(|(code, status, reason)| (code, (status, reason))).collect()
    }

    /// Fails unless the audit by the program itself is clean, the ledgers of all providers included.
    pub(crate) async fn audit(&self) {
        let args = ["audit"];
        let audit = Running::spawn(self.command(&args).env("ORDERSTREAM_GATEWAY_KEY", GATEWAY_KEY), &args).end().await;
        assert!(audit.stdout.contains("The books balance."), "{audit:?}");
        audit.exits(0);
    }

    /// How many dead letters there are.
    pub(crate) async fn dead_letters(&self) -> u64 {
        let status = self.run(&["status", "--json"]).await.exits(0).json();
        status["partitions"][0]["dead_letters"].as_u64().expect("a number")
    }

    /// Figures and leaderboards as the program shows them, in the shape in which the model predicts them.
    pub(crate) async fn board(&self) -> model::Board {
        // A range of days, so that midnight during the test changes nothing.
        let kpi = self.run(&["kpi", "--from", "2020-01-01", "--to", "2029-12-31", "--json"]).await.exits(0).json();
        let customers = self.run(&["leaderboard", "customers", "--top", "10000", "--json"]).await.exits(0).json();
        let products = self.run(&["leaderboard", "products", "--top", "10000", "--json"]).await.exits(0).json();
        let places = |board: &Value, score: &dyn Fn(&Value) -> i64| -> BTreeMap<i64, i64> {
            let places = board.as_array().expect("places");
            places.iter().map(|place| (place["id"].as_i64().expect("an id"), score(place))).collect()
        };
        model::Board {
            completed: kpi["completed"].as_i64().expect("a number"),
            failed: kpi["failed"].as_i64().expect("a number"),
            revenue_cents: model::cents(kpi["revenue"].as_str().expect("an amount")),
            customers: places(&customers, &|place| model::cents(place["net_revenue"].as_str().expect("an amount"))),
            products: places(&products, &|place| place["pieces"].as_i64().expect("pieces")),
        }
    }
}

impl Orderstream for Program {
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(self.folder(), args);
        command
            .env("DATABASE_URL", &self.stack.database_url)
            .env("REDIS_URL", self.stack.redis_url())
            .env("ORDERSTREAM_NAMESPACE", &self.stack.namespace)
            .env("ORDERSTREAM_UPLOAD_DIR", self.path("uploads"));
        command
    }
}

impl Local {
    /// An empty state folder. Nothing runs yet.
    pub(crate) fn new() -> Self {
        Self { folder: folder() }
    }

    /// The same, with the files of a Postgres where the tests have been given some: whoever starts it makes none.
    pub(crate) fn prepared() -> Self {
        let local = Self::new();
        if let Some(cluster) = harness::servers::cluster() {
            fs::create_dir(local.state()).expect("a new folder");
            let mut copy = std::process::Command::new("cp");
            let copied = copy.arg("-a").arg(cluster).arg(local.path("state/postgres")).status().expect("cp starts");
            assert!(copied.success(), "the files of Postgres were not copied");
        }
        local
    }

    /// The state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The process that a pid file of the stack names.
    pub(crate) fn server(&self, pid_file: &str) -> Pid {
        let text = fs::read_to_string(self.state().join(pid_file)).expect("a pid file");
        Pid::from_raw(text.lines().next().expect("a line").trim().parse().expect("a number"))
    }

    /// Whether any of the two servers runs.
    pub(crate) fn servers_run(&self) -> bool {
        ["postgres/postmaster.pid", "redis/redis.pid"].iter().any(|name| self.state().join(name).exists())
    }
}

impl Orderstream for Local {
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(self.folder(), args);
        command.env("ORDERSTREAM_STATE_DIR", self.state()).env("ORDERSTREAM_NO_SYNC", "true");
        command
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.servers_run() {
            // Whoever comes last stops the servers: after a kill, that is this one.
            let args = ["status", "--quiet"];
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_orderstream"));
            command.args(args).env("ORDERSTREAM_STATE_DIR", self.state());
            command.env_remove("DATABASE_URL").env_remove("REDIS_URL").stdout(Stdio::null()).stderr(Stdio::null());
            if let Err(error) = command.status() {
                eprintln!("{}: {error}", self.folder.path().display());
            }
        }
    }
}

/// A folder that the servers' user may enter.
fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("orderstream-test-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .expect("a temporary folder")
}

/// The program without the environment of whoever runs the tests.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderstream"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("DATABASE_URL")
            || name.starts_with("REDIS_URL")
            || name.starts_with("ORDERSTREAM_")
            || name.starts_with("OTEL_")
        {
            command.env_remove(name);
        }
    }
    // A process that is made to panic would look its own symbols up for a second or more.
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LOG").args(args).current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A command on its way.
pub(crate) struct Running {
    child: Child,
    name: String,
    stdout: tokio::task::JoinHandle<String>,
    stderr: tokio::task::JoinHandle<String>,
    /// What came on stderr so far.
    told: Arc<Mutex<Vec<u8>>>,
}

impl Running {
    /// Starts a command and collects what it prints.
    pub(crate) fn spawn(command: &mut Command, args: &[&str]) -> Self {
        async fn collect(from: Option<impl AsyncReadExt + Unpin>) -> String {
            let mut bytes = Vec::new();
            if let Some(mut from) = from {
                from.read_to_end(&mut bytes).await.expect("the program's output");
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        async fn follow(from: Option<impl AsyncReadExt + Unpin>, told: Arc<Mutex<Vec<u8>>>) -> String {
            let mut from = from.expect("a pipe");
            let mut piece = [0; 4096];
            loop {
                let read = from.read(&mut piece).await.expect("the program's output");
                let mut told = told.lock().expect("nobody panics");
                told.extend_from_slice(&piece[..read]);
                if read == 0 {
                    return String::from_utf8_lossy(&told).into_owned();
                }
            }
        }
        let mut child = command.spawn().expect("the program starts");
        let told = Arc::default();
        let stdout = tokio::spawn(collect(child.stdout.take()));
        let stderr = tokio::spawn(follow(child.stderr.take(), Arc::clone(&told)));
        Self { child, name: args.join(" "), stdout, stderr, told }
    }

    /// Waits until it says this on stderr. What it said instead is shown, be it that it never said it or that it ended.
    pub(crate) async fn says(&self, text: &str) {
        let begun = Instant::now();
        while !self.told().contains(text) {
            let has_ended = self.stderr.is_finished();
            assert!(
                begun.elapsed() < PATIENCE && (!has_ended || self.told().contains(text)),
                "`orderstream {}` {} and never said: {text}\nIt said:\n{}",
                self.name,
                if has_ended { "ended" } else { "runs" },
                self.told()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where it listens, as soon as it has said so to the end.
    pub(crate) async fn address(&self) -> String {
        self.word_after("address=").await
    }

    /// What stands after this text, up to the next blank.
    pub(crate) async fn word_after(&self, text: &str) -> String {
        self.says(text).await;
        loop {
            let told = self.told();
            let (_, rest) = told.split_once(text).expect("it said so");
            if let Some((word, _)) = rest.split_once(char::is_whitespace) {
                return word.to_owned();
            }
            assert!(!self.stderr.is_finished(), "it ended within a line:\n{told}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What it said on stderr so far.
    pub(crate) fn told(&self) -> String {
        String::from_utf8_lossy(&self.told.lock().expect("nobody panics")).into_owned()
    }

    /// Kilobytes of memory that it holds.
    pub(crate) fn resident_kb(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id().expect("it still runs")));
        let status = status.expect("a child of ours");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Whether it has not ended by itself.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it still runs");
        kill(Pid::from_raw(pid), signal).expect("a child of ours");
    }

    /// What the kernel says of it: `T` is stopped.
    pub(crate) fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id().expect("it still runs")));
        let stat = stat.expect("a child of ours");
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state")
    }

    /// Its standard input, if that is a pipe.
    pub(crate) fn stdin(&mut self) -> tokio::process::ChildStdin {
        self.child.stdin.take().expect("a pipe")
    }

    /// Waits for the end.
    pub(crate) async fn end(mut self) -> Done {
        let status = match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("a child of ours"),
            Err(_) => panic!("`orderstream {}` does not come to its end", self.name),
        };
        Done {
            code: status.code(),
            name: self.name,
            stdout: self.stdout.await.expect("text"),
            stderr: self.stderr.await.expect("text"),
        }
    }

    /// Ends it without warning, as a crash does.
    pub(crate) async fn crash(mut self) {
        self.child.kill().await.expect("a child of ours");
    }

    /// Asks it to stop and waits for the end.
    pub(crate) async fn stop(self) -> Done {
        self.signal(Signal::SIGTERM);
        self.end().await
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    name: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Fails unless it ended so.
    pub(crate) fn exits(self, code: i32) -> Self {
        let Self { name, stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "`orderstream {name}`\n{stdout}\n{stderr}");
        self
    }

    /// What it printed, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }

    /// The summary of the one file that it imported.
    pub(crate) fn import(&self) -> Value {
        self.json()["imports"][0].clone()
    }
}
