//! A provider's ledger as it comes over HTTP: a line for every charge and refund, read one after the other.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Response, Url, redirect};
use serde::Deserialize;

/// Most bytes of a line.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The longest silence of the provider.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Where a ledger is read.
pub(super) struct LedgerLines {
    client: Client,
    url: Url,
    key: Option<String>,
}

/// A charge or refund.
#[derive(Debug, Deserialize)]
pub(super) struct LedgerLine {
    pub(super) kind: Kind,
    pub(super) status: Status,
    pub(super) reference: String,
    pub(super) amount: String,
}

/// Which way the money went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Charge,
    Refund,
}

/// Where it stands; the last two are of refunds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Pending,
    Approved,
    Declined,
    Succeeded,
    Failed,
}

impl LedgerLines {
    /// The ledger at `{url}/ledger`.
    pub(super) fn new(mut url: Url, key: Option<String>) -> anyhow::Result<Self> {
        let path = format!("{}/ledger", url.path().trim_end_matches('/'));
        url.set_path(&path);
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(SILENCE_MAX)
            .read_timeout(SILENCE_MAX)
            .http1_only();
        // The key goes to nobody else in plain text.
        let client = if url.scheme() == "http" { client.no_proxy() } else { client };
        Ok(Self { client: client.build()?, url, key })
    }

    /// Begins to read from the first line.
    pub(super) async fn read(&self) -> anyhow::Result<Reading> {
        let mut request = self.client.get(self.url.clone());
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.context("the provider's ledger cannot be read")?;
        if response.status() != reqwest::StatusCode::OK {
            bail!("the provider shows no ledger at {}: it answered {}", self.url, response.status());
        }
        Ok(Reading { response, piece: Vec::new(), at: 0, number: 0, ended: false })
    }
}

/// A ledger that is being read.
pub(super) struct Reading {
    response: Response,
    /// What came and is not read yet begins at `at`.
    piece: Vec<u8>,
    at: usize,
    number: u64,
    ended: bool,
}

impl Reading {
    /// The next line; `None` at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<LedgerLine>> {
        loop {
            let rest = &self.piece[self.at..];
            if let Some(end) = memchr::memchr(b'\n', rest) {
                self.number += 1;
                self.at += end + 1;
                let line = serde_json::from_slice(&rest[..end]);
                return line.map(Some).with_context(|| format!("line {} of the provider's ledger", self.number));
            }
            if rest.len() > LINE_BYTES_MAX {
                bail!("the provider's ledger has a line of more than {LINE_BYTES_MAX} bytes");
            }
            if self.ended {
                // A ledger that was cut off must not pass for a short one.
                anyhow::ensure!(rest.is_empty(), "the last line of the provider's ledger has no end");
                return Ok(None);
            }
            self.piece.drain(..self.at);
            self.at = 0;
            match self.response.chunk().await.context("the provider's ledger broke off")? {
                Some(chunk) => self.piece.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }
}
