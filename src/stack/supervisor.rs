//! Starts a server of the stack again that dies while somebody uses it.

use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use pipeline::retry;
use tracing::{error, info, warn};

use super::{folder::Folder, postgres, redis};

/// How often the servers are looked at: a few files in /proc each time.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Longest pause between two starts of a server that dies again and again.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A server that has run for so long is started at once when it dies.
const STABLE: Duration = Duration::from_secs(30);

/// Looks after the servers on a thread of its own, until it is dropped.
///
/// Every command that uses a stack does, long or short: the first that gets the gate starts the server again, the others
/// find it running. So it does not matter which of them began, and nobody has to take over when one leaves.
pub(super) struct Supervisor {
    /// Closed to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Supervisor {
    pub(super) fn start(folder: Arc<Folder>) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let watch = move || {
            let mut servers = [
                Server::new("Postgres", postgres::is_running, postgres::ensure_running),
                Server::new("Redis", redis::is_running, redis::ensure_running),
            ];
            while stopped.recv_timeout(LOOK_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                for server in &mut servers {
                    server.look_after(&folder);
                }
            }
        };
        let thread = std::thread::Builder::new().name("stack".to_owned()).spawn(watch)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Supervisor {
    /// Waits until a start that is under way has come to its end: whoever stops the servers next must find all of them.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the thread that looks after the local stack had panicked");
        }
    }
}

/// One of the two servers, and how it fared.
struct Server {
    name: &'static str,
    is_running: fn(&Folder) -> bool,
    ensure_running: fn(&Folder) -> anyhow::Result<()>,
    pauses: Box<dyn Iterator<Item = Duration>>,
    started: Instant,
    /// No start before.
    rest_until: Instant,
    /// Whether it did not start the last time: told once.
    fails: bool,
}

impl Server {
    fn new(
        name: &'static str,
        is_running: fn(&Folder) -> bool,
        ensure_running: fn(&Folder) -> anyhow::Result<()>,
    ) -> Self {
        let now = Instant::now();
        Self {
            name,
            is_running,
            ensure_running,
            pauses: Box::new(retry::delays_up_to(PAUSE_MAX)),
            started: now,
            rest_until: now,
            fails: false,
        }
    }

    fn look_after(&mut self, folder: &Folder) {
        if (self.is_running)(folder) {
            self.fails = false;
        } else if Instant::now() >= self.rest_until {
            self.start_again(folder);
        }
    }

    fn start_again(&mut self, folder: &Folder) {
        if !self.fails && self.started.elapsed() > STABLE {
            self.pauses = Box::new(retry::delays_up_to(PAUSE_MAX));
        }
        let outcome = folder.gate().and_then(|_gate| {
            // Somebody else who uses the stack may have been faster.
            if !(self.is_running)(folder) {
                if !self.fails {
                    warn!(server = self.name, "{} of the local stack has ended; starting it again", self.name);
                }
                (self.ensure_running)(folder)?;
                info!(server = self.name, "{} of the local stack runs again", self.name);
            }
            Ok(())
        });
        match outcome {
            Ok(()) => self.fails = false,
            Err(error) => {
                if !self.fails {
                    error!(
                        server = self.name,
                        error = format!("{error:#}"),
                        "{} of the local stack does not start; trying again",
                        self.name
                    );
                }
                self.fails = true;
            }
        }
        self.started = Instant::now();
        self.rest_until = self.started + self.pauses.next().unwrap_or(PAUSE_MAX);
    }
}
