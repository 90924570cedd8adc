//! The servers that the tests run on: those of `orderstream dev`, or a private pair for this process.

use std::{
    env, fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::Write,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
    time::Duration,
};

use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Uid, User},
};
use pipeline::streams::Redis;
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;

use super::eventually;

/// Prepares and runs a server, until the pipe to its standard input is closed: by whoever started it, or by the kernel
/// when that process died, however it died. Until then a line from there is a signal for the server, which ends by it, or
/// the order to start it again: a Postgres whose first process was killed refuses while another of its processes lives.
/// `TERM` reaches a server that has not set up its signals yet; `QUIT` tells
/// a Postgres with clients not to wait for them.
macro_rules! keep {
    ($prepare:literal, $server:literal) => {
        concat!(
            $prepare,
            "\nserve() { ",
            $server,
            r#" >>"$DIR/log" 2>&1 & }
            start() { serve; server=$!; }
            start
            while read -r order; do
                case $order in
                start) start ;;
                *)
                    kill -$order $server; wait $server
                    while readlink /proc/[0-9]*/cwd | grep -qx "$DIR/data"; do sleep 0.02; done ;;
                esac
            done
            kill -TERM $server; kill -QUIT $server; wait $server
            rm -rf "$DIR""#
        )
    };
}

const POSTGRES: &str = keep!(
    r#"if [ -n "$CLUSTER" ]; then
                cp -R "$CLUSTER" "$DIR/data"
            else
                "$BIN/initdb" -D "$DIR/data" -U orderstream -A trust -E UTF8 --locale C.UTF-8 --no-sync >"$DIR/log" 2>&1
            fi
            echo 'host all all samenet trust' >>"$DIR/data/pg_hba.conf""#,
    r#""$BIN/postgres" -D "$DIR/data" -k "$DIR" -c listen_addresses="$LISTEN" -c max_connections=1000 -c fsync=off"#
);

const REDIS: &str = keep!(
    "",
    r#"redis-server --port 0 --unixsocket "$DIR/redis.sock" --dir "$DIR" --appendonly yes --appendfsync no --save "" --maxmemory-policy noeviction"#
);

/// A Postgres and a Redis.
pub(crate) struct Servers {
    /// A database to connect to while one's own does not exist yet.
    pub(crate) postgres_url: String,
    pub(crate) redis_url: String,
    /// Stopped when dropped.
    own: Option<[Keeper; 2]>,
}

/// One of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Server {
    Postgres,
    Redis,
}

impl Servers {
    /// Ends a server of one's own by a signal (`KILL` is a crash).
    pub(crate) fn end(&self, server: Server, signal: &str) {
        self.keeper(server).order(signal);
    }

    /// Starts it again, with what it has on disk.
    pub(crate) fn start_again(&self, server: Server) {
        self.keeper(server).order("start");
    }

    fn keeper(&self, server: Server) -> &Keeper {
        &self.own.as_ref().expect("servers that nobody else uses")[server as usize]
    }

    /// The servers of this process. Private ones run while somebody holds them.
    pub(crate) async fn get() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Servers>> = Mutex::const_new(Weak::new());
        let mut running = RUNNING.lock().await;
        if let Some(servers) = running.upgrade() {
            return servers;
        }
        open_many_files();
        let servers = Arc::new(if env::var_os("ORDERSTREAM_STACK").is_some() {
            Self::from_environment()
        } else {
            Self::start("").await
        });
        *running = Arc::downgrade(&servers);
        servers
    }

    fn from_environment() -> Self {
        let url = |name| env::var(name).unwrap_or_else(|_| panic!("ORDERSTREAM_STACK is set, so {name} must be"));
        Self { postgres_url: url("DATABASE_URL"), redis_url: url("REDIS_URL"), own: None }
    }

    /// A private pair, stopped when it is dropped. Postgres listens on `address`, too, if there is one.
    pub(crate) async fn start(address: &str) -> Self {
        let postgres = Keeper::start("postgres", POSTGRES, address);
        let redis = Keeper::start("redis", REDIS, "");
        let servers = Self {
            postgres_url: format!("postgres://orderstream@localhost/postgres?host={}", postgres.folder.display()),
            redis_url: format!("unix://{}/redis.sock", redis.folder.display()),
            own: Some([postgres, redis]),
        };
        let client = Redis::new(&servers.redis_url, "t").expect("a URL");
        eventually("Redis answers", async || client.connect().await.is_ok()).await;
        eventually("Postgres answers", async || match PgConnection::connect(&servers.postgres_url).await {
            Ok(connection) => connection.close().await.is_ok(),
            Err(_) => false,
        })
        .await;
        servers
    }
}

/// Lets this process open as many files as all tests of a package at once may need, as threads of `cargo test` on a machine
/// with many cores; if it may.
fn open_many_files() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(FILES)), hard).expect("no more than is allowed");
}

/// A server in a temporary folder of its own, with the shell that looks after it.
struct Keeper {
    shell: Child,
    folder: PathBuf,
}

impl Keeper {
    fn start(name: &str, script: &str, listen: &str) -> Self {
        // Short: the path of a socket has at most 107 bytes.
        let folder = env::temp_dir().join(format!("orderstream-{name}-{:016x}", random()));
        fs::create_dir(&folder).expect("a temporary folder");
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("DIR", &folder).env("BIN", postgres_programs());
        command.env("LISTEN", listen).env("CLUSTER", cluster().unwrap_or_default()).current_dir(&folder);
        // Postgres refuses to run as root.
        if Uid::effective().is_root() {
            let user = User::from_name("postgres").expect("the user database").expect("a user named postgres");
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may do this");
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        // A group of its own: signals for the tests' group must not reach the shell before it has cleaned up.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { shell: command.spawn().expect("a shell"), folder }
    }
}

impl Keeper {
    fn order(&self, order: &str) {
        let mut orders = self.shell.stdin.as_ref().expect("a pipe");
        writeln!(orders, "{order}").expect("the shell reads");
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        if let Err(error) = self.shell.wait() {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}

/// The files of a Postgres of `orderstream`, which has stopped in an orderly way, to begin with instead of making them: that
/// takes a second or more of a processor each time. `scripts/test.sh` makes it once for all tests.
pub(crate) fn cluster() -> Option<PathBuf> {
    env::var_os("ORDERSTREAM_TEST_CLUSTER").map(PathBuf::from)
}

/// Where `initdb` and `postgres` are: the newest of Debian's versions, or the search path.
fn postgres_programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .map(|version| version.path())
        .max_by_key(|path| path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u32>().ok()));
    match newest {
        Some(version) => version.join("bin"),
        None => env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .find(|folder| folder.join("initdb").exists())
            .unwrap_or_else(|| Path::new("/usr/local/bin").to_owned()),
    }
}

/// Open files of one process of tests.
const FILES: u64 = 16_384;

/// A number that no other test has.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// How long a condition may take to come true; less where most tests are to fail, as those of `scripts/mutations.sh`.
pub(crate) const PATIENCE: Duration =
    Duration::from_secs(if option_env!("ORDERSTREAM_TEST_IMPATIENT").is_some() { 45 } else { 180 });
