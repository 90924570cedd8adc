//! The files in observability/ and docs/runbooks/, by the tools of those who read them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const RECORDING: &str = include_str!("../../../observability/prometheus/recording.rules.yml");
const ALERTS: &str = include_str!("../../../observability/prometheus/alerts.rules.yml");
const ALERT_TESTS: &str = include_str!("../../../observability/prometheus/alerts.test.yml");
const DASHBOARD: &str = include_str!("../../../observability/grafana/dashboards/orderstream.json");
const METRICS: &str = include_str!("../../../docs/METRICS.md");
const COMPOSE: &str = include_str!("../../../docker-compose.yml");

/// A file of the project.
pub(crate) fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a tool, which must be content.
fn accepted(tool: &str, args: &[&str]) {
    let done = Command::new(tool).args(args).output();
    let done = done.unwrap_or_else(|error| panic!("{tool}: {error}; scripts/setup.sh installs it"));
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{tool} {args:?}\n{out}\n{err}");
}

/// Words of a text that name a metric or a recorded series.
fn series_in(text: &str) -> BTreeSet<String> {
    let part_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == ':';
    let words = text.split(|character| !part_of_name(character));
    let names = words.filter(|word| word.starts_with("orderstream_") || word.contains(":orderstream_"));
    names.map(str::to_owned).collect()
}

/// The rules without what is said of them.
fn without_comments(rules: &str) -> String {
    let told = ["#", "- name:", "summary:", "runbook_url:"];
    rules
        .lines()
        .filter(|line| told.iter().all(|start| !line.trim_start().starts_with(start)))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Values of a key in a list of rules.
fn named<'a>(rules: &'a str, key: &str) -> Vec<&'a str> {
    rules.lines().filter_map(|line| line.trim_start().strip_prefix(key)).map(str::trim).collect()
}

fn alerts() -> BTreeSet<&'static str> {
    named(ALERTS, "- alert:").into_iter().collect()
}

/// What docs/METRICS.md lists, with the series that a histogram is made of.
fn metrics() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for row in METRICS.lines().filter(|line| line.starts_with("| `orderstream_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        if cells[1] == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            names.insert(name.to_owned());
        }
    }
    assert!(names.len() > 40, "docs/METRICS.md lists metrics: {names:?}");
    names
}

/// Panels of the dashboard that ask for something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Everything that the dashboard asks Prometheus for, with its variables filled in.
pub(crate) fn dashboard_expressions() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut expressions = Vec::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("targets") {
            expressions.push((title.to_owned(), target["expr"].as_str().expect("an expression")));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("annotations") {
        expressions.push(("annotations".to_owned(), annotation["expr"].as_str().expect("an expression")));
    }
    let fill = |expression: &str| {
        let filled =
            expression.replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$instance", ".*");
        assert!(!filled.contains('$'), "a variable that nobody fills in: {filled}");
        filled
    };
    expressions.into_iter().map(|(title, expression)| (title, fill(expression))).collect()
}

#[test]
fn promtool_accepts_the_rules_and_the_configuration() {
    let rules = ["recording", "alerts"].map(|name| file(&format!("observability/prometheus/{name}.rules.yml")));
    let [recording, alerts] = rules.each_ref().map(|path| path.to_str().expect("a name in UTF-8"));
    accepted("promtool", &["check", "rules", recording, alerts]);
    let configuration = file("observability/prometheus/prometheus.yml");
    accepted("promtool", &["check", "config", configuration.to_str().expect("a name in UTF-8")]);
}

#[test]
fn every_alert_begins_and_ends_as_its_tests_say() {
    let tests = file("observability/prometheus/alerts.test.yml");
    accepted("promtool", &["test", "rules", tests.to_str().expect("a name in UTF-8")]);
    let mut calm = BTreeSet::new();
    let mut firing = BTreeSet::new();
    for line in ALERT_TESTS.lines() {
        if let Some((_, alert)) = line.split_once("alertname: ") {
            // A case on one line expects nothing.
            match alert.strip_suffix('}') {
                Some(alert) => calm.insert(alert),
                None => firing.insert(alert),
            };
        }
    }
    assert_eq!(calm, alerts(), "alerts with a case in which they are calm");
    assert_eq!(firing, alerts(), "alerts with a case in which they fire");
}

