//! Where spans go, by the variables that OpenTelemetry has for it.

use reqwest::Url;

use crate::exit::{Exit, Refusal};

/// The address that spans are posted to; `None` when they are not wanted. The flag goes before the variables.
///
/// # Errors
/// When it is no address of a web server.
pub(super) fn traces(flag: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Url>, Refusal> {
    let variable = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let is = |name: &str, word: &str| variable(name).is_some_and(|value| value.eq_ignore_ascii_case(word));
    if is("OTEL_SDK_DISABLED", "true") {
        return Ok(None);
    }
    if let Some(base) = flag {
        return below("--otlp", base).map(Some);
    }
    if is("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    let traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let all = "OTEL_EXPORTER_OTLP_ENDPOINT";
    match (variable(traces), variable(all)) {
        (Some(exact), _) => parse(traces, &exact).map(Some),
        (None, Some(base)) => below(all, &base).map(Some),
        (None, None) => Ok(None),
    }
}

/// Traces have a path of their own below the address that all signals share.
fn below(name: &str, base: &str) -> Result<Url, Refusal> {
    let mut url = parse(name, base)?;
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

/// The value is not repeated: a password may stand in it.
fn parse(name: &str, value: &str) -> Result<Url, Refusal> {
    let url = Url::parse(value).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    url.ok_or_else(|| {
        Refusal::new(Exit::Usage, format!("{name} is not the address of a collector, such as http://localhost:4318"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        traces(flag, variable).map(|url| url.map(String::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn spans_go_where_the_flag_or_else_the_variables_say() {
        const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        type Variables<'a> = &'a [(&'a str, &'a str)];
        let table: &[(Option<&str>, Variables<'_>, Option<&str>)] = &[
            (None, &[], None),
            (None, &[(ALL, "")], None),
            (None, &[(ALL, "http://c:4318")], Some("http://c:4318/v1/traces")),
            (None, &[(ALL, "https://c/otlp/")], Some("https://c/otlp/v1/traces")),
            (None, &[(ALL, "http://c"), (TRACES, "http://t/spans")], Some("http://t/spans")),
            (Some("http://f:1"), &[(TRACES, "http://t/spans")], Some("http://f:1/v1/traces")),
            (None, &[(ALL, "http://c"), ("OTEL_TRACES_EXPORTER", "none")], None),
            (Some("http://f:1"), &[("OTEL_TRACES_EXPORTER", "none")], Some("http://f:1/v1/traces")),
            (Some("http://f:1"), &[("OTEL_SDK_DISABLED", "true")], None),
        ];
        for (flag, variables, expected) in table {
            assert_eq!(to(*flag, variables), Ok(expected.map(str::to_owned)), "{flag:?} {variables:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for wrong in ["c:4318", "unix:///run/otel", "grpc://user:hush@c:4317", "http//hush"] {
            let refused = to(Some(wrong), &[]).expect_err("refused");
            assert!(refused.starts_with("--otlp is not") && !refused.contains("hush"), "{refused}");
        }
    }
}
