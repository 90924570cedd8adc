//! Styles and scripts, embedded in the program. Their names change with their content, so browsers keep them for ever.

use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use sha2::{Digest, Sha256};

use crate::http::{
    App,
    problem::{Code, Problem},
};

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Name, type, content. A script that imports another stands after it.
const FILES: &[(&str, &str, &[u8])] = &[
    ("app.css", STYLE, include_bytes!("assets/app.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    ("live.js", SCRIPT, include_bytes!("assets/live.js")),
    ("charts.js", SCRIPT, include_bytes!("assets/charts.js")),
    ("keys.js", SCRIPT, include_bytes!("assets/keys.js")),
    ("uplot.js", SCRIPT, include_bytes!("assets/vendor/uplot/uPlot.iife.min.js")),
    ("uplot.css", STYLE, include_bytes!("assets/vendor/uplot/uPlot.min.css")),
];

/// Whoever has the hash in a name has the content for good.
const KEEP: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// A file as it is served.
struct Asset {
    media: &'static str,
    content: Bytes,
    tag: HeaderValue,
}

/// All files, by the names under which they are served.
pub(super) struct Assets {
    files: BTreeMap<String, Asset>,
    /// The path of each, by the name it has here.
    paths: BTreeMap<&'static str, String>,
}

impl Assets {
    /// With their hashes.
    pub(super) fn new() -> Self {
        let (mut files, mut paths) = (BTreeMap::new(), BTreeMap::new());
        for &(name, media, content) in FILES {
            let content = match media {
                SCRIPT => Bytes::from(with_paths(content, &paths)),
                _ => Bytes::from_static(content),
            };
            let hash = Sha256::digest(&content)[..6].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
            let served = format!("{stem}-{hash}.{extension}");
            paths.insert(name, format!("/assets/{served}"));
            let tag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("made of digits");
            files.insert(served, Asset { media, content, tag });
        }
        Self { files, paths }
    }

    /// Where each file is served.
    pub(super) fn paths(&self) -> BTreeMap<&'static str, String> {
        self.paths.clone()
    }
}

/// A script with the names under which the scripts are served that it imports.
fn with_paths(script: &[u8], paths: &BTreeMap<&'static str, String>) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(script).into_owned();
    for (name, path) in paths {
        text = text.replace(&format!("from \"./{name}\""), &format!("from \"{path}\""));
    }
    text.into_bytes()
}

/// A file; there is nothing in it that needs a token.
pub(super) async fn show(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asset = app.dashboard.assets.files.get(&name);
    let Asset { media, content, tag } =
        asset.ok_or_else(|| Problem::new(Code::NotFound, "there is no such file in this version"))?;
    let known = [(header::CACHE_CONTROL, KEEP), (header::ETAG, tag.clone())];
    if headers.get(header::IF_NONE_MATCH) == Some(tag) {
        return Ok((StatusCode::NOT_MODIFIED, known).into_response());
    }
    Ok((known, [(header::CONTENT_TYPE, HeaderValue::from_static(media))], content.clone()).into_response())
}

/// For browsers that ask for it wherever they are.
pub(super) async fn favicon(State(app): State<App>) -> Redirect {
    Redirect::permanent(app.dashboard.assets.paths.get("icon.svg").map_or("/", String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_assets_together_stay_below_their_bound_even_uncompressed() {
        let bytes: usize = FILES.iter().map(|(_, _, content)| content.len()).sum();
        assert!(bytes < 150_000, "{bytes} bytes");
    }

    #[test]
    fn scripts_import_each_other_by_the_names_under_which_they_are_served() {
        let assets = Assets::new();
        for (name, asset) in &assets.files {
            if asset.media == SCRIPT {
                assert!(!String::from_utf8_lossy(&asset.content).contains("from \"./"), "{name}");
            }
        }
    }
}
