//! Where the servers are: read once at start, wrong values named.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
};

use clap::Args;
use pipeline::store::variable_part;

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

    /// The local stack's servers do not wait for the disk: for tests. A power failure may then ruin all that they have
    #[arg(long, global = true, env = "ORDERSTREAM_NO_SYNC", hide_env_values = true, value_parser = clap::builder::BoolishValueParser::new())]
    pub no_sync: bool,

    /// First part of all Redis keys
    #[arg(long, global = true, env = "ORDERSTREAM_NAMESPACE", default_value = DEFAULT_NAMESPACE, hide_env_values = true, value_parser = parse_namespace)]
    pub namespace: String,

    /// Accept a Redis that may lose or evict orders
    #[arg(long, global = true, env = "ORDERSTREAM_ALLOW_VOLATILE_REDIS", hide_env_values = true, value_parser = clap::builder::BoolishValueParser::new())]
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

/// The key that a payment provider knows us by: that of the gateway of this name, else that of the one that takes new
/// payments.
///
/// # Errors
/// When its file cannot be read.
pub fn gateway_key(gateway: Option<&str>) -> anyhow::Result<Option<String>> {
    match gateway {
        Some(name) => secret(&format!("ORDERSTREAM_GATEWAY_KEY_{}", variable_part(name))),
        None => secret("ORDERSTREAM_GATEWAY_KEY"),
    }
}

/// The variable of what callbacks are signed by.
const WEBHOOK_SECRET: &str = "ORDERSTREAM_WEBHOOK_SECRET";

/// What callbacks are signed by; several while it is changed, the newest first, separated by blanks or commas.
///
/// # Errors
/// When one of them is no secret, or their file cannot be read.
pub fn webhook_secrets() -> anyhow::Result<Vec<Secret>> {
    secrets_of(WEBHOOK_SECRET)
}

/// The same of gateways that have secrets of their own, by what names them in variables: `ORDERSTREAM_WEBHOOK_SECRET_NAME`.
///
/// # Errors
/// As [`webhook_secrets`].
pub fn own_webhook_secrets() -> anyhow::Result<BTreeMap<String, Vec<Secret>>> {
    let names = env::vars_os().filter_map(|(variable, _)| {
        let name = variable.to_str()?.strip_prefix(WEBHOOK_SECRET)?.strip_prefix('_')?;
        let name = name.strip_suffix("_FILE").unwrap_or(name);
        (!name.is_empty() && name != "FILE").then(|| name.to_owned())
    });
    let names: BTreeSet<String> = names.collect();
    let own = names.into_iter().map(|name| {
        let secrets = secrets_of(&format!("{WEBHOOK_SECRET}_{name}"))?;
        Ok((name, secrets))
    });
    let own = own.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    // An empty variable is one that is not set.
    Ok(own.into_iter().filter(|(_, secrets)| !secrets.is_empty()).collect())
}

fn secrets_of(variable: &str) -> anyhow::Result<Vec<Secret>> {
    let Some(secrets) = secret(variable)? else { return Ok(Vec::new()) };
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Exit::Usage, format!("{variable}: {why}"));
    let texts = secrets.split(|character: char| character == ',' || character.is_whitespace());
    let texts = texts.filter(|text| !text.is_empty());
    let secrets =
        texts.map(|text| Secret::parse(text).map_err(|error| refuse(&error))).collect::<Result<Vec<_>, _>>()?;
    // Others would speak for whom it is meant for.
    if secrets.is_empty() { Err(refuse(&"it holds no secret").into()) } else { Ok(secrets) }
}

/// A value from the variable `name`, or from the file that `name_FILE` names. An empty variable is one that is not set; a
/// file that holds nothing is a mistake.
///
/// # Errors
/// When both are set, the variable is no text, or the file cannot be read, is no text or holds nothing.
pub(crate) fn secret(name: &str) -> anyhow::Result<Option<String>> {
    let refuse = |message: String| anyhow::Error::from(Refusal::new(Exit::Usage, message));
    let variable = |name: &str| match env::var_os(name).filter(|value| !value.is_empty()) {
        Some(value) => value.into_string().map(Some).map_err(|_| refuse(format!("{name} is not UTF-8"))),
        None => Ok(None),
    };
    match (variable(name)?, variable(&format!("{name}_FILE"))?) {
        (Some(_), Some(_)) => Err(refuse(format!("{name} and {name}_FILE are both set: set one"))),
        (None, Some(file)) => {
            let value = fs::read_to_string(&file)
                .map_err(|error| refuse(format!("cannot read the file {file} that {name}_FILE names: {error}")))?;
            match value.trim() {
                "" => Err(refuse(format!("the file {file} that {name}_FILE names holds nothing"))),
                value => Ok(Some(value.to_owned())),
            }
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
