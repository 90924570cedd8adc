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

/// Why there is no ledger to compare with. One that is there and cannot be read to its end is another matter.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotThere {
    #[error("the provider's ledger cannot be read: the provider is not reached")]
    Unreachable(#[source] reqwest::Error),
    #[error("the provider shows no ledger at {0}: it answered 404")]
    None(Url),
    #[error(
        "the provider does not let us in: it answered {0} (the key: ORDERSTREAM_GATEWAY_KEY, of a provider of before ORDERSTREAM_GATEWAY_KEY_NAME)"
    )]
    NotLetIn(reqwest::StatusCode),
}

/// A line of a ledger.
pub(super) enum Line {
    /// As the contract has it.
    Entry(LedgerLine),
    /// Of this reference, and nothing that the contract knows.
    Odd { reference: String, why: String },
}

/// A charge or refund.
#[derive(Debug, Deserialize)]
pub(super) struct LedgerLine {
    pub(super) kind: Kind,
    pub(super) status: Status,
    pub(super) reference: String,
    pub(super) amount: String,
    pub(super) currency: String,
    #[serde(default)]
    pub(super) id: Option<String>,
    /// Of a refund: the id of its charge.
    #[serde(default)]
    pub(super) charge: Option<String>,
}

/// What can be said of a line that is odd otherwise.
#[derive(Deserialize)]
struct Named {
    reference: String,
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
        let response = request.send().await.map_err(NotThere::Unreachable)?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Err(NotThere::None(self.url.clone()).into());
        }
        if matches!(response.status(), reqwest::StatusCode::UNAUTHORIZED | reqwest::StatusCode::FORBIDDEN) {
            return Err(NotThere::NotLetIn(response.status()).into());
        }
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
    ///
    /// # Errors
    /// When the ledger breaks off, or a line does not even say of which reference it is.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Line>> {
        loop {
            let rest = &self.piece[self.at..];
            if let Some(end) = memchr::memchr(b'\n', rest) {
                self.number += 1;
                self.at += end + 1;
                let line = &rest[..end];
                let why = match serde_json::from_slice(line) {
                    Ok(entry) => return Ok(Some(Line::Entry(entry))),
                    Err(why) => why,
                };
                return match serde_json::from_slice(line) {
                    Ok(Named { reference }) => Ok(Some(Line::Odd { reference, why: why.to_string() })),
                    Err(_) => Err(why).with_context(|| format!("line {} of the provider's ledger", self.number)),
                };
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
