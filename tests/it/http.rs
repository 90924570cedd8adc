//! The HTTP API, as its clients and its enemies use it: the real program, over real connections.

mod files;
mod frames;
mod imports;
mod limits;
mod names;
mod problems;
mod roles;
mod routes;
mod schemathesis;
mod webhooks;
