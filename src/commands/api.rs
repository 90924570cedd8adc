//! `orderstream api`.

use crate::{cli::api::ApiDocument, contracts, exit::Exit, http, output};

pub(super) fn print(form: ApiDocument) -> anyhow::Result<Exit> {
    match form {
        ApiDocument::Openapi => output::text_line(&http::openapi().to_pretty_json()?)?,
        ApiDocument::Postman => output::json(&http::postman()?)?,
        ApiDocument::Asyncapi => output::json(&contracts::asyncapi())?,
    }
    Ok(Exit::Done)
}
