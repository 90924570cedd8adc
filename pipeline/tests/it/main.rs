//! The tests of the pipeline, all in one: a file for each subject, and `harness`, which they share. `cargo test --package
//! orderstream-pipeline --test it NAME` runs those whose path has the name in it, `stages::` all of a file.

mod audit;
mod callbacks;
mod connections;
mod docs;
mod earlier;
mod hand_off;
#[allow(dead_code, reason = "the tests of the program share it, and have parts of it for themselves")]
mod harness;
mod imports;
mod model;
mod plans;
mod reconciler;
mod recovery;
mod refunds;
mod relay;
mod stages;
mod views;
