//! The import that waits through all faults.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use super::{CUSTOMERS, PRODUCTS, model::Model, servers::guarded};
use crate::program::{Program, Urls, tell};

/// How long after a failed import the same file is imported again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Most rows of a file that is only imported because faults are still to come.
const FURTHER_ROWS_MAX: u64 = 10_000;

/// Failures that are kept in words.
const FAILURES_MAX: usize = 5;

/// What the imports came to.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Imports {
    /// Files that were imported to their end.
    pub(super) files: u64,
    /// Orders in them.
    pub(super) orders: u64,
    /// Rows in them.
    pub(super) rows: u64,
    /// Imports that ended with an error, and had to be started again.
    pub(super) failed: u64,
    /// What some of them said.
    pub(super) failures: Vec<String>,
    /// Orders that imports published again.
    pub(super) republished: u64,
    /// Orders that imports missed or found in conflict.
    pub(super) missing: u64,
    /// How long it all took.
    pub(super) seconds: f64,
}

/// Imports files one after the other.
pub(super) struct Importer<'a> {
    pub(super) program: &'a Program,
    pub(super) urls: &'a Urls,
    pub(super) folder: PathBuf,
    pub(super) rows: u64,
    pub(super) seed: u64,
    /// Most orders that are on their way, as `--max-backlog` has it.
    pub(super) backlog: u64,
    pub(super) model: Model,
    pub(super) imports: Imports,
}

impl Importer<'_> {
    /// Writes the first file.
    pub(super) async fn prepare(&mut self) -> Result<PathBuf> {
        self.write_file(0, self.rows).await
    }

    /// Imports `first`, and then further files until `enough` is true.
    pub(super) async fn run(&mut self, first: PathBuf, enough: &Cell<bool>) -> Result<()> {
        let started = Instant::now();
        let mut file = first;
        for number in 1.. {
            self.import(&file).await?;
            self.imports.files += 1;
            self.imports.seconds = started.elapsed().as_secs_f64();
            if enough.get() {
                break;
            }
            file = self.write_file(number, self.rows.min(FURTHER_ROWS_MAX)).await?;
        }
        Ok(())
    }

    /// Imports a file, again and again until it works: that is always safe.
    async fn import(&mut self, file: &Path) -> Result<()> {
        loop {
            let mut command = guarded(None, self.program.path());
            command.args(["import", "--json", "--quiet", "--max-backlog", &self.backlog.to_string()]).arg(file);
            tell(&mut command, self.urls);
            let output = command.stdin(Stdio::null()).output().await?;
            if output.status.success() {
                let summary: Value = serde_json::from_slice(&output.stdout).context("import printed no JSON")?;
                let summary = &summary["imports"][0];
                let known = |name: &str| summary["known"][name].as_u64().unwrap_or(0);
                self.imports.orders += summary["orders"].as_u64().unwrap_or(0);
                self.imports.rows += summary["rows"].as_u64().unwrap_or(0);
                self.imports.republished += known("republished_orders");
                self.imports.missing += known("missing_orders") + known("conflicting_orders");
                return Ok(());
            }
            self.imports.failed += 1;
            let said = String::from_utf8_lossy(&output.stderr);
            let failure = format!("{}: {}", output.status, said.trim());
            eprintln!("import failed, {failure}");
            if self.imports.failures.len() < FAILURES_MAX {
                self.imports.failures.push(failure);
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Writes a file of orders that no other file has, and adds them to the model.
    async fn write_file(&mut self, number: u64, rows: u64) -> Result<PathBuf> {
        let made = self.folder.join("generated.csv");
        let path = self.folder.join(format!("orders-{number}.csv"));
        let numbers = [rows, self.seed.wrapping_add(number), PRODUCTS, CUSTOMERS].map(|number| number.to_string());
        let options = ["--rows", "--seed", "--products", "--customers"];
        let mut args = vec!["generate", made.to_str().context("a path in UTF-8")?, "--quiet"];
        args.extend(options.iter().zip(&numbers).flat_map(|(option, number)| [*option, number.as_str()]));
        self.program.run(self.urls, &args).await?;
        rename_orders(&made, &path, number)?;
        fs::remove_file(&made)?;
        self.model.add_file(&path)?;
        Ok(path)
    }
}

/// Copies a file of orders under codes of its own: generated files all begin with the same.
fn rename_orders(from: &Path, to: &Path, number: u64) -> Result<()> {
    let mut out = BufWriter::new(File::create(to)?);
    for line in BufReader::new(File::open(from)?).lines() {
        writeln!(out, "{}", line?.replacen(",ORD-", &format!(",F{number}-"), 1))?;
    }
    Ok(out.flush()?)
}
