//! The log for programs: one JSON object a line. `timestamp`, `level` and `message` are always there; the fields of the
//! event stand beside them, and those of the spans around it (a request's `request_id`). Within a span that is exported,
//! `trace_id` names its trace.

use std::fmt;

use chrono::{SecondsFormat, Utc};
use opentelemetry::trace::TraceContextExt;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormattedFields,
        format::{FormatEvent, JsonFields, Writer},
    },
    registry::LookupSpan,
};

/// The names that no field can take.
const OURS: [&str; 3] = ["timestamp", "level", "message"];

pub(super) struct JsonLines;

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    message: Value,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> FormatEvent<S, JsonFields> for JsonLines {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let Some(formatted) = extensions.get::<FormattedFields<JsonFields>>() else { continue };
            if let Ok(of_span) = serde_json::from_str::<Map<String, Value>>(formatted) {
                fields.0.extend(of_span);
            }
        }
        let trace = opentelemetry::Context::current().span().span_context().clone();
        if trace.is_valid() {
            fields.0.insert("trace_id".to_owned(), trace.trace_id().to_string().into());
        }
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_else(|| "".into());
        fields.0.retain(|name, _| !OURS.contains(&name.as_str()));
        let line = Line {
            timestamp: Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
            level: event.metadata().level().as_str(),
            message,
            fields: fields.0,
        };
        writeln!(writer, "{}", crate::output::inert_json(serde_json::to_string(&line).map_err(|_| fmt::Error)?))
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        // `r#type` is called `type`.
        let name = field.name();
        self.0.insert(name.strip_prefix("r#").unwrap_or(name).to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, i64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, u64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}
