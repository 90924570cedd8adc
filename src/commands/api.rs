//! `orderstream api`.

use crate::{cli::api::ApiDocument, contracts, exit::Exit, http, output};

pub(super) fn print(form: ApiDocument) -> anyhow::Result<Exit> {
    match form {
        ApiDocument::Openapi => {
            output::raw(format!("{}\n", http::openapi().to_pretty_json()?).as_bytes())?;
        }
        ApiDocument::Postman => output::json(&http::postman()?)?,
        ApiDocument::Asyncapi => output::json(&contracts::asyncapi())?,
    }
    Ok(Exit::Done)
}
