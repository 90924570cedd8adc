//! `orderstream api`.

use crate::{cli::api::ApiDocument, contracts, exit::Exit, output};

pub(super) fn print(form: ApiDocument) -> anyhow::Result<Exit> {
    output::json(&match form {
        ApiDocument::Asyncapi => contracts::asyncapi(),
    })?;
    Ok(Exit::Done)
}
