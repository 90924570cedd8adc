//! Reading one file, with its rejected rows on the side.

use std::{
    env,
    fs::{self, File as FsFile},
    io::{self, BufWriter, Read, Write},
    ops::ControlFlow,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, bail};
use pipeline::{shutdown::Shutdown, store::ImportKind};

use crate::{
    cli::ImportArgs,
    exit::{Exit, Refusal},
    import::{self, Parsed, ParsedRefunds, ReadError, ReadOptions, Reject, RejectSink, RejectWriter},
    output::thousands,
    progress::Progress,
};

/// Rejected rows that are shown at once; all of them are in the reject file.
const SHOWN_MAX: u64 = 5;

/// How often progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Bytes of a file from which one can tell whether it is a reject file.
const REJECT_HEADER_MAX: u64 = 256;

/// How long an interrupted reader may take to notice: it looks between reads, and a pipe may never send more.
const INTERRUPT_PATIENCE: Duration = Duration::from_secs(1);

/// A file to import, open.
pub(crate) struct File {
    pub(crate) name: String,
    pub(super) kind: ImportKind,
    pub(crate) rejects: PathBuf,
    length: Option<u64>,
    reader: Box<dyn Read + Send>,
}

impl File {
    /// Whether a path can be imported at all.
    pub(super) fn check(path: &Path, rejects: Option<&Path>) -> anyhow::Result<()> {
        if path.as_os_str() == "-" {
            return Self::check_rejects(&rejects_of(path, rejects));
        }
        let metadata = fs::metadata(path).with_context(|| format!("cannot import {}", path.display()))?;
        if metadata.is_dir() {
            bail!("cannot import {}: it is a directory; name the files in it", path.display());
        }
        // The first rejected row would empty the file that is being read.
        let same = |other: &fs::Metadata| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino());
        if let Some(rejects) = rejects.filter(|rejects| fs::metadata(rejects).is_ok_and(|other| same(&other))) {
            let message = format!("--rejects {} would overwrite the file that is imported", rejects.display());
            return Err(Refusal::new(Exit::Usage, message).into());
        }
        Self::check_rejects(&rejects_of(path, rejects))
    }

    /// Refuses where the reject file would take another file's place. That of an earlier import gives way.
    fn check_rejects(rejects: &Path) -> anyhow::Result<()> {
        // Devices and pipes have nothing to lose, and what cannot be read or written says so itself.
        if !fs::metadata(rejects).is_ok_and(|metadata| metadata.is_file()) {
            return Ok(());
        }
        let Ok(file) = FsFile::open(rejects) else { return Ok(()) };
        let mut start = Vec::new();
        file.take(REJECT_HEADER_MAX).read_to_end(&mut start)?;
        if start.is_empty() || import::is_reject_file(&start) {
            return Ok(());
        }
        let message = format!(
            "rejected rows would overwrite {}, which no import has written: move it away, or name another file with --rejects",
            rejects.display()
        );
        Err(Refusal::new(Exit::Usage, message).into())
    }

    /// An uploaded file of orders, under the name that its sender gave it.
    pub(crate) fn upload(name: &str, file: FsFile, rejects: PathBuf) -> io::Result<Self> {
        let length = Some(file.metadata()?.len());
        Ok(Self { name: name.to_owned(), kind: ImportKind::Orders, rejects, length, reader: Box::new(file) })
    }

    pub(super) fn open(path: &Path, args: &ImportArgs) -> anyhow::Result<Self> {
        Self::check(path, args.rejects.as_deref())?;
        let kind = if args.refunds { ImportKind::Refunds } else { ImportKind::Orders };
        let rejects = rejects_of(path, args.rejects.as_deref());
        let (name, length, reader): (String, Option<u64>, Box<dyn Read + Send>) = match path.as_os_str() == "-" {
            true => ("-".to_owned(), None, Box::new(io::stdin())),
            false => {
                let name = path.display().to_string();
                let file = FsFile::open(path).with_context(|| format!("cannot open {name}"))?;
                let metadata = file.metadata()?;
                (name, metadata.is_file().then_some(metadata.len()), Box::new(file))
            }
        };
        Ok(Self { name, kind, rejects, length, reader })
    }
}

/// Where the rejected rows of a file go.
fn rejects_of(path: &Path, named: Option<&Path>) -> PathBuf {
    match named {
        Some(named) => named.to_owned(),
        None if path.as_os_str() == "-" => PathBuf::from("stdin.rejects.csv"),
        None => PathBuf::from(format!("{}.rejects.csv", path.display())),
    }
}

