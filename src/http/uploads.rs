//! Uploaded files: kept under a name until they are imported, so that what was accepted survives the process.
//!
//! A file is written under a name that ends in `.part`, is on the disk before anybody is told that it was accepted, and is
//! called `.csv` from then on. Whoever works on one holds a lock on it, which ends with the process.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use super::problem::{Code, Problem};

/// How the name of a file ends that is on its way.
const PART: &str = "part";

/// How the name of a file ends that is kept.
const KEPT: &str = "csv";

/// How the name of the file ends that has a byte for every process that began to import a file and has not ended it.
const TRIES: &str = "tries";

/// A file on its way that nobody holds is left from a crash; it takes a moment to lock a new one.
const PART_AGE_MAX: Duration = Duration::from_secs(60);

/// A kept file that Postgres knows no import of is left from a crash just before there was one.
const ORPHAN_AGE_MAX: Duration = Duration::from_secs(86_400);

/// The folder of uploads.
pub(super) struct Uploads {
    /// The folder, or why there is none.
    folder: Result<PathBuf, String>,
    /// Most bytes of all files together.
    bytes_max: u64,
}

impl Uploads {
    /// Keeps uploads of one installation in a folder below `folder`, up to so many bytes.
    pub(super) fn new(folder: anyhow::Result<PathBuf>, installation: &str, bytes_max: u64) -> Self {
        let created = folder.and_then(|folder| create(&folder.join(installation)));
        let folder = created.map_err(|error| {
            let why = crate::exit::chain(&error);
            tracing::warn!(error = why, "uploads cannot be kept: name a folder with --upload-dir");
            why
        });
        Self { folder, bytes_max }
    }

    fn folder(&self) -> Result<&Path, Problem> {
        let none = |why: &String| {
            let detail = format!("uploads cannot be kept here ({why}): name a folder with --upload-dir");
            Problem::new(Code::Busy, detail).retry_after(60)
        };
        self.folder.as_deref().map_err(none)
    }

    /// Begins to keep a file of at most `limit` bytes.
    ///
    /// # Errors
    /// When the folder has no room for it.
    pub(super) async fn begin(&self, limit: u64) -> Result<Incoming, Problem> {
        let folder = self.folder()?.to_owned();
        let bytes_max = self.bytes_max;
        let begun = tokio::task::spawn_blocking(move || {
            let taken: u64 = files(&folder)?.iter().map(|file| file.bytes).sum();
            if taken.saturating_add(limit.min(bytes_max)) > bytes_max {
                let text = format!("{taken} bytes of uploads wait to be imported, at most {bytes_max} may");
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
            }
            let file = tempfile::Builder::new()
                .prefix("upload-")
                .suffix(&format!(".{PART}"))
                .rand_bytes(16)
                .tempfile_in(&folder)?;
            let lock = lock(file.as_file().try_clone()?)?.ok_or(io::ErrorKind::ResourceBusy)?;
            let writer = tokio::fs::File::from_std(file.as_file().try_clone()?);
            Ok(Incoming { file, lock, writer })
        });
        begun.await.map_err(anyhow::Error::from)?.map_err(|error| no_room(&error))
    }

    /// The names of the files that are kept. Deletes what a crash has left.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn kept(&self) -> io::Result<Vec<String>> {
        let Ok(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for file in files(folder)? {
            if file.is_kept {
                names.push(file.name);
            } else if file.age > PART_AGE_MAX
                && let Some(left) = self.claim(&file.name)?
            {
                left.delete();
            }
        }
        Ok(names)
    }

    /// Takes hold of a file that nobody works on.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn claim(&self, name: &str) -> io::Result<Option<Upload>> {
        let Ok(folder) = &self.folder else { return Ok(None) };
        let path = folder.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whoever held it a moment ago may have deleted it.
        let upload = lock(file)?.map(|lock| Upload { name: name.to_owned(), path, _lock: lock });
        Ok(upload.filter(|upload| upload.path.exists()))
    }

    /// Takes hold of a file that belongs to no import, if it is old.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn claim_orphan(&self, name: &str) -> io::Result<Option<Upload>> {
        let Some(upload) = self.claim(name)? else { return Ok(None) };
        Ok((age(&fs::metadata(&upload.path)?) > ORPHAN_AGE_MAX).then_some(upload))
    }
}

/// A file on its way; gone when it is dropped.
pub(super) struct Incoming {
    file: NamedTempFile,
    lock: Flock<File>,
    writer: tokio::fs::File,
}

impl Incoming {
    /// Adds to it.
    ///
    /// # Errors
    /// When there is no room.
    pub(super) async fn write(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.writer.write_all(piece).await.map_err(|error| no_room(&error))
    }

    /// Puts all of it on the disk.
    ///
    /// # Errors
    /// When there is no room.
    pub(super) async fn sync(&mut self) -> Result<(), Problem> {
        self.writer.flush().await.map_err(|error| no_room(&error))?;
        self.writer.sync_all().await.map_err(|error| no_room(&error))
    }

    /// Keeps it, whatever happens to this process.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(super) async fn keep(self) -> Result<Upload, Problem> {
        let Self { file, lock, .. } = self;
        let kept = tokio::task::spawn_blocking(move || {
            let path = file.path().with_extension(KEPT);
            let folder = path.parent().map(Path::to_owned).unwrap_or_default();
            file.persist(&path).map_err(|error| error.error)?;
            File::open(folder)?.sync_all()?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Upload { name, path, _lock: lock })
        });
        kept.await.map_err(anyhow::Error::from)?.map_err(|error| no_room(&error))
    }
}

