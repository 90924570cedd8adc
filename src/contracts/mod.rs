//! The contract of the streams as a document that machines read: made from the constants of the code, so that neither
//! says what the other does not do. docs/asyncapi.json is what [`asyncapi`] makes.

mod schemas;
mod streams;

pub use streams::asyncapi;
