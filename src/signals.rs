//! What asks a process to end: Ctrl-C, SIGTERM, and a terminal that is closed (SIGHUP).

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use pipeline::shutdown::Shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{exit::Exit, stack};

/// Signals within this time are one.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Whether the command ends by itself when it is asked to.
static EXPECTED: AtomicBool = AtomicBool::new(false);

/// Whether the process ends at once, as soon as it has left the local stack.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The signals that ask for an end.
pub(crate) struct Requests {
    interrupt: Signal,
    terminate: Signal,
    /// None where somebody wants the process to outlive its terminal, as `nohup` does.
    hangup: Option<Signal>,
}

impl Requests {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system hands out no signals.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: hangups()?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = next_of(&mut self.hangup) => {}
        }
    }
}

/// The signal of a terminal that is closed, unless it is ignored: whoever started us wants that.
///
/// # Errors
/// When the system hands out no signals.
pub(crate) fn hangups() -> anyhow::Result<Option<Signal>> {
    Ok(if is_ignored(SignalKind::hangup()) { None } else { Some(signal(SignalKind::hangup())?) })
}

/// Waits for the next one; without the signal for ever.
pub(crate) async fn next_of(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether this process ignores a signal.
fn is_ignored(kind: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}

/// A shutdown that a request begins. A second one ends the process at once, but for the local stack, which is stopped; a
/// third one does not wait for that, either.
///
/// # Errors
/// When the system hands out no signals.
pub fn shutdown_on_signal() -> anyhow::Result<Shutdown> {
    let shutdown = Shutdown::default();
    let mut requests = Requests::listen()?;
    EXPECTED.store(true, Ordering::Release);
    let begun = shutdown.clone();
    tokio::spawn(async move {
        let mut last: Option<Instant> = None;
        loop {
            requests.next().await;
            // A terminal and its caller may both send the signal; only a later one is another wish.
            match last {
                None => begun.begin(),
                Some(last) if last.elapsed() <= SAME_WISH => continue,
                Some(_) => end_at_once(&mut requests).await,
            }
            last = Some(Instant::now());
        }
    });
    Ok(shutdown)
}

/// Stops the local stack, if this process uses one, when a command is asked to end that does not listen itself.
///
/// # Errors
/// When the system hands out no signals.
pub(crate) fn leave_stack_on_signal() -> anyhow::Result<()> {
    let mut requests = Requests::listen()?;
    tokio::spawn(async move {
        loop {
            requests.next().await;
            if !EXPECTED.load(Ordering::Acquire) {
                end_at_once(&mut requests).await;
            }
        }
    });
    Ok(())
}

/// Whether the process ends as soon as nothing of it is in the way.
pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::Acquire)
}

/// Never returns where the process is about to end at once: what a command comes to whose servers are being stopped is
/// nobody's business.
pub(crate) fn await_end() {
    while is_ending() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the process without waiting for what it does.
async fn end_at_once(requests: &mut Requests) {
    ENDING.store(true, Ordering::Release);
    let left = tokio::task::spawn_blocking(stack::leave_all);
    let impatient = async {
        let begun = Instant::now();
        while begun.elapsed() <= SAME_WISH {
            requests.next().await;
        }
    };
    tokio::select! {
        _ = left => {}
        () = impatient => {}
    }
    std::process::exit(i32::from(Exit::Interrupted.code()));
}
