//! docs/asyncapi.json as its readers have it, and a validator that nobody here wrote.

use std::{
    collections::BTreeMap,
    fs,
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::program::python::{python, script};

/// A file of the repository.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A file of the repository, read as JSON.
pub(crate) fn read(name: &str) -> Value {
    let text = fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The committed document.
pub(crate) struct Document(pub(crate) Value);

impl Document {
    pub(crate) fn committed() -> Self {
        Self(read("docs/asyncapi.json"))
    }

    /// The names of all messages.
    pub(crate) fn messages(&self) -> Vec<String> {
        self.0["components"]["messages"].as_object().expect("messages").keys().cloned().collect()
    }

    pub(crate) fn message(&self, name: &str) -> &Value {
        let message = &self.0["components"]["messages"][name];
        assert!(message.is_object(), "there is no message {name}");
        message
    }

    /// The key of a channel's stream, in another namespace.
    pub(crate) fn key(&self, channel: &str, namespace: &str) -> String {
        let key = self.0["channels"][channel]["x-redis-stream"]["key"].as_str().expect("a key");
        let (_, rest) = key.split_once(':').expect("a namespace");
        format!("{namespace}:{rest}")
    }

    /// The schemas of payloads, by the names of their messages, and those of headers, as `name headers`.
    pub(crate) fn schemas(&self) -> BTreeMap<String, Value> {
        let mut schemas = BTreeMap::new();
        for name in self.messages() {
            let message = self.message(&name);
            let reference = message["payload"]["$ref"].as_str().expect("a reference").trim_start_matches('#');
            let payload = self.0.pointer(reference).expect("what it refers to");
            schemas.insert(name.clone(), payload["schema"].clone());
            if message["headers"].is_object() {
                schemas.insert(format!("{name} headers"), message["headers"].clone());
            }
        }
        schemas
    }

    /// The same, so that fields of ours that the document does not name are faults.
    pub(crate) fn closed_schemas(&self, names: &[&str]) -> BTreeMap<String, Value> {
        let mut schemas = self.schemas();
        for name in names {
            schemas.get_mut(*name).expect("a message")["additionalProperties"] = json!(false);
        }
        schemas
    }
}

/// What is wrong with each value by the schema of its name, as Python's jsonschema sees it.
pub(crate) async fn faults(schemas: &BTreeMap<String, Value>, cases: &[(String, Value)]) -> Vec<Vec<String>> {
    let mut input = tempfile::tempfile().expect("a file");
    let mut text = json!(schemas).to_string();
    for (schema, value) in cases {
        text.push('\n');
        text.push_str(&json!({ "schema": schema, "value": value }).to_string());
    }
    input.write_all(text.as_bytes()).expect("written");
    input.rewind().expect("a file");
    let mut command = Command::new(python().await);
    command.arg(script("validate.py")).stdin(Stdio::from(input));
    let done = command.output().await.expect("Python");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines = String::from_utf8(done.stdout).expect("text");
    let faults: Vec<Vec<String>> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an array of texts")).collect();
    assert_eq!(faults.len(), cases.len(), "an answer to every case");
    faults
}

/// Fails with what is wrong, if anything is.
pub(crate) async fn assert_valid(schemas: &BTreeMap<String, Value>, cases: &[(String, Value)]) {
    let faults = faults(schemas, cases).await;
    let found: Vec<String> = cases
        .iter()
        .zip(faults)
        .filter(|(_, faults)| !faults.is_empty())
        .map(|((schema, value), faults)| format!("{schema}: {}: {value}", faults.join("; ")))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
