//! What the program `orderstream` is made of, beside the pipeline: a library so that tests and examples can use it.

mod decimal;
pub mod generate;
pub mod import;
