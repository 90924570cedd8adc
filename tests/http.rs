//! The HTTP API, as its clients and its enemies use it: the real program, over real connections.

#[path = "http/client.rs"]
mod client;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/problems.rs"]
mod problems;
mod program;
#[path = "http/roles.rs"]
mod roles;
#[path = "http/routes.rs"]
mod routes;
#[path = "http/schemathesis.rs"]
mod schemathesis;
#[path = "http/webhooks.rs"]
mod webhooks;
