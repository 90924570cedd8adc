//! Python with what the tests need of it.

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// Python with the tests' tools.
pub(crate) async fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(root.join("scripts/python.sh")).status().await.expect("scripts/python.sh");
    assert!(made.success(), "scripts/python.sh makes target/python");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    target.join("python/bin/python")
}

/// A script of the tests.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}
