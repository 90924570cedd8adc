//! `orderstream dead export` and `import`: letters as lines of JSON, byte for byte.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
    sync::mpsc,
};

use anyhow::{Context, Result};
use base64::{Engine, prelude::BASE64_STANDARD};
use pipeline::{
    message::Entry,
    streams::{DeadLetter, Direction, Fields, LetterId, ReplayMark},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Desk, selection::Selection};
use crate::{
    cli::dead::{ExportArgs, ImportLettersArgs, Which},
    commands::shutdown_on_signal,
    config::Globals,
    exit::{Exit, Refusal},
    output::{self, cut, inert, thousands},
    progress::Progress,
};

/// Most bytes in a line of an import.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Most fields in a letter that is imported: no letter of ours has a tenth of it, and one command can pass it.
const FIELDS_MAX: usize = 100_000;

/// Lines that are read ahead.
const LINES_AHEAD: usize = 4;

/// Bad lines that are named; the rest is counted.
const NAMED_MAX: u64 = 100;

/// A field as text, or as base64 where it is not UTF-8.
#[derive(Serialize)]
pub(super) struct WireField<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl<'a> WireField<'a> {
    pub(super) fn of((name, value): &'a (Vec<u8>, Vec<u8>)) -> Self {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).ok();
        let base64 = |bytes: &[u8]| std::str::from_utf8(bytes).is_err().then(|| BASE64_STANDARD.encode(bytes));
        Self { name: text(name), name_base64: base64(name), value: text(value), value_base64: base64(value) }
    }
}

/// A field in an import. Names that are not known are ignored.
#[derive(Deserialize)]
struct ReadField {
    name: Option<String>,
    name_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
}

impl ReadField {
    fn bytes(self) -> Result<(Vec<u8>, Vec<u8>), String> {
        let one = |text: Option<String>, base64: Option<String>, what: &str| match (text, base64) {
            (Some(text), None) => Ok(text.into_bytes()),
            (None, Some(base64)) => BASE64_STANDARD.decode(base64).map_err(|error| format!("{what}_base64: {error}")),
            _ => Err(format!("a field needs either {what} or {what}_base64")),
        };
        Ok((one(self.name, self.name_base64, "name")?, one(self.value, self.value_base64, "value")?))
    }
}

/// A letter as a line of an export, without its end; and whether `dead import` would take it back.
///
/// # Errors
/// Never, as texts are always JSON.
pub(crate) fn line(letter: &DeadLetter) -> serde_json::Result<(Vec<u8>, bool)> {
    #[derive(Serialize)]
    struct Line<'a> {
        id: LetterId,
        fields: Vec<WireField<'a>>,
        replayed: &'a Option<ReplayMark>,
    }

    let fields: Vec<WireField<'_>> = letter.fields().map(WireField::of).collect();
    let too_many = fields.len() > FIELDS_MAX;
    let line = serde_json::to_string(&Line { id: letter.id, fields, replayed: &letter.replayed })?;
    // Lines may be shown on a terminal: the same text to whoever reads JSON.
    let line = output::inert_json(line).into_bytes();
    let fits = !too_many && line.len() <= LINE_BYTES_MAX;
    Ok((line, fits))
}

