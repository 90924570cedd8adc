//! The program orderstream, and the commands of it that are run from here.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;

/// Where the servers of a system are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Urls {
    /// Postgres.
    pub(crate) database: String,
    /// Redis.
    pub(crate) redis: String,
}

/// The verdict of `orderstream audit`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Audit {
    /// Whether the books balance.
    pub(crate) clean: bool,
    /// What it printed.
    pub(crate) report: Value,
}

/// The program's file.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
}

impl Program {
    /// The program at `path`, else the one next to this one. Run by cargo, that is built first: nobody wants figures
    /// of an old one.
    pub(crate) fn find(path: Option<&Path>) -> Result<Self> {
        if let Some(path) = path {
            return Ok(Self { path: path.to_owned() });
        }
        if let Some(cargo) = env::var_os("CARGO") {
            let mut build = std::process::Command::new(cargo);
            build.args(["build", "--package", "orderstream", "--bin", "orderstream"]);
            if !cfg!(debug_assertions) {
                build.arg("--release");
            }
            if !build.status().context("cannot run cargo")?.success() {
                bail!("the program orderstream could not be built");
            }
        }
        Ok(Self { path: env::current_exe()?.with_file_name("orderstream") })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The program, told of the servers and of nothing else.
    pub(crate) fn command(&self, servers: &Urls) -> Command {
        let mut command = Command::new(&self.path);
        tell(&mut command, servers);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed.
    pub(crate) async fn run(&self, servers: &Urls, args: &[&str]) -> Result<Output> {
        self.run_with(servers, args, &[0]).await
    }

    /// Fills the catalogue.
    pub(crate) async fn seed(&self, servers: &Urls, products: u64, customers: u64, stock: u64) -> Result<()> {
        let [products, customers, stock] = [products, customers, stock].map(|number| number.to_string());
        let args = ["seed", "--products", &products, "--customers", &customers, "--stock", &stock];
        self.run(servers, &args).await.map(|_| ())
    }

    /// Proves the books.
    pub(crate) async fn audit(&self, servers: &Urls) -> Result<Audit> {
        let output = self.run_with(servers, &["audit", "--json"], &[0, 4]).await?;
        let report = serde_json::from_slice(&output.stdout).context("orderstream audit --json printed no JSON")?;
        Ok(Audit { clean: output.status.success(), report })
    }

    async fn run_with(&self, servers: &Urls, args: &[&str], codes: &[i32]) -> Result<Output> {
        let output = self
            .command(servers)
            .args(args)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot run {}", self.path.display()))?;
        if !output.status.code().is_some_and(|code| codes.contains(&code)) {
            bail!(
                "orderstream {} failed, {}: {}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output)
    }
}

/// Puts the servers into the environment of a command, in place of any others.
pub(crate) fn tell(command: &mut Command, servers: &Urls) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("ORDERSTREAM_") || text.starts_with("DATABASE_URL") || text.starts_with("REDIS_URL") {
            command.env_remove(&name);
        }
    }
    command.env("DATABASE_URL", &servers.database).env("REDIS_URL", &servers.redis);
}
