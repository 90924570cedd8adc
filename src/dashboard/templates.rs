//! The templates of all pages, compiled in, and what they can call.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, syntax::SyntaxConfig};

use super::{assets::Assets, format};

/// Every file of `templates/`.
const FILES: &[(&str, &str)] = &[
    ("layout.html", include_str!("templates/layout.html")),
    ("macros.html", include_str!("templates/macros.html")),
    ("help_text.html", include_str!("templates/help_text.html")),
    ("help.html", include_str!("templates/help.html")),
    ("login.html", include_str!("templates/login.html")),
    ("problem.html", include_str!("templates/problem.html")),
    ("actions.html", include_str!("templates/actions.html")),
    ("dead.html", include_str!("templates/dead.html")),
    ("dead_confirm.html", include_str!("templates/dead_confirm.html")),
    ("dead_letter.html", include_str!("templates/dead_letter.html")),
    ("dead_list.html", include_str!("templates/dead_list.html")),
    ("overview.html", include_str!("templates/overview.html")),
    ("orders.html", include_str!("templates/orders.html")),
    ("order.html", include_str!("templates/order.html")),
    ("refund.html", include_str!("templates/refund.html")),
    ("refunds.html", include_str!("templates/refunds.html")),
    ("stock.html", include_str!("templates/stock.html")),
    ("kpis.html", include_str!("templates/kpis.html")),
    ("imports.html", include_str!("templates/imports.html")),
    ("import.html", include_str!("templates/import.html")),
    ("streams.html", include_str!("templates/streams.html")),
    ("stream.html", include_str!("templates/stream.html")),
    ("workers.html", include_str!("templates/workers.html")),
    ("alerts.html", include_str!("templates/alerts.html")),
];

/// The templates.
pub(super) struct Templates {
    environment: Environment<'static>,
}

/// The rows of a table with the names of its columns in their cells: narrow windows show rows as cards. What is no markup
/// of a template is escaped: there are no other tags in it.
#[expect(clippy::needless_pass_by_value, reason = "a filter is given its arguments")]
fn labelled(rows: &Value, columns: Vec<Vec<Value>>) -> Result<Value, Error> {
    let names: Vec<&str> = columns.iter().map(|column| column.first().and_then(Value::as_str).unwrap_or("")).collect();
    let rows = rows.as_str().ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "rows are a text"))?;
    let mut text = String::with_capacity(rows.len() * 2);
    let mut column = 0;
    for (at, piece) in rows.split('<').enumerate() {
        if at > 0 {
            text.push('<');
        }
        let (tag, rest) = match piece.split_once('>') {
            Some((tag, rest)) if at > 0 => (tag, rest),
            _ => {
                text.push_str(piece);
                continue;
            }
        };
        text.push_str(tag);
        match tag.split([' ', '\n']).next() {
            Some("tr") => {
                column = 0;
                text.push_str(" role=\"row\"");
            }
            Some(cell @ ("td" | "th")) => {
                let role = if cell == "th" { "rowheader" } else { "cell" };
                text.push_str(&format!(" role=\"{role}\""));
                let spans = tag.split_once("colspan=\"").and_then(|(_, rest)| rest.split('"').next()?.parse().ok());
                if let (Some(name), None) = (names.get(column).filter(|name| !name.is_empty()), spans) {
                    text.push_str(&format!(" data-label=\"{}\"", format::Escaped(name)));
                }
                column += spans.unwrap_or(1);
            }
            _ => {}
        }
        text.push('>');
        text.push_str(rest);
    }
    Ok(Value::from_safe_string(text))
}

impl Templates {
    /// All of them.
    ///
    /// # Errors
    /// When one does not parse.
    pub(super) fn new(assets: &Assets) -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        // Said here and not left to a default: every text on a page may come from anybody.
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.set_formatter(|out, state, value| match value.as_str() {
            Some(text) if !value.is_safe() => Ok(write!(out, "{}", format::Escaped(text))?),
            _ => minijinja::escape_formatter(out, state, value),
        });
        let paths: Arc<BTreeMap<&'static str, String>> = Arc::new(assets.paths());
        environment.add_function("asset", move |name: &str| {
            let path = paths.get(name).cloned();
            path.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, format!("there is no asset {name:?}")))
        });
        environment.add_filter("number", |number: i64| crate::output::thousands(number));
        environment.add_filter("rate", crate::monitor::rate);
        environment.add_filter("money", format::money);
        environment.add_filter("seconds", crate::monitor::span);
        environment.add_filter("bytes", format::bytes);
        environment.add_filter("percent", format::percent);
        environment.add_filter("time", format::time_element);
        environment.add_filter("clock", format::clock);
        environment.add_filter("labelled", labelled);
        environment.add_filter("encoded", |text: &str| crate::http::query::encoded(text));
        environment.add_filter("order_page", crate::http::links::order_page);
        environment.add_filter("refund_form", crate::http::links::refund_form);
        environment.add_filter("inert", |text: &str| crate::output::inert(text.as_bytes(), true));
        for (name, source) in FILES {
            environment.add_template(name, source).with_context(|| format!("the template {name}"))?;
        }
        Ok(Self { environment })
    }

    /// The page that a template makes of values.
    ///
    /// # Errors
    /// When the template names a value that does not exist: a defect.
    pub(super) fn render(&self, name: &str, values: Value) -> anyhow::Result<String> {
        let text = self.environment.get_template(name).and_then(|template| template.render(values));
        text.map_err(|error| anyhow::anyhow!("{error:#}")).with_context(|| format!("the template {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        Templates::new(&Assets::new()).expect("they parse");
    }

    #[test]
    fn whatever_a_template_shows_is_escaped() {
        let mut templates = Templates::new(&Assets::new()).expect("they parse");
        templates.environment.add_template("t", "{{ a }}|{{ [a] }}|{{ {a: a} }}|{{ a|upper }}").expect("it parses");
        let shown = templates.render("t", minijinja::context! { a => "<img src='/x'>" }).expect("it renders");
        assert!(shown.starts_with("&lt;img src=&#x27;/x&#x27;&gt;|") && !shown.contains('<'), "{shown}");
    }

    #[test]
    fn cells_know_the_names_of_their_columns() {
        let mut templates = Templates::new(&Assets::new()).expect("they parse");
        let template = "{% import \"macros.html\" as ui %}{% call ui.table(\"t\", [[\"A & B\", \"\"], [\"C\", \"num\"]]) %}\
                        <tr class=\"x\"><th>{{ a }}</th><td class=\"num\">1</td></tr><tr><td colspan=\"2\">all</td></tr>{% endcall %}";
        templates.environment.add_template("t", template).expect("it parses");
        let shown = templates.render("t", minijinja::context! { a => "<td>" }).expect("it renders");
        for part in [
            "<tr class=\"x\" role=\"row\"><th role=\"rowheader\" data-label=\"A &amp; B\">&lt;td&gt;</th>",
            "<td class=\"num\" role=\"cell\" data-label=\"C\">1</td>",
            "<td colspan=\"2\" role=\"cell\">all</td>",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
    }

    #[test]
    fn no_page_has_scripts_or_styles_of_its_own() {
        for (name, source) in FILES {
            for forbidden in
                [" style=", "<style", " onclick", " onload", " onsubmit", " onchange", "javascript:", "|safe"]
            {
                assert!(!source.contains(forbidden), "{name} has {forbidden:?}");
            }
            for script in source.split("<script").skip(1) {
                assert!(
                    script.trim_start().starts_with("type=\"module\" src=") || script.trim_start().starts_with("src="),
                    "{name}"
                );
            }
        }
    }
}
