//! The program with workers, and examples as processes beside it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use redis::streams::StreamRangeReply;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, copy_bidirectional},
    net::{TcpListener, UnixStream},
    process::{Child, ChildStdout, Command},
    sync::watch,
};

use crate::program::{
    Orderstream, Program, Running,
    harness::{PATIENCE, eventually},
    python::python,
};

/// What an example is written in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Language {
    Python,
    Node,
}

/// Workers that approve every payment and soon take over from the dead.
const WORKERS: [&str; 5] = ["run", "--claim-idle", "1", "--success-rate", "1"];

/// A program with customers 1 to 9 and products 1 to 5, and its workers.
pub(crate) struct Scene {
    pub(crate) program: Program,
    redis_url: String,
    api_url: Option<String>,
    /// Told to the ways to Redis over TCP: they end.
    hang_up: watch::Sender<()>,
    /// Killed with the scene.
    _workers: Running,
}

/// An example that reads for ever.
pub(crate) struct Reader {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Scene {
    pub(crate) async fn with_workers() -> Self {
        let program = Program::seeded(9, &[1_000; 5]).await;
        let workers = program.start(&WORKERS);
        Self::new(program, None, workers).await
    }

    /// The same, with the HTTP API beside the workers.
    pub(crate) async fn with_http() -> Self {
        let program = Program::seeded(9, &[1_000; 5]).await;
        let workers = program.start(&[&WORKERS[..], &["--http", "127.0.0.1:0"]].concat());
        let api_url = Some(format!("http://{}", workers.address().await));
        Self::new(program, api_url, workers).await
    }

    async fn new(program: Program, api_url: Option<String>, workers: Running) -> Self {
        let (hang_up, _) = watch::channel(());
        let redis_url = over_tcp(program.stack.redis_url(), &hang_up).await;
        Self { program, redis_url, api_url, hang_up, _workers: workers }
    }

    /// Lets examples reach Redis by the socket that it has, as that of `orderstream dev` has.
    pub(crate) fn by_socket(&mut self) {
        self.redis_url = self.program.stack.redis_url().to_owned();
    }

    /// Cuts every connection of an example to Redis.
    pub(crate) fn cut_connections(&self) {
        self.hang_up.send_replace(());
    }

    /// A command with the environment that the examples document.
    pub(crate) fn with_environment(&self, command: &mut Command) {
        command
            .env("REDIS_URL", &self.redis_url)
            .env("ORDERSTREAM_NAMESPACE", &self.program.stack.namespace)
            .envs(self.api_url.iter().map(|url| ("API_URL", url)))
            .current_dir(self.program.folder())
            .stdin(Stdio::null())
            .kill_on_drop(true);
    }

    async fn command(&self, language: Language, example: &str, args: &[&str]) -> Command {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
        let (interpreter, file) = match language {
            Language::Python => (python().await, folder.join(format!("python/{example}.py"))),
            Language::Node => (PathBuf::from("node"), folder.join(format!("node/{example}.mjs"))),
        };
        let mut command = Command::new(interpreter);
        self.with_environment(&mut command);
        // Nothing of ours is left in the repository.
        command.env("PYTHONDONTWRITEBYTECODE", "1").arg(file).args(args);
        command
    }

    /// Runs an example to its end; what it printed.
    pub(crate) async fn run(&self, language: Language, example: &str, args: &[&str]) -> String {
        let done = self.command(language, example, args).await.output().await.expect("the example starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{language:?} {example}: {stdout}{stderr}");
        stdout.into_owned()
    }

    /// Runs an example that must fail; what it said on stderr.
    pub(crate) async fn refused(&self, language: Language, example: &str, args: &[&str]) -> String {
        let done = self.command(language, example, args).await.output().await.expect("the example starts");
        assert!(!done.status.success(), "{language:?} {example}: {done:?}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// Starts an example that reads for ever.
    pub(crate) async fn start(&self, language: Language, words: &[&str]) -> Reader {
        let mut command = self.command(language, words[0], &words[1..]).await;
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the example starts");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Reader { process, lines }
    }

    /// Waits until the reader has written down that it came so far.
    pub(crate) async fn remembers(&self, seq: i64) {
        let file = self.program.path("seen.txt");
        let remembers = async || std::fs::read_to_string(&file).is_ok_and(|text| text == seq.to_string());
        eventually(&format!("the reader remembers {seq}"), remembers).await;
    }

    /// Waits until the stream of events has so many.
    pub(crate) async fn published(&mut self, count: usize) {
        let key = self.program.stack.redis.keys().events();
        let mut redis = self.program.stack.connection().await;
        eventually(&format!("{count} events are in the stream"), async || {
            let mut range = redis::cmd("XRANGE");
            let range: StreamRangeReply =
                range.arg(&key).arg("-").arg("+").query_async(&mut redis).await.expect("a stream");
            range.ids.len() >= count
        })
        .await;
    }
}

impl Reader {
    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("a line within a minute").expect("text").expect("it reads for ever")
    }

    /// Ends it without warning.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.expect("a child of ours");
    }
}

/// The address of a Redis as strangers know it: those of the tests listen on Unix sockets.
async fn over_tcp(url: &str, hang_up: &watch::Sender<()>) -> String {
    let path = url.strip_prefix("unix://").expect("the tests' Redis has a socket");
    let path = path.split('?').next().unwrap_or(path).to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let hang_up = hang_up.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = UnixStream::connect(&path).await.expect("Redis");
            let mut cut = hang_up.subscribe();
            tokio::spawn(async move {
                tokio::select! {
                    // Either side has hung up, or failed: that ends it as well.
                    _ = copy_bidirectional(&mut client, &mut server) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    format!("redis://{address}")
}
