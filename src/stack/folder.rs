//! The state folder: who owns it, who uses it.

use std::{
    env,
    fs::{self, File, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::{Uid, User},
};

use super::process;
use crate::exit::{Exit, Refusal};

/// A Unix socket's path has at most 107 bytes; the server's own file names need some of them.
const SOCKET_FOLDER_BYTES_MAX: usize = 80;

/// The state folder and the user that its servers run as.
pub(super) struct Folder {
    path: PathBuf,
    /// Whom the servers run as, when that is not us: Postgres refuses to run as root.
    server_user: Option<User>,
    sync: bool,
}

/// What Redis takes for a pattern, Postgres for a list, and URLs for an end.
const MISREAD: &[char] = &['[', ']', '?', '*', '\\', '"', '\'', ',', '$', '#', '%', '&', '+'];

/// Refuses a folder by whose name the servers, or we, would find another one.
fn check_name(path: &Path) -> anyhow::Result<()> {
    let name = path.to_str().ok_or_else(|| {
        Refusal::new(
            Exit::Usage,
            format!(
                "the state folder {} has a name that is not UTF-8: choose another with --state-dir",
                path.display()
            ),
        )
    })?;
    if let Some(character) = name.chars().find(|character| MISREAD.contains(character) || character.is_control()) {
        let message = format!(
            "the name of the state folder {name} has {character:?}, which its servers read as something else: choose another with \
             --state-dir"
        );
        return Err(Refusal::new(Exit::Usage, message).into());
    }
    Ok(())
}

impl Folder {
    pub(super) fn open(path: Option<&Path>, sync: bool) -> anyhow::Result<Self> {
        let path = state_dir(path)?;
        check_name(&path)?;
        let server_user = if Uid::effective().is_root() { Some(unprivileged_user()?) } else { None };
        let folder = Self { path, server_user, sync };
        folder.create(&folder.path)?;
        folder.create(&folder.sockets())?;
        if let Some(user) = &folder.server_user {
            let inside = process::run_as(folder.server_user.as_ref(), "/bin/sh")
                .args(["-c", "cd \"$0\"", folder.path.to_str().unwrap_or_default()])
                .output()?;
            if !inside.status.success() {
                bail!(
                    "the servers run as user {}, who cannot enter {}: choose another folder with --state-dir",
                    user.name,
                    folder.path.display()
                );
            }
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn server_user(&self) -> Option<&User> {
        self.server_user.as_ref()
    }

    /// Whether its servers wait until the disk has what they write.
    pub(super) fn sync(&self) -> bool {
        self.sync
    }

    /// Where the sockets are: inside, or in the system's temporary folder where the path is too long for a socket.
    pub(super) fn sockets(&self) -> PathBuf {
        let inside = self.path.join("run");
        if inside.as_os_str().len() <= SOCKET_FOLDER_BYTES_MAX {
            return inside;
        }
        let mut hasher = DefaultHasher::new();
        self.path.hash(&mut hasher);
        Path::new("/tmp").join(format!("orderstream-{:016x}", hasher.finish()))
    }

    /// Creates a folder for the servers' user alone.
    pub(super) fn create(&self, path: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        if let Some(user) = &self.server_user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    /// One at a time starts or stops servers.
    pub(super) fn gate(&self) -> anyhow::Result<Flock<File>> {
        self.lock("gate.lock", FlockArg::LockExclusive)
    }

    /// The lock that users hold.
    pub(super) fn users(&self, how: FlockArg) -> anyhow::Result<Flock<File>> {
        self.lock("users.lock", how)
    }

    /// The users' lock for oneself alone, if nobody else holds it.
    pub(super) fn try_users_alone(&self) -> anyhow::Result<Option<Flock<File>>> {
        match Flock::lock(self.lock_file("users.lock")?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    fn lock(&self, name: &str, how: FlockArg) -> anyhow::Result<Flock<File>> {
        Flock::lock(self.lock_file(name)?, how).map_err(|(_, error)| error.into())
    }

    fn lock_file(&self, name: &str) -> anyhow::Result<File> {
        let path = self.path.join(name);
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }
}

/// The state folder: the one that is named, else that of the user.
///
/// # Errors
/// When none is named, and the user has no home.
pub(crate) fn state_dir(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    match named {
        Some(path) => Ok(std::path::absolute(path)?),
        None => default_path(),
    }
}

fn default_path() -> anyhow::Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/var/lib/orderstream"));
    }
    let state = env::var_os("XDG_STATE_HOME").filter(|state| !state.is_empty()).map(PathBuf::from);
    let home = || env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(".local/state"));
    let state =
        state.or_else(home).context("neither XDG_STATE_HOME nor HOME is set: name a folder with --state-dir")?;
    Ok(state.join("orderstream"))
}

/// The user that the distribution's package made for Postgres, or nobody.
fn unprivileged_user() -> anyhow::Result<User> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user);
        }
    }
    bail!("Postgres does not run as root, and there is no user postgres or nobody to run it as")
}
