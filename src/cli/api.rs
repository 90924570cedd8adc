//! The documents of `orderstream api`.

use clap::ValueEnum;

/// What describes an interface, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ApiDocument {
    /// AsyncAPI 3.0 of the streams.
    Asyncapi,
}