pub(super) async fn export(desk: &mut Desk, args: ExportArgs, globals: &Globals) -> Result<Exit> {
    let mut selection = Selection::new(desk, args.which, Direction::OldestFirst, None).await?;
    let shutdown = shutdown_on_signal()?;
    let file = args.output.as_deref().map(create).transpose()?;
    let mut writer: BufWriter<Box<dyn Write + Send>> = BufWriter::new(match &file {
        Some(file) => Box::new(file.try_clone()?),
        None => Box::new(io::stdout()),
    });
    let (mut exported, mut too_long, mut interrupted) = (0_u64, 0_u64, false);
    let mut progress = Progress::new(globals.quiet);
    progress.phase("export", Some(selection.total));
    'pages: while let Some(page) = selection.next_page(desk).await? {
        if shutdown.has_begun() {
            interrupted = true;
            break;
        }
        for letter in &page {
            let (mut line, fits) = line(letter)?;
            too_long += u64::from(!fits);
            line.push(b'\n');
            match writer.write_all(&line) {
                // `orderstream dead export | head` ends the reader first.
                Err(error) if file.is_none() && error.kind() == io::ErrorKind::BrokenPipe => break 'pages,
                written => written.context("cannot write the export")?,
            }
            exported += 1;
        }
        progress.show(selection.seen, || format!("{} letters", thousands(exported)));
    }
    match writer.flush() {
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::BrokenPipe => {}
        flushed => flushed.context("cannot write the export")?,
    }
    if let Some(file) = &file {
        // Whoever sees the summary may discard the letters.
        file.sync_all().context("cannot write the export")?;
    }
    progress.end();
    selection.report_missing();
    if too_long > 0 {
        progress.note(&format!("{too_long} letters are too large for `dead import` to take back"));
    }
    if globals.json && file.is_some() {
        output::json(
            &serde_json::json!({ "exported": exported, "missing": selection.missing, "interrupted": interrupted }),
        )?;
    } else {
        let end = if interrupted { ", then interrupted: the export is not complete" } else { "" };
        progress.note(&format!("{} letters exported{end}", thousands(exported)));
    }
    Ok(match () {
        () if interrupted => Exit::Interrupted,
        () if !selection.missing.is_empty() => Exit::NotFound,
        () => Exit::Done,
    })
}

/// An export never overwrites another: its letters may be nowhere else.
fn create(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let message =
                format!("{} exists and may hold letters that are nowhere else: name a new file", path.display());
            Refusal::new(Exit::Conflict, message).into()
        }
        _ => anyhow::Error::from(error).context(format!("cannot write {}", path.display())),
    })
}

/// What became of an import.
#[derive(Debug, Default, Serialize)]
struct Imported {
    dry_run: bool,
    interrupted: bool,
    imported: u64,
    /// Letters that are there already.
    skipped: u64,
    refused: u64,
    /// The first hundred bad lines.
    errors: Vec<BadLine>,
}

#[derive(Debug, Serialize)]
struct BadLine {
    line: u64,
    error: String,
}

pub(super) async fn import(desk: &mut Desk, args: &ImportLettersArgs, globals: &Globals) -> Result<Exit> {
    let shutdown = shutdown_on_signal()?;
    let lines = read_lines(&args.file)?;
    let mut progress = Progress::new(globals.quiet);
    let Some(mut known) = known_letters(desk, &mut progress, &shutdown).await? else { return Ok(Exit::Interrupted) };
    let mut report = Imported { dry_run: args.dry_run, ..Imported::default() };
    progress.phase("import", None);
    for line in 1_u64.. {
        // The reader may wait in a pipe; an interrupt does not.
        let next = tokio::task::block_in_place(|| {
            while !shutdown.has_begun() {
                match lines.recv_timeout(std::time::Duration::from_millis(100)) {
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Ok(next) => return Some(next),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return None,
                }
            }
            None
        });
        let Some(next) = next else { break };
        let text = match next.with_context(|| format!("cannot read {}", args.file.display()))? {
            Some(text) if text.trim_ascii().is_empty() => continue,
            text => text,
        };
        let read = text.ok_or_else(|| format!("has more than {LINE_BYTES_MAX} bytes"));
        match read.and_then(|text| parse(&text, desk.partitions)) {
            Ok(letter) if !known.insert(identity(&letter)) => report.skipped += 1,
            Ok(letter) => {
                if !args.dry_run {
                    desk.redis.import_dead_letter(&mut desk.connection, letter).await?;
                }
                report.imported += 1;
            }
            Err(error) => {
                report.refused += 1;
                if report.refused <= NAMED_MAX {
                    report.errors.push(BadLine { line, error: cut(&inert(error.as_bytes(), false), 300) });
                }
            }
        }
        progress.show(line, || format!("{} letters", thousands(report.imported)));
    }
    report.interrupted = shutdown.has_begun();
    progress.end();
    let exit = match () {
        () if report.interrupted => Exit::Interrupted,
        () if report.refused > 0 => Exit::Rejected,
        () => Exit::Done,
    };
    if globals.json {
        output::json(&report)?;
        return Ok(exit);
    }
    for bad in &report.errors {
        crate::output::note!("error: line {}: {}", bad.line, bad.error);
    }
    let Imported { imported, skipped, refused, .. } = report;
    let [imported, skipped, refused] = [imported, skipped, refused].map(thousands);
    let prefix = if args.dry_run { "This would be: " } else { "" };
    let end = if report.interrupted { "; interrupted, run it again for the rest" } else { "" };
    output::text_line(&format!(
        "{prefix}{imported} imported, {skipped} skipped (still there), {refused} refused{end}"
    ))?;
    Ok(exit)
}

