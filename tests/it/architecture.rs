//! The directions of imports, as `pipeline/src/lib.rs` and docs/ARCHITECTURE.md state them, checked in the source.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each module of the pipeline may import from its siblings.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("failpoint", &[]),
    ("topology", &["domain"]),
    ("retry", &[]),
    ("shutdown", &[]),
    ("message", &["domain"]),
    ("gateway", &["domain"]),
    ("metrics", &["message", "topology"]),
    ("trace", &["message", "topology"]),
    ("store", &["domain", "failpoint", "message", "retry", "topology"]),
    ("payments", &["domain", "failpoint", "gateway", "message", "store"]),
    ("collector", &["failpoint", "message", "payments", "retry", "shutdown", "store", "streams", "topology"]),
    ("streams", &["failpoint", "message", "retry", "topology", "trace"]),
    ("stage", &["domain", "failpoint", "gateway", "message", "metrics", "payments", "store", "topology"]),
    ("relay", &["domain", "failpoint", "metrics", "retry", "shutdown", "store", "streams", "topology"]),
    ("reconciler", &["domain", "failpoint", "message", "metrics", "retry", "shutdown", "store", "streams", "topology"]),
    (
        "runner",
        &[
            "collector",
            "failpoint",
            "gateway",
            "message",
            "metrics",
            "payments",
            "reconciler",
            "relay",
            "retry",
            "shutdown",
            "stage",
            "store",
            "streams",
            "topology",
            "trace",
        ],
    ),
    ("audit", &["domain", "message", "relay", "store", "streams", "topology"]),
    ("lib", &[]),
];

/// What may be named of sqlx outside `store`: connections are passed on, statements are made there.
const SQLX_TYPES: &[&str] = &["Error", "PgConnection", "Postgres", "Transaction"];

/// What may be named of redis outside `streams` and `relay`.
const REDIS_TYPES: &[&str] = &["aio"];

/// Crates that speak HTTP.
const HTTP: &[&str] = &["axum", "hyper", "reqwest", "tower", "tower_http"];

/// Longest source file.
const LINES_MAX: usize = 500;

/// What is wrong in a file of the pipeline; `path` is relative to `pipeline/src`.
fn faults_in_pipeline(path: &str, source: &str) -> Vec<String> {
    let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let source = without_comments(source);
    let mut faults = Vec::new();
    match MAY_IMPORT.iter().find(|(name, _)| *name == module) {
        None => faults.push(format!("{module} has no rule in this test")),
        Some((_, allowed)) => {
            let named = names_after(&source, "crate");
            let forbidden = named.iter().filter(|name| *name != module && !allowed.contains(&name.as_str()));
            faults.extend(forbidden.map(|name| format!("{module} imports {name}")));
        }
    }
    // So many levels up lead out of the module, past the rules above.
    let levels = path.trim_end_matches("mod.rs").trim_end_matches('/').split('/').count();
    if source.contains(&"super::".repeat(levels)) && levels > 1 {
        faults.push("climbs out of its module with super".to_owned());
    }
    let beyond =
        |root: &str, types: &[&str]| names_after(&source, root).into_iter().find(|name| !types.contains(&&**name));
    if module != "store"
        && let Some(name) = beyond("sqlx", SQLX_TYPES)
    {
        faults.push(format!("sqlx::{name} outside store"));
    }
    if !["streams", "relay"].contains(&module)
        && let Some(name) = beyond("redis", REDIS_TYPES)
    {
        faults.push(format!("redis::{name} outside streams and relay"));
    }
    faults.extend(
        HTTP.iter().filter(|http| !names_after(&source, http).is_empty()).map(|http| format!("{http} in the pipeline")),
    );
    faults
}