/// Where temporary files go: TMPDIR if it is set, else /var/tmp, because /tmp is memory on many systems.
pub(crate) fn spill_dir() -> PathBuf {
    let named = env::var_os("TMPDIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let on_disk = || Some(PathBuf::from("/var/tmp")).filter(|folder| folder.is_dir());
    named.or_else(on_disk).unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// Reads a file of orders to its end; `None` when the signal came first.
pub(super) async fn read(
    file: File,
    args: &ImportArgs,
    progress: &mut Progress,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Parsed>> {
    read_as(import::read, file, args, progress, shutdown).await
}

/// Reads a file of refunds to its end; `None` when the signal came first.
pub(super) async fn read_refunds(
    file: File,
    args: &ImportArgs,
    progress: &mut Progress,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<ParsedRefunds>> {
    read_as(import::read_refunds, file, args, progress, shutdown).await
}

/// One of the ways to read a file.
type Reader<T> = fn(
    Box<dyn Read + Send>,
    &ReadOptions,
    &mut RejectSink<'_>,
    &mut dyn FnMut(import::Progress) -> ControlFlow<()>,
) -> Result<T, ReadError>;

async fn read_as<T: Send + 'static>(
    reader: Reader<T>,
    file: File,
    args: &ImportArgs,
    progress: &mut Progress,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<T>> {
    progress.phase("Reading", file.length);
    let options =
        ReadOptions { strict: args.strict, memory_bytes_max: usize::try_from(args.memory)?, spill_dir: spill_dir() };
    let (reports, inbox) = mpsc::channel();
    let stop = shutdown.clone();
    let name = file.name.clone();
    let mut reading = tokio::task::spawn_blocking(move || read_blocking(reader, file, &options, &stop, &reports));
    let read = loop {
        if let Some(import::Progress { bytes, rows }) = inbox.try_iter().last() {
            let rate = progress.rate(rows);
            progress.show(bytes, || format!("{} rows, {}/s", thousands(rows), thousands(rate)));
        }
        let stopping = shutdown.has_begun();
        let patience = if stopping { INTERRUPT_PATIENCE } else { DRAW_EVERY };
        match tokio::time::timeout(patience, &mut reading).await {
            Ok(read) => break read?,
            Err(_) if stopping => return Ok(None),
            Err(_) => {}
        }
    };
    progress.end();
    match read {
        Ok(parsed) => Ok(Some(parsed)),
        Err(ReadError::Interrupted) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot import {name}")),
    }
}

fn read_blocking<T>(
    reader: Reader<T>,
    file: File,
    options: &ReadOptions,
    stop: &Shutdown,
    reports: &mpsc::Sender<import::Progress>,
) -> Result<T, ReadError> {
    let mut rejects = Rejects { name: file.name, kind: file.kind, path: file.rejects, writer: None, count: 0 };
    let parsed = reader(file.reader, options, &mut |reject| rejects.take(reject), &mut |progress| {
        if stop.has_begun() || reports.send(progress).is_err() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    rejects.finish().map_err(ReadError::Rejects)?;
    Ok(parsed)
}

/// The reject file, which comes into being with the first rejected row.
struct Rejects {
    name: String,
    kind: ImportKind,
    path: PathBuf,
    writer: Option<RejectWriter<BufWriter<FsFile>>>,
    count: u64,
}

impl Rejects {
    fn take(&mut self, reject: &Reject<'_>) -> io::Result<()> {
        if self.writer.is_none() {
            let file = FsFile::create(&self.path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}; name another with --rejects", self.path.display()))
            })?;
            let out = BufWriter::new(file);
            self.writer = Some(match self.kind {
                ImportKind::Orders => RejectWriter::new(out)?,
                ImportKind::Refunds => RejectWriter::of_refunds(out)?,
            });
        }
        self.count += 1;
        if self.count <= SHOWN_MAX {
            let column = reject.column.map(|column| format!(", column {column}")).unwrap_or_default();
            crate::output::note!(
                "{}, line {}{column}: {} [{}]",
                self.name,
                reject.line,
                reject.message(),
                reject.reason.code()
            );
        } else if self.count == SHOWN_MAX + 1 {
            crate::output::note!("… more rejected rows are in {}", self.path.display());
        }
        match &mut self.writer {
            Some(writer) => writer.write(&self.name, reject),
            None => Ok(()),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self.writer {
            Some(writer) => writer.finish()?.flush(),
            None => Ok(()),
        }
    }
}
