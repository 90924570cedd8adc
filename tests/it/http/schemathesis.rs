//! The description of the API against the API, by a tool that nobody here wrote.

use std::process::Stdio;

use tokio::process::Command;

use crate::program::{Orderstream, Program, client::Api, python};

/// Requests made up for each operation in the phase that looks for surprises.
const EXAMPLES_MAX: &str = "8";

#[tokio::test]
async fn whatever_is_asked_the_answer_is_one_that_the_description_has_and_never_a_fault_of_ours() {
    let program = Program::seeded(5, &[1_000, 1_000]).await;
    let token = program.run(&["token", "create", "--role", "admin", "--name", "test", "--json"]).await.exits(0).json();
    let api = Api::start(&program, "run", &["--http-rate", "100000"], &[]).await;
    let url = format!("http://{}/openapi.json", api.address);
    let python = python::python().await;
    let report = Command::new(python.with_file_name("schemathesis"))
        .args(["run", &url, "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES_MAX])
        .args(["--generation-deterministic", "--no-color", "--request-timeout", "30"])
        // Unknown methods and missing headers are answered as they should be: other tests see to that.
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        .args(["--checks", "response_schema_conformance,response_headers_conformance"])
        .args(["--header", &format!("Authorization: Bearer {}", token["token"].as_str().expect("a token"))])
        .current_dir(program.folder())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("schemathesis");
    let told = String::from_utf8_lossy(&report.stdout).into_owned() + &String::from_utf8_lossy(&report.stderr);
    assert!(report.status.success(), "{told}\nThe program said:\n{}", api.running.told());
    // A run that asked nothing proves nothing.
    assert!(told.contains("Test cases:") || told.contains("generated"), "{told}");
    api.running.stop().await.exits(0);
}
