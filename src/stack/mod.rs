//! The local stack: a private Postgres and Redis in a state folder, for laptops, tests and demos. Real servers with
//! durable settings, on Unix sockets only.
//!
//! Any number of commands may use one stack at the same time. The first one starts the servers, the last one stops
//! them; after a crash the next one takes over what it finds, running or not. A server that dies meanwhile is started
//! again by whoever notices first.

mod folder;
mod postgres;
mod process;
mod redis;
mod supervisor;

use std::{fs::File, path::Path, sync::Arc};

use anyhow::Context;
use nix::fcntl::{Flock, FlockArg};

use crate::config::Servers;
use folder::Folder;
use supervisor::Supervisor;

/// A running stack that this process uses. Servers stop when the last user is dropped.
pub struct Stack {
    folder: Arc<Folder>,
    /// Ends before the servers do.
    supervisor: Option<Supervisor>,
    /// Held shared by every user.
    users: Option<Flock<File>>,
}

impl Stack {
    /// Uses the stack in `folder`, starting it where it does not run.
    ///
    /// # Errors
    /// When a server program is missing (with the command that installs it), or does not start (with its log).
    pub fn enter(folder: Option<&Path>) -> anyhow::Result<Self> {
        let folder = Arc::new(Folder::open(folder)?);
        let gate = folder.gate()?;
        let users = folder.users(FlockArg::LockShared)?;
        postgres::ensure_running(&folder)?;
        redis::ensure_running(&folder)?;
        drop(gate);
        let supervisor = Supervisor::start(Arc::clone(&folder)).context("cannot look after the local stack")?;
        Ok(Self { folder, supervisor: Some(supervisor), users: Some(users) })
    }

    /// How to reach the servers.
    pub fn servers(&self) -> Servers {
        Servers { database_url: postgres::url(&self.folder), redis_url: redis::url(&self.folder) }
    }

    /// The state folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn leave(&mut self) -> anyhow::Result<()> {
        drop(self.supervisor.take());
        let _gate = self.folder.gate()?;
        drop(self.users.take());
        // Someone else's shared lock keeps the servers up; they will stop them.
        if self.folder.try_users_alone()?.is_some() {
            redis::stop(&self.folder).context("cannot stop Redis")?;
            postgres::stop(&self.folder).context("cannot stop Postgres")?;
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            eprintln!("warning: the local stack in {} was not stopped: {error:#}", self.folder.path().display());
        }
    }
}
