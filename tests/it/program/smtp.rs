//! A real SMTP server that nobody here wrote, and a mail program that reads what it took.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::python::{python, script};

/// A mail as a mail program shows it.
#[derive(Debug, Deserialize)]
pub(crate) struct Mail {
    pub(crate) to: Vec<String>,
    /// Whether it came over TLS.
    pub(crate) tls: bool,
    pub(crate) headers: BTreeMap<String, String>,
    /// As often as they are there.
    pub(crate) header_names: Vec<String>,
    pub(crate) plain: String,
    pub(crate) html: String,
    /// What is wrong with it.
    pub(crate) defects: Vec<String>,
}

/// A mail server with its mails in a folder.
pub(crate) struct SmtpServer {
    python: PathBuf,
    folder: TempDir,
    pub(crate) port: u16,
    certificate: Option<(PathBuf, PathBuf)>,
    running: Option<Child>,
}

impl SmtpServer {
    /// A server that takes mails as they come.
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    /// A server that wants STARTTLS, with this certificate and key.
    pub(crate) async fn with_certificate(certificate: PathBuf, key: PathBuf) -> Self {
        Self::with(Some((certificate, key))).await
    }

    async fn with(certificate: Option<(PathBuf, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut server = Self { python: python().await, folder, port: 0, certificate, running: None };
        server.start_again().await;
        server
    }

    /// Ends it without warning.
    pub(crate) async fn crash(&mut self) {
        self.running.take().expect("it runs").kill().await.expect("a child of ours");
    }

    /// Starts it at its port.
    pub(crate) async fn start_again(&mut self) {
        let mut command = Command::new(&self.python);
        command.arg(script("smtp_server.py")).arg(self.port.to_string()).arg(self.folder.path());
        if let Some((certificate, key)) = &self.certificate {
            command.arg("--certificate").arg(certificate).arg("--key").arg(key);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("Python");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).await.expect("a line");
        let port = line.trim().strip_prefix("ready ").and_then(|port| port.parse().ok());
        self.port = port.unwrap_or_else(|| panic!("the mail server says {line:?}"));
        self.running = Some(child);
    }

    /// How to reach it without encryption.
    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// How many mails it took.
    pub(crate) fn count(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder");
        entries
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|e| e == "mail")))
            .count()
    }

    /// The mails that it took.
    pub(crate) async fn mails(&self) -> Vec<Mail> {
        let read = Command::new(&self.python).arg(script("read_mail.py")).arg(self.folder.path()).output().await;
        let read = read.expect("Python");
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        serde_json::from_slice(&read.stdout).expect("mails as JSON")
    }
}
