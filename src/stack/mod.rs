//! The local stack: a private Postgres and Redis in a state folder, for laptops, tests and demos. Real servers with
//! durable settings (unless told otherwise), on Unix sockets only.
//!
//! Any number of commands may use one stack at the same time. The first one starts the servers, the last one stops
//! them; after a crash the next one takes over what it finds, running or not. A server that dies meanwhile is started
//! again by whoever notices first.

mod folder;
mod postgres;
mod process;
mod redis;
mod supervisor;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};

use crate::config::Servers;
use folder::Folder;
pub(crate) use folder::state_dir;
use supervisor::Supervisor;

/// A running stack that this process uses. Servers stop when the last user is dropped.
pub struct Stack {
    path: PathBuf,
    servers: Servers,
    place: Arc<Place>,
}

/// What a user holds, until it has left: by itself, or because the process is asked to end.
type Place = Mutex<Option<User>>;

/// The places of this process. Whoever ends it at once has them left first: nothing is dropped then.
static PLACES: Mutex<Vec<Arc<Place>>> = Mutex::new(Vec::new());

/// A user of a stack.
struct User {
    folder: Arc<Folder>,
    /// Ends before the servers do.
    supervisor: Option<Supervisor>,
    /// Held shared by every user.
    users: Flock<File>,
}

impl Stack {
    /// Uses the stack in `folder`, starting it where it does not run; with `sync`, its servers wait for the disk.
    ///
    /// # Errors
    /// When a server program is missing (with the command that installs it), or does not start (with its log).
    pub fn enter(folder: Option<&Path>, sync: bool) -> anyhow::Result<Self> {
        let place = Arc::new(Place::default());
        // Whoever is asked to end meanwhile waits for this, and then leaves.
        let mut entering = open(&place);
        open(&PLACES).push(Arc::clone(&place));
        let folder = Arc::new(Folder::open(folder, sync)?);
        let gate = folder.gate()?;
        let users = folder.users(FlockArg::LockShared)?;
        let user = entering.insert(User { folder: Arc::clone(&folder), supervisor: None, users });
        let started = postgres::ensure_running(&folder).and_then(|()| redis::ensure_running(&folder));
        drop(gate);
        let supervised = started.and_then(|()| {
            let supervisor = Supervisor::start(Arc::clone(&folder)).context("cannot look after the local stack")?;
            user.supervisor = Some(supervisor);
            Ok(())
        });
        if let Err(error) = supervised {
            // One of the two may run.
            leave(&mut entering);
            return Err(error);
        }
        let servers = Servers { database_url: postgres::url(&folder), redis_url: redis::url(&folder) };
        Ok(Self { path: folder.path().to_owned(), servers, place: Arc::clone(&place) })
    }

    /// How to reach the servers.
    pub fn servers(&self) -> Servers {
        self.servers.clone()
    }

    /// The state folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        leave(&mut open(&self.place));
    }
}

/// Leaves every stack that this process uses. Waits for one that is being entered or left.
pub(crate) fn leave_all() {
    let places: Vec<Arc<Place>> = open(&PLACES).drain(..).collect();
    for place in places {
        leave(&mut open(&place));
    }
}

fn leave(place: &mut Option<User>) {
    let Some(user) = place.take() else { return };
    let folder = Arc::clone(&user.folder);
    if let Err(error) = user.leave() {
        tracing::warn!("the local stack in {} was not stopped: {error:#}", folder.path().display());
    }
}

fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl User {
    fn leave(self) -> anyhow::Result<()> {
        drop(self.supervisor);
        let _gate = self.folder.gate()?;
        drop(self.users);
        // Someone else's shared lock keeps the servers up; they will stop them.
        if self.folder.try_users_alone()?.is_some() {
            redis::stop(&self.folder).context("cannot stop Redis")?;
            postgres::stop(&self.folder).context("cannot stop Postgres")?;
        }
        Ok(())
    }
}
