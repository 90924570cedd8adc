//! `orderstream audit`.

use anyhow::Result;

use crate::{backends::Backends, config::Globals, exit::Exit};

pub(super) async fn run(_backends: &Backends, _globals: &Globals) -> Result<Exit> {
    Ok(Exit::Done)
}
