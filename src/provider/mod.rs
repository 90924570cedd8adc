//! A payment provider to try the pipeline with: `orderstream gateway`.
//!
//! It keeps the contract of docs/GATEWAY.md from the other side and shares no code with the client in
//! [`crate::gateway`], but for the signature of callbacks. What it answers is on disk before; what goes wrong is decided
//! by `faults`.
//!
//! | what | where |
//! |---|---|
//! | requests and answers | `api`, `problem` |
//! | what is booked, and the rules | `book` |
//! | the file | `ledger` |
//! | decisions that come later, and callbacks | `decisions` |

mod api;
mod book;
mod decisions;
mod faults;
mod ledger;
mod problem;

use std::{
    future::IntoFuture,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::serve::ListenerExt;
use pipeline::{gateway::Simulator, shutdown::Shutdown};
use tokio::{net::TcpListener, time::timeout};
use tracing::warn;

pub use decisions::CallbackTarget;
pub use faults::{Fault, Faults};

use book::Book;
use decisions::Sender;
use ledger::{Flushed, Ledger};

/// How long requests in hand may take when the provider stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How the provider behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Where the ledger is kept.
    pub ledger: PathBuf,
    /// What is asked of those who call; anybody may if there is none.
    pub key: Option<String>,
    /// Which charges are approved: as the simulator does.
    pub approvals: Simulator,
    /// What goes wrong.
    pub faults: Faults,
    /// How long an answer takes.
    pub latency: Duration,
    /// By how much an answer may be faster or slower.
    pub jitter: Duration,
    /// Who is told of decisions.
    pub callback: Option<CallbackTarget>,
    /// When what is pending is decided.
    pub callback_after: Duration,
    /// When what is late is decided.
    pub late_after: Duration,
}

/// What all requests share. Clones are the same provider.
#[derive(Debug, Clone)]
struct Provider {
    behaviour: Arc<Behaviour>,
    books: Arc<Mutex<Books>>,
    flushed: Flushed,
    sender: Option<Sender>,
    shutdown: Shutdown,
}

/// The book and its file, changed together.
#[derive(Debug)]
struct Books {
    book: Book,
    ledger: Ledger,
}

impl Provider {
    fn open(behaviour: Behaviour, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let mut book = Book::empty();
        let ledger = Ledger::open(&behaviour.ledger, |fact| book.learn(fact))?;
        let sender = behaviour.callback.clone().map(Sender::new).transpose()?;
        Ok(Self {
            flushed: ledger.flushed(),
            books: Arc::new(Mutex::new(Books { book, ledger })),
            sender,
            behaviour: Arc::new(behaviour),
            shutdown: shutdown.clone(),
        })
    }

    /// Never held across a wait.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the signal; `ready` is called once the ledger is read. Everything that was answered is on disk.
///
/// # Errors
/// When the ledger cannot be read or written, or the listener fails.
pub async fn serve(
    listener: TcpListener,
    behaviour: Behaviour,
    shutdown: &Shutdown,
    ready: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let provider = Provider::open(behaviour, shutdown)?;
    provider.resume();
    ready()?;
    // Answers are small, and each is waited for.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            warn!(%error, "a connection that cannot be made quick");
        }
    });
    let begun = shutdown.clone();
    let server = axum::serve(listener, api::routes(provider.clone()));
    let served = server.with_graceful_shutdown(async move { begun.begun().await });
    tokio::select! {
        served = served.into_future() => served?,
        // A client that keeps its request half sent keeps nobody else.
        () = async { shutdown.begun().await; tokio::time::sleep(STOP_MAX).await } => {
            warn!("stopped with requests in hand");
        }
    }
    let last = provider.books().ledger.last();
    timeout(STOP_MAX, provider.flushed.reaches(last)).await??;
    Ok(())
}