#[test]
fn amtool_accepts_the_examples_for_alertmanager() {
    for name in ["alertmanager", "alertmanager.example"] {
        let path = file(&format!("observability/alertmanager/{name}.yml"));
        accepted("amtool", &["check-config", path.to_str().expect("a name in UTF-8")]);
        let text = fs::read_to_string(path).expect("the file");
        let matched = text.lines().filter(|line| line.contains("alertname =") || line.contains("alertname =~"));
        for alert in matched.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric())) {
            let is_name = alert.starts_with(|c: char| c.is_ascii_uppercase());
            assert!(!is_name || alerts().contains(alert), "{name}.yml speaks of {alert}, which is no alert");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let folder = fs::read_dir(file("docs/runbooks")).expect("a folder");
    let pages = folder.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let pages: BTreeSet<String> = pages.filter_map(|name| name.strip_suffix(".md").map(str::to_owned)).collect();
    let expected: BTreeSet<String> = alerts().into_iter().chain(["README"]).map(str::to_owned).collect();
    assert_eq!(pages, expected);
    let urls = named(ALERTS, "runbook_url:");
    let named_urls: Vec<String> =
        named(ALERTS, "- alert:").iter().map(|alert| format!("docs/runbooks/{alert}.md")).collect();
    assert_eq!(urls, named_urls);
    let index = fs::read_to_string(file("docs/runbooks/README.md")).expect("the index");
    for alert in alerts() {
        assert!(index.contains(&format!("| [{alert}]({alert}.md) |")), "docs/runbooks/README.md lists {alert}");
        let page = fs::read_to_string(file(&format!("docs/runbooks/{alert}.md"))).expect("a page");
        let headings: Vec<&str> = page.lines().filter(|line| line.starts_with('#')).collect();
        assert_eq!(headings, [&format!("# {alert}"), "## How bad", "## See it", "## Do", "## It ends"]);
    }
}

#[test]
fn rules_dashboard_and_runbooks_name_only_series_that_exist() {
    let mut known = metrics();
    known.extend(named(RECORDING, "- record:").into_iter().map(str::to_owned));
    let mut texts = vec![without_comments(RECORDING), without_comments(ALERTS), without_comments(ALERT_TESTS)];
    texts.extend(dashboard_expressions().into_iter().map(|(_, expression)| expression));
    for alert in alerts() {
        texts.push(fs::read_to_string(file(&format!("docs/runbooks/{alert}.md"))).expect("a page"));
    }
    let groups: BTreeSet<String> =
        named(RECORDING, "- name:").into_iter().chain(named(ALERTS, "- name:")).map(str::to_owned).collect();
    for name in texts.iter().flat_map(|text| series_in(text)) {
        assert!(known.contains(&name) || groups.contains(&name), "{name} is neither in docs/METRICS.md nor recorded");
    }
}

#[test]
fn every_recorded_series_is_looked_at() {
    let mut looked_at = without_comments(ALERTS);
    looked_at.extend(dashboard_expressions().into_iter().map(|(_, expression)| expression + "\n"));
    for line in RECORDING.lines().filter(|line| !line.contains("- record:")) {
        looked_at.push_str(line);
        looked_at.push('\n');
    }
    let looked_at = series_in(&looked_at);
    for record in named(RECORDING, "- record:") {
        assert!(looked_at.contains(record), "nobody looks at {record}");
    }
}

#[test]
fn promtool_accepts_what_the_dashboard_asks_for() {
    let rules: Vec<Value> = dashboard_expressions()
        .into_iter()
        .enumerate()
        .map(|(number, (title, expr))| {
            serde_json::json!({ "record": format!("panel:{number}"), "expr": expr, "labels": { "title": title } })
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("dashboard.rules.yml");
    // JSON is YAML.
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&path, groups.to_string()).expect("a file");
    accepted("promtool", &["check", "rules", path.to_str().expect("a name in UTF-8")]);
}

#[test]
fn every_panel_has_a_unit_and_says_what_it_shows() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut ids = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(ids.insert(panel["id"].as_i64()), "{title} has an id of its own");
        assert!(!title.is_empty(), "{panel}");
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title} says what it shows");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has a unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title} asks the chosen Prometheus");
    }
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let variables: Vec<&str> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(variables, ["datasource", "namespace", "instance"]);
}

#[test]
fn an_unknown_lag_is_shown_as_unknown() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    for panel in panels(&dashboard) {
        let (title, defaults) = (&panel["title"], &panel["fieldConfig"]["defaults"]);
        if panel["targets"].to_string().contains("group_lag") {
            match panel["type"].as_str() {
                Some("stat") => assert_eq!(defaults["noValue"], "unknown", "{title}"),
                Some("timeseries") => assert_eq!(defaults["custom"]["spanNulls"], false, "{title} leaves a gap"),
                _ => assert_eq!(defaults["mappings"][0]["options"]["0"]["text"], "unknown", "{title}"),
            }
        }
    }
}

#[test]
fn what_docker_compose_mounts_exists_and_is_mounted_read_only() {
    let mounts: Vec<&str> = named(COMPOSE, "- ./");
    for mount in &mounts {
        let (path, rest) = mount.split_once(':').expect("a path in the container");
        assert!(file(path).exists(), "{path} exists");
        assert!(rest.ends_with(":ro"), "{path} is mounted read-only");
    }
    assert_eq!(mounts.len(), 7, "{mounts:?}");
}