/// A file that is kept, in this process' hands.
pub(super) struct Upload {
    /// Its name in the folder.
    pub(super) name: String,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Upload {
    /// Its content.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// How many processes have begun to import it and did not come back to say how that ended.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(super) fn tries(&self) -> io::Result<u64> {
        match fs::metadata(self.tries_path()) {
            Ok(tries) => Ok(tries.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Notes that this process begins to import it.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub(super) fn count_try(&self) -> io::Result<()> {
        let mut tries = File::options().create(true).append(true).open(self.tries_path())?;
        tries.write_all(b".")?;
        tries.sync_all()
    }

    /// Notes that this process has come back from it.
    pub(super) fn forget_tries(&self) {
        match fs::remove_file(self.tries_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "the tries of an upload stay");
            }
            _ => {}
        }
    }

    fn tries_path(&self) -> PathBuf {
        self.path.with_extension(TRIES)
    }

    /// Nothing more is done with it.
    pub(super) fn delete(self) {
        self.forget_tries();
        if let Err(error) = fs::remove_file(&self.path) {
            // The next look finds it again.
            tracing::warn!(%error, path = %self.path.display(), "an upload stays");
        }
    }
}

/// A file of the folder.
struct Entry {
    name: String,
    bytes: u64,
    age: Duration,
    is_kept: bool,
}

fn files(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let extension = Path::new(&name).extension().unwrap_or_default();
        if extension != KEPT && extension != PART {
            continue;
        }
        // Another process may delete it at this moment.
        let Ok(metadata) = entry.metadata() else { continue };
        let is_kept = extension == KEPT;
        files.push(Entry { bytes: metadata.len(), age: age(&metadata), is_kept, name });
    }
    Ok(files)
}

/// How long ago it was written.
fn age(metadata: &fs::Metadata) -> Duration {
    metadata.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

/// The lock on a file; `None` where another process has it.
fn lock(file: File) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

/// Makes sure that the folder is there and can be written.
pub(super) fn create(folder: &Path) -> anyhow::Result<PathBuf> {
    use anyhow::Context;
    let tried = fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
    tried.with_context(|| format!("cannot keep files in {}", folder.display()))?;
    Ok(folder.to_owned())
}

fn no_room(error: &io::Error) -> Problem {
    tracing::warn!(%error, "an upload could not be kept");
    Problem::new(Code::Busy, format!("there is no room for the upload: {error}")).retry_after(60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uploads(folder: &Path) -> Uploads {
        Uploads::new(Ok(folder.to_owned()), "shop", 1_000)
    }

    #[tokio::test]
    async fn a_file_is_kept_once_it_is_whole_and_is_in_one_hand_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (uploads(folder.path()), uploads(folder.path()));
        let mut incoming = one.begin(10).await.expect("room");
        incoming.write(b"order").await.expect("written");
        incoming.sync().await.expect("written");
        assert!(one.kept().expect("names").is_empty(), "it is not whole yet");
        let upload = incoming.keep().await.expect("kept");
        let names = other.kept().expect("names");
        assert_eq!(names, std::slice::from_ref(&upload.name));
        assert!(other.claim(&names[0]).expect("a look").is_none(), "another has it in hand");
        drop(upload);
        let upload = other.claim(&names[0]).expect("a look").expect("nobody has it in hand");
        assert_eq!(io::read_to_string(upload.open().expect("a file")).expect("text"), "order");
        assert!(other.claim_orphan(&names[0]).expect("a look").is_none(), "it is in hand, and new");
        assert_eq!(upload.tries().expect("a number"), 0);
        for _ in 0..2 {
            upload.count_try().expect("noted");
        }
        assert_eq!(upload.tries().expect("a number"), 2);
        upload.forget_tries();
        assert_eq!(upload.tries().expect("a number"), 0);
        upload.delete();
        assert!(one.kept().expect("names").is_empty());
        drop(one.begin(10).await.expect("room"));
        assert_eq!(fs::read_dir(folder.path().join("shop")).expect("a folder").count(), 0, "given up, nothing stays");
    }

    #[tokio::test]
    async fn there_is_room_for_so_many_bytes_and_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let uploads = uploads(folder.path());
        let mut incoming = uploads.begin(1_000).await.expect("room");
        incoming.write(&[b'x'; 600]).await.expect("written");
        incoming.sync().await.expect("written");
        let refused = uploads.begin(500).await.map(|_| ()).expect_err("no room");
        assert_eq!(refused.code(), Code::Busy);
        assert!(refused.detail().contains("600 bytes"), "{}", refused.detail());
        uploads.begin(400).await.map(|_| ()).expect("room for this one");
    }

    #[tokio::test]
    async fn without_a_folder_uploads_are_refused_and_the_way_out_is_said() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let uploads = uploads(file.path());
        let refused = uploads.begin(1).await.map(|_| ()).expect_err("no folder");
        assert!(refused.detail().contains("--upload-dir"), "{}", refused.detail());
        assert!(uploads.kept().expect("names").is_empty());
    }
}
