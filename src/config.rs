//! Where the servers are: read once at start, wrong values named.

use std::{env, fs, path::PathBuf};

use anyhow::Context;
use clap::Args;

use crate::{
    exit::{Exit, Refusal},
    signature::Secret,
    telemetry::LogFormat,
};

/// The first part of all Redis keys, unless configured otherwise.
pub const DEFAULT_NAMESPACE: &str = "orderstream";

/// What every command may be told.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Print data as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Print no progress and no notes
    #[arg(long, short, global = true)]
    pub quiet: bool,

    /// Folder of the local stack, used while DATABASE_URL and REDIS_URL are not set
    /// [default: /var/lib/orderstream as root, else ~/.local/state/orderstream]
    #[arg(long, global = true, env = "ORDERSTREAM_STATE_DIR", value_name = "DIR", hide_env_values = true)]
    pub state_dir: Option<PathBuf>,

    /// First part of all Redis keys
    #[arg(long, global = true, env = "ORDERSTREAM_NAMESPACE", default_value = DEFAULT_NAMESPACE, hide_env_values = true, value_parser = parse_namespace)]
    pub namespace: String,

    /// Accept a Redis that may lose or evict orders
    #[arg(long, global = true, env = "ORDERSTREAM_ALLOW_VOLATILE_REDIS", hide_env_values = true)]
    pub allow_volatile_redis: bool,

    /// How a line of the log looks
    #[arg(
        long,
        global = true,
        env = "ORDERSTREAM_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        hide_env_values = true
    )]
    pub log_format: LogFormat,

    /// Send traces to the OpenTelemetry collector at this address, over HTTP [default: OTEL_EXPORTER_OTLP_ENDPOINT, else none]
    #[arg(long, global = true, value_name = "URL")]
    pub otlp: Option<String>,
}

/// Servers that somebody else runs.
#[derive(Clone)]
pub struct Servers {
    /// Postgres.
    pub database_url: String,
    /// Redis.
    pub redis_url: String,
}

/// The servers named in the environment; `None` when neither is, and the local stack serves.
///
/// # Errors
/// When only one of the two is named: half a choice is a mistake.
pub fn servers_from_env() -> anyhow::Result<Option<Servers>> {
    match (secret("DATABASE_URL")?, secret("REDIS_URL")?) {
        (Some(database_url), Some(redis_url)) => Ok(Some(Servers { database_url, redis_url })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(half("DATABASE_URL", "REDIS_URL")),
        (None, Some(_)) => Err(half("REDIS_URL", "DATABASE_URL")),
    }
}

fn half(given: &str, missing: &str) -> anyhow::Error {
    let message = format!("{given} is set but {missing} is not: set both, or neither to use the local stack");
    Refusal::new(Exit::Usage, message).into()
}

/// The key that the payment provider knows us by.
///
/// # Errors
/// When its file cannot be read.
pub fn gateway_key() -> anyhow::Result<Option<String>> {
    secret("ORDERSTREAM_GATEWAY_KEY")
}

/// What callbacks are signed by; several while it is changed, the newest first, separated by blanks or commas.
///
/// # Errors
/// When one of them is no secret, or their file cannot be read.
pub fn webhook_secrets() -> anyhow::Result<Vec<Secret>> {
    let secrets = secret("ORDERSTREAM_WEBHOOK_SECRET")?.unwrap_or_default();
    let parse = |text| {
        Secret::parse(text)
            .map_err(|error| Refusal::new(Exit::Usage, format!("ORDERSTREAM_WEBHOOK_SECRET: {error}")).into())
    };
    let texts = secrets.split(|character: char| character == ',' || character.is_whitespace());
    texts.filter(|text| !text.is_empty()).map(parse).collect()
}

/// A value from the variable `name`, or from the file that `name_FILE` names.
pub(crate) fn secret(name: &str) -> anyhow::Result<Option<String>> {
    let value = env::var(name).ok().filter(|value| !value.is_empty());
    let file = env::var(format!("{name}_FILE")).ok().filter(|value| !value.is_empty());
    match (value, file) {
        (Some(_), Some(_)) => {
            Err(Refusal::new(Exit::Usage, format!("{name} and {name}_FILE are both set: set one")).into())
        }
        (None, Some(file)) => {
            let value = fs::read_to_string(&file).with_context(|| format!("cannot read {name}_FILE {file}"))?;
            Ok(Some(value.trim().to_owned()))
        }
        (value, None) => Ok(value),
    }
}

/// Letters, digits, `_`, `-` and `.`: a namespace stands in patterns, and none of these means anything there.
fn parse_namespace(text: &str) -> Result<String, String> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("a namespace has 1 to 64 letters, digits, _, - and .".to_owned()),
    }
}
