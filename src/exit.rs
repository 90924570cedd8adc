//! Exit codes: a contract with scripts, listed in `orderstream --help`.

use std::{
    env,
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use pipeline::{
    retry::{POSTGRES, REDIS, Server},
    store, streams,
};

use crate::output::{inert, write_note};

/// How long it is tried to find out why a server gave no connection.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Used wrongly, or configured wrongly.
    Usage,
    /// Done, but rows were rejected.
    Rejected,
    /// The audit found a difference.
    Difference,
    /// No such thing.
    NotFound,
    /// In conflict with what is there.
    Conflict,
    /// Postgres or Redis cannot be reached.
    Unreachable,
    /// An alert fires.
    Alert,
    /// Interrupted by the user.
    Interrupted,
    /// As the command that it ran around.
    Command(u8),
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Rejected => 3,
            Self::Difference => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Unreachable => 7,
            Self::Alert => 8,
            Self::Interrupted => 130,
            Self::Command(code) => code,
        }
    }
}

/// An error that knows how the process should end.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    exit: Exit,
    message: String,
}

impl Refusal {
    /// An error with an exit of its own.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// How the process should end.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

/// The exit that an error calls for.
fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|cause| {
            if let Some(refusal) = cause.downcast_ref::<Refusal>() {
                return Some(refusal.exit);
            }
            match (cause.downcast_ref::<store::Error>(), cause.downcast_ref::<streams::Error>()) {
                (Some(store::Error::Encoding { .. }), _) => Some(Exit::Usage),
                (Some(error), _) if error.is_unreachable() => Some(Exit::Unreachable),
                (_, Some(error)) if error.is_unreachable() => Some(Exit::Unreachable),
                _ => None,
            }
        })
        .unwrap_or(Exit::Failed)
}

/// What to do about an error, where that is known.
fn hint(error: &anyhow::Error) -> Option<String> {
    if error.chain().any(|cause| cause.downcast_ref::<store::Error>().is_some_and(store::Error::is_schema_old)) {
        return Some(
            "the database has no schema yet, or an earlier one; bring it up to date with: orderstream migrate"
                .to_owned(),
        );
    }
    let Some(Door { name, variable, state, .. }) = closed_door(error) else {
        return refusal(error).map(|_| "docs/runbooks/ServerRefuses.md says what to do about it".to_owned());
    };
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    if !is_set(variable) && !is_set(&format!("{variable}_FILE")) {
        return Some(format!(
            "it belongs to the local stack, whose logs are in its state folder; {variable} names another"
        ));
    }
    Some(match state {
        DoorState::Away => {
            format!("{variable} (or {variable}_FILE) names this server: does it run, and can this machine reach it?")
        }
        DoorState::TurnsAway => format!("user, password and database come from {variable} (or {variable}_FILE)"),
        DoorState::Foreign => format!("{variable} (or {variable}_FILE) names this server: is it a {name}?"),
    })
}

/// A server that gives no connection.
struct Door {
    server: &'static Server,
    name: &'static str,
    variable: &'static str,
    state: DoorState,
    /// Why it gives none is not known.
    is_silent: bool,
}

/// Why a server gives no connection.
#[derive(Clone, Copy)]
enum DoorState {
    /// It cannot be reached.
    Away,
    /// It lets us in under another name.
    TurnsAway,
    /// It is a server of another kind.
    Foreign,
}

/// The server that an error is about, if it gave no connection.
fn closed_door(error: &anyhow::Error) -> Option<Door> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<store::Error>() {
            let is_silent = matches!(error, store::Error::NoConnection { .. });
            let (server, name, variable) = (&POSTGRES, "Postgres", "DATABASE_URL");
            let door = |state| Door { server, name, variable, state, is_silent };
            return match () {
                () if error.is_unreachable() => Some(door(DoorState::Away)),
                () if error.is_turned_away() => Some(door(DoorState::TurnsAway)),
                () if error.is_foreign() => Some(door(DoorState::Foreign)),
                () => None,
            };
        }
        let error = cause.downcast_ref::<streams::Error>()?;
        let (server, name, variable) = (&REDIS, "Redis", "REDIS_URL");
        let door = |state| Door { server, name, variable, state, is_silent: false };
        match () {
            () if error.is_unreachable() => Some(door(DoorState::Away)),
            () if error.is_turned_away() => Some(door(DoorState::TurnsAway)),
            () if error.is_foreign() => Some(door(DoorState::Foreign)),
            () => None,
        }
    })
}

/// The server that answers and refuses, if an error says so, and why.
fn refusal(error: &anyhow::Error) -> Option<(&'static str, &'static str)> {
    error.chain().find_map(|cause| {
        match (cause.downcast_ref::<store::Error>(), cause.downcast_ref::<streams::Error>()) {
            (Some(error), _) => Some(("Postgres", error.refusal()?.as_str())),
            (_, Some(error)) => Some(("Redis", error.refusal()?.as_str())),
            _ => None,
        }
    })
}

/// An error with its causes, and with the server that it is about.
fn told(error: &anyhow::Error) -> String {
    let text = chain(error);
    let Some(Door { server, name, state, is_silent, .. }) = closed_door(error) else {
        return match refusal(error) {
            Some((name, why)) => format!("{name} refuses: {why}: {text}"),
            None => text,
        };
    };
    let address = server.address();
    let place = format!("{name} at {address}");
    let cause =
        if is_silent { probe(&address).map_or_else(String::new, |cause| format!(": {cause}")) } else { String::new() };
    match (address.is_empty() || text.contains(&place), state) {
        (true, _) => format!("{text}{cause}"),
        (false, DoorState::Away) => format!("{place} cannot be reached: {text}{cause}"),
        (false, DoorState::TurnsAway) => format!("{place} does not let us in: {text}"),
        (false, DoorState::Foreign) => format!("{place} does not answer as a {name} does: {text}"),
    }
}

/// Why nobody answers at this address.
fn probe(address: &str) -> Option<String> {
    let refused = match address.starts_with('/') {
        true => UnixStream::connect(address).err(),
        false => match address.to_socket_addrs() {
            Ok(places) => places.map(|place| TcpStream::connect_timeout(&place, PROBE_MAX).err()).next_back().flatten(),
            Err(error) => Some(error),
        },
    };
    refused.map(|error| error.to_string())
}

/// Says on stderr what went wrong, and what to do where that is known; the process's exit code.
pub fn report(outcome: anyhow::Result<Exit>) -> ExitCode {
    let exit = outcome.unwrap_or_else(|error| {
        crate::output::note!("error: {}", told(&error));
        if let Some(hint) = hint(&error) {
            crate::output::note!("hint: {hint}");
        }
        exit_of(&error)
    });
    ExitCode::from(exit.code())
}

/// Says what is wrong with the arguments, or what help was asked for; the process's exit code. Arguments may come from
/// outside by way of a script.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    let plain = error.to_string();
    if inert(plain.as_bytes(), true) == plain {
        // With its colours. Nobody may be there to read it.
        _ = error.print();
    } else {
        write_note(plain.trim_end());
    }
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Says the same in the log, for programs that read it.
pub(crate) fn report_in_log(error: &anyhow::Error) -> Exit {
    tracing::error!(error = told(error), hint = hint(error), "the command failed");
    exit_of(error)
}

/// An error with its causes; libraries like to repeat theirs.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
