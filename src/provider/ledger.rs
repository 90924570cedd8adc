//! The ledger on disk: a line for every fact, and none is spoken of before it is on disk.
//!
//! A thread of its own writes. It takes all lines that wait, and flushes them together: as many requests as come while
//! one flush goes on share the next.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
    sync::mpsc,
    thread,
};

use anyhow::Context;
use pipeline::domain::Cents;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{error, warn};

use super::book::{Kind, Status};

/// A fact, as it stands in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub(super) enum Fact {
    /// A charge or refund was made.
    Booked(Booked),
    /// What was pending is decided.
    Decided {
        /// Of the charge or refund.
        id: String,
        /// The decision.
        status: Status,
    },
    /// The callback with the decision arrived.
    Delivered {
        /// Of the charge or refund.
        id: String,
    },
}

/// A charge or refund as it was first answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Booked {
    pub(super) kind: Kind,
    pub(super) id: String,
    /// The idempotency key.
    pub(super) key: String,
    /// Fingerprint of the body that came with the key.
    pub(super) body: String,
    pub(super) reference: String,
    /// Minor units.
    #[serde(with = "minor_units")]
    pub(super) cents: Cents,
    pub(super) currency: String,
    pub(super) status: Status,
    /// Of a refund: the charge's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) charge: Option<String>,
    /// Milliseconds since 1970.
    pub(super) at: i64,
}

mod minor_units {
    use pipeline::domain::Cents;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    pub(super) fn serialize<S: Serializer>(cents: &Cents, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(cents.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cents, D::Error> {
        i64::deserialize(deserializer).map(Cents::new)
    }
}

/// The ledger could not be written: nothing more can be promised.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the ledger cannot be written")]
pub(super) struct LedgerLost;

/// Appends facts.
#[derive(Debug)]
pub(super) struct Ledger {
    lines: mpsc::Sender<Vec<u8>>,
    appended: u64,
    flushed: watch::Receiver<u64>,
}

impl Ledger {
    /// Opens or makes the file and gives every fact in it to `learn`. A last line without an end is what a crash cut
    /// off: nobody was told of it, and it is dropped.
    pub(super) fn open(path: &Path, mut learn: impl FnMut(Fact) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot open the ledger {}", path.display()))?;
        file.try_lock().with_context(|| format!("the ledger {} belongs to a running gateway", path.display()))?;
        let mut reader = BufReader::new(&file);
        let (mut line, mut whole) = (Vec::new(), 0);
        for number in 1_u64.. {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if !line.ends_with(b"\n") {
                if read > 0 {
                    warn!(line = number, bytes = read, "dropped what a crash left of the last line of the ledger");
                }
                break;
            }
            let fact = serde_json::from_slice(&line).map_err(anyhow::Error::from).and_then(&mut learn);
            fact.with_context(|| format!("line {number} of the ledger {}", path.display()))?;
            whole += read as u64;
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::Start(whole))?;
        // The file's name, too, outlives a crash.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;

        let (lines, waiting) = mpsc::channel();
        let (progress, flushed) = watch::channel(0);
        thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            if let Err(error) = write(&mut file, &waiting, &progress) {
                error!(%error, "the ledger cannot be written; nothing is answered any more");
            }
        })?;
        Ok(Self { lines, appended: 0, flushed })
    }

    /// Appends a fact; its number, to wait for.
    pub(super) fn append(&mut self, fact: &Fact) -> u64 {
        let mut line = serde_json::to_vec(fact).expect("facts are always JSON");
        line.push(b'\n');
        // Without a writer nobody is told that a line is on disk.
        self.lines.send(line).ok();
        self.appended += 1;
        self.appended
    }

    /// The number of the last fact.
    pub(super) fn last(&self) -> u64 {
        self.appended
    }

    /// To see what is on disk.
    pub(super) fn flushed(&self) -> Flushed {
        Flushed(self.flushed.clone())
    }
}

/// Sees which facts are on disk.
#[derive(Debug, Clone)]
pub(super) struct Flushed(watch::Receiver<u64>);

impl Flushed {
    /// Waits until the fact of this number is on disk.
    pub(super) async fn reaches(&self, number: u64) -> Result<(), LedgerLost> {
        self.0.clone().wait_for(|flushed| *flushed >= number).await.map(|_| ()).map_err(|_| LedgerLost)
    }
}

/// Writes until nobody appends any more.
fn write(file: &mut File, waiting: &mpsc::Receiver<Vec<u8>>, progress: &watch::Sender<u64>) -> io::Result<()> {
    let mut flushed = 0;
    while let Ok(mut lines) = waiting.recv() {
        flushed += 1;
        while let Ok(line) = waiting.try_recv() {
            lines.extend_from_slice(&line);
            flushed += 1;
        }
        file.write_all(&lines)?;
        file.sync_data()?;
        progress.send_replace(flushed);
    }
    Ok(())
}
