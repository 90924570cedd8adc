//! The documents of `orderstream api`.

use clap::ValueEnum;

/// `orderstream api`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ApiDocument {
    /// OpenAPI 3.1 of the HTTP API.
    Openapi,
    /// A collection of requests for Postman and Bruno.
    Postman,
    /// AsyncAPI 3.0 of the streams.
    Asyncapi,
}