/// What is wrong in a file of the program; `path` is relative to `src`.
fn faults_in_program(path: &str, source: &str) -> Vec<String> {
    let source = without_comments(source);
    let mut faults = Vec::new();
    if !names_after(&source, "sqlx").is_empty() {
        faults.push("sqlx outside pipeline/src/store".to_owned());
    }
    // The local stack has a module of that name.
    if !path.starts_with("stack/") && !names_after(&source, "redis").is_empty() {
        faults.push("redis outside pipeline/src/streams and relay".to_owned());
    }
    // What is printed there does nothing to a terminal, and does not panic when nobody reads it.
    if path != "output.rs" && ["print!(", "println!("].iter().any(|print| source.contains(print)) {
        faults.push("prints outside output.rs".to_owned());
    }
    faults
}

fn too_long(source: &str) -> Option<String> {
    let lines = source.lines().count();
    (lines > LINES_MAX).then(|| format!("has {lines} lines, at most {LINES_MAX} are read with pleasure"))
}

fn without_comments(source: &str) -> String {
    let lines = source.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first parts of all paths that begin with `root::`, those in braces included.
fn names_after(source: &str, root: &str) -> Vec<String> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut names = Vec::new();
    for (at, _) in source.match_indices(root) {
        let before = source[..at].trim_end();
        let Some(rest) = source[at + root.len()..].trim_start().strip_prefix("::") else { continue };
        if source[..at].ends_with(is_word) || (before.ends_with("::") && !is_global(before)) {
            continue;
        }
        let rest = rest.trim_start();
        match rest.strip_prefix('{') {
            None => names.push(rest.chars().take_while(|character| is_word(*character)).collect()),
            Some(group) => names.extend(heads(group).into_iter().map(str::to_owned)),
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

/// Whether a path that ends here begins with `::`.
fn is_global(before: &str) -> bool {
    before.strip_suffix("::").is_some_and(|path| !path.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>'))
}

/// The first parts of the paths in a group, up to its closing brace.
fn heads(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    let head = |path: &'_ str| path.trim().find("::").map_or(path.trim().len(), |end| end);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                let path = group[start..at].trim();
                heads.push(path[..head(path)].split_whitespace().next().unwrap_or_default());
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

/// All Rust files below a folder of the workspace, with their paths in it.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a source folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
                files.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} has source files");
    files
}

fn assert_none(folder: &str, faults: impl Fn(&str, &str) -> Vec<String>) {
    let found: Vec<String> = sources(folder)
        .iter()
        .flat_map(|(path, source)| {
            faults(path, source).into_iter().map(|fault| format!("{folder}/{path}: {fault}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_pipeline_imports_in_one_direction() {
    assert_none("pipeline/src", faults_in_pipeline);
}

#[test]
fn the_program_leaves_sql_and_redis_to_the_pipeline() {
    assert_none("src", faults_in_program);
}

#[test]
fn the_pipeline_does_not_depend_on_http() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline/Cargo.toml")).expect("text");
    let names = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    let http: Vec<&str> = names.filter(|name| HTTP.contains(&name.replace('-', "_").as_str())).collect();
    assert!(http.is_empty(), "{http:?}");
}

#[test]
fn no_source_file_outgrows_its_reader() {
    for folder in ["src", "pipeline/src", "loadtest/src"] {
        assert_none(folder, |_, source| too_long(source).into_iter().collect());
    }
}

/// The compiler says nothing of a file that no `mod` names, and one beside `it` would be a program of its own to link.
#[test]
fn every_file_of_tests_is_part_of_the_one_program() {
    for folder in ["tests", "pipeline/tests"] {
        let files: BTreeMap<String, String> = sources(folder).into_iter().collect();
        for path in files.keys().filter(|path| *path != "it/main.rs") {
            let module = path.trim_end_matches(".rs").trim_end_matches("/mod");
            let (above, name) = module.rsplit_once('/').unwrap_or(("", module));
            let parents = [format!("{above}.rs"), format!("{above}/mod.rs"), format!("{above}/main.rs")];
            let declaration = format!("mod {name};");
            let mut lines = parents.iter().filter_map(|parent| files.get(parent)).flat_map(|source| source.lines());
            let is_named = lines.any(|line| line.trim_start_matches("pub(crate) ") == declaration);
            assert!(is_named, "{folder}/{path} is run by nobody: `{declaration}` is in none of {parents:?}");
        }
    }
}

#[test]
fn planted_violations_are_found() {
    let table = [
        ("domain/money.rs", "use crate::store;", "domain imports store"),
        ("domain/money.rs", "fn f() { crate::message::decode() }", "domain imports message"),
        ("stage/payment.rs", "use crate::{\n    domain::{A, B},\n    streams::Redis,\n};", "stage imports streams"),
        ("stage/payment.rs", "use super::super::runner;", "climbs out of its module with super"),
        ("stage/mod.rs", "use crate::{store::{self, Store}, runner};", "stage imports runner"),
        ("stage/payment.rs", "use sqlx::{PgConnection, query};", "sqlx::query outside store"),
        ("stage/payment.rs", "fn f() { sqlx::query!(\"SELECT 1\") }", "sqlx::query outside store"),
        ("relay/mod.rs", "fn f() { ::sqlx::raw_sql(x) }", "sqlx::raw_sql outside store"),
        ("runner/worker.rs", "fn f() { redis::cmd(\"XADD\") }", "redis::cmd outside streams and relay"),
        (
            "audit/board.rs",
            "use redis::{aio::MultiplexedConnection, Script};",
            "redis::Script outside streams and relay",
        ),
        ("message.rs", "use axum::Router;", "axum in the pipeline"),
        ("helpers.rs", "", "helpers has no rule in this test"),
    ];
    for (path, source, fault) in table {
        assert_eq!(faults_in_pipeline(path, source), [fault], "{path}: {source}");
    }
    assert_eq!(faults_in_program("intake/mod.rs", "use sqlx::PgPool;").len(), 1);
    assert_eq!(faults_in_program("intake/mod.rs", "let a = redis::cmd(\"GET\");").len(), 1);
    for print in ["println!(\"{text}\")", "eprint!(\"{text}\")"] {
        assert_eq!(faults_in_program("commands/orders.rs", print).len(), 1);
        assert!(faults_in_program("output.rs", print).is_empty());
    }
    assert!(too_long(&"\n".repeat(LINES_MAX + 1)).is_some());
}

#[test]
fn what_is_allowed_is_not_taken_for_a_violation() {
    let table = [
        (
            "stage/payment.rs",
            "use crate::{\n    domain::OrderId,\n    store::{self, Store},\n    topology::StageName,\n};",
        ),
        ("stage/payment.rs", "use super::{Ending, Stage};\nuse sqlx::PgConnection; // as sqlx::query has it"),
        ("stage/payment.rs", "//! See [`crate::runner`].\npub(crate) fn f() {}"),
        ("store/audit/money.rs", "use super::super::Error; use sqlx::query;"),
        ("streams/consumer.rs", "use redis::{Script, Value}; use crate::message::Entry;"),
        ("audit/board.rs", "use redis::aio::MultiplexedConnection; fn f() { self::redis::cmd() }"),
    ];
    for (path, source) in table {
        assert_eq!(faults_in_pipeline(path, source), Vec::<String>::new(), "{path}: {source}");
    }
    assert!(faults_in_program("stack/mod.rs", "redis::stop(folder)").is_empty());
}

#[test]
fn every_statement_that_locks_rows_locks_them_in_id_order() {
    let mut locks = 0;
    for (path, source) in sources("pipeline/src/store") {
        for (at, _) in source.match_indices("FOR NO KEY UPDATE").chain(source.match_indices("FOR UPDATE")) {
            // Who leaves out what others have locked waits for nobody.
            if source[at..].lines().next().is_some_and(|line| line.contains("SKIP LOCKED")) {
                continue;
            }
            locks += 1;
            let before = &source[..at];
            let statement = &before[before.rfind("SELECT").expect("a query")..];
            let one_row = statement.contains("WHERE order_id = $1") || statement.contains("WHERE id = $1");
            // The few channels of notifications have their names for ids.
            let ordered = [".id", " id", " channel"].iter().any(|end| statement.trim_end().ends_with(end));
            assert!(one_row || (statement.contains("ORDER BY") && ordered), "{path}: {statement}");
        }
    }
    assert!(locks >= 3, "the places that lock rows are no longer found");
}