/// The letters that there are; `None` when interrupted.
async fn known_letters(
    desk: &mut Desk,
    progress: &mut Progress,
    shutdown: &pipeline::shutdown::Shutdown,
) -> Result<Option<HashSet<[u8; 32]>>> {
    let mut selection = Selection::new(desk, Which::default(), Direction::OldestFirst, None).await?;
    let mut known = HashSet::new();
    progress.phase("look", Some(selection.total));
    while let Some(page) = selection.next_page(desk).await? {
        if shutdown.has_begun() {
            return Ok(None);
        }
        known.extend(page.iter().map(identity));
        progress.show(selection.seen, || format!("{} letters there", thousands(selection.seen)));
    }
    Ok(Some(known))
}

/// A letter's identity in few bytes, so that a million of them fit into memory.
fn identity(letter: &DeadLetter) -> [u8; 32] {
    let (first, fields) = letter.identity();
    let mut hash = Sha256::new();
    hash.update(letter.id.partition.to_le_bytes());
    hash.update(first.ms.to_le_bytes());
    hash.update(first.seq.to_le_bytes());
    for part in fields.iter().flat_map(|(name, value)| [name, value]) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn parse(line: &[u8], partitions: u16) -> Result<DeadLetter, String> {
    #[derive(Deserialize)]
    struct Line {
        id: String,
        fields: Vec<ReadField>,
        #[serde(default)]
        replayed: Option<ReplayMark>,
    }
    let Line { id, fields, replayed } =
        serde_json::from_slice(line).map_err(|error| format!("is no exported letter: {error}"))?;
    let id: LetterId = id.parse().map_err(|error| format!("id {id:?}: {error}"))?;
    if id.partition >= partitions {
        return Err(format!("there is no partition {}: this installation has {partitions}", id.partition));
    }
    if fields.is_empty() || fields.len() > FIELDS_MAX {
        return Err(format!("has {} fields, from 1 to {FIELDS_MAX} can be taken", fields.len()));
    }
    let fields: Fields = fields.into_iter().map(ReadField::bytes).collect::<Result<_, _>>()?;
    Ok(DeadLetter::new(id.partition, Entry { id: id.entry, fields }, replayed))
}

/// Reads lines on a thread of its own: it may wait in a pipe. `None` stands for a line that is too long.
fn read_lines(path: &Path) -> Result<mpsc::Receiver<io::Result<Option<Vec<u8>>>>> {
    let source: Box<dyn Read + Send> = match path.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).with_context(|| format!("cannot open {}", path.display()))?),
    };
    let (sender, receiver) = mpsc::sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(source);
        while let Some(line) = next_line(&mut reader).transpose() {
            let failed = line.is_err();
            if sender.send(line).is_err() || failed {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The next line; inside, `None` stands for one that is too long.
#[allow(clippy::option_option, reason = "no more lines, or a line without content")]
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    let most = LINE_BYTES_MAX as u64 + 1;
    if reader.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() <= LINE_BYTES_MAX || line.ends_with(b"\n") {
        return Ok(Some(Some(line)));
    }
    reader.skip_until(b'\n')?;
    Ok(Some(None))
}
