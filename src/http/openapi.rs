//! What describes the API, for programs: made from the code.

use axum::{Json, response::IntoResponse};
use serde_json::{Value, json};
use utoipa::openapi::{
    Content, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use utoipa::{PartialSchema, ToSchema};

use super::{
    problem::{self, Code},
    routes,
};
use crate::contracts;

/// The document before its routes.
pub(super) fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("orderstream")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("An order pipeline on Redis Streams. See docs/HTTP.md."));
    OpenApiBuilder::new().info(info).security(Some([SecurityRequirement::new("token", Vec::<String>::new())])).build()
}

/// The whole document: routes, and the problems that every route may answer with.
pub fn document() -> OpenApi {
    let (_, mut document) = routes::routes().split_for_parts();
    let components = document.components.get_or_insert_default();
    components
        .security_schemes
        .insert("token".to_owned(), RefOr::T(SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer))));
    components.schemas.insert("Problem".to_owned(), problem::Document::schema());
    components.schemas.insert("FieldError".to_owned(), problem::FieldError::schema());
    let mut statuses: Vec<u16> = Code::ALL.iter().map(|code| code.status().as_u16()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.post].into_iter().flatten();
        for operation in operations {
            for status in &statuses {
                let codes: Vec<&str> =
                    Code::ALL.iter().filter(|code| code.status() == *status).map(|code| code.as_str()).collect();
                let content = Content::new(Some(Ref::from_schema_name(problem::Document::name())));
                let response =
                    ResponseBuilder::new().description(codes.join(", ")).content(problem::MEDIA_TYPE, content).build();
                operation.responses.responses.entry(status.to_string()).or_insert(RefOr::T(response));
            }
        }
    }
    document
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations", operation_id = "getOpenApi", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(super) async fn show() -> impl IntoResponse {
    Json(document())
}

/// The streams that other programs write and read.
#[utoipa::path(
    get, path = "/asyncapi.json", tag = "operations", operation_id = "getAsyncApi", security(()),
    responses((status = 200, description = "AsyncAPI 3.0", body = Object))
)]
pub(super) async fn streams() -> impl IntoResponse {
    Json(contracts::asyncapi())
}

/// A collection of requests for Postman (v2.1), which Bruno and others read as well.
///
/// # Errors
/// When the document cannot be written.
pub fn postman() -> serde_json::Result<Value> {
    let document = serde_json::to_value(document())?;
    let mut items = Vec::new();
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            items.push(item(&document, path, method, operation));
        }
    }
    Ok(json!({
        "info": {
            "name": "orderstream",
            "schema": "https://schema.getpostman.com/json/collection/v2.1.0/collection.json",
        },
        "auth": { "type": "bearer", "bearer": [{ "key": "token", "value": "{{token}}", "type": "string" }] },
        "variable": [{ "key": "url", "value": "http://127.0.0.1:8080" }, { "key": "token", "value": "" }],
        "item": items,
    }))
}

fn item(document: &Value, path: &str, method: &str, operation: &Value) -> Value {
    let raw = format!("{{{{url}}}}{}", path.replace('{', ":").replace('}', ""));
    let parts: Vec<String> =
        path.trim_start_matches('/').split('/').map(|part| part.replace('{', ":").replace('}', "")).collect();
    let mut request = json!({
        "method": method.to_uppercase(),
        "description": operation["summary"],
        "url": { "raw": raw, "host": ["{{url}}"], "path": parts },
        "header": [],
    });
    if let Some((media, content)) =
        operation["requestBody"]["content"].as_object().and_then(|content| content.iter().next())
    {
        let example = example(document, &content["schema"], 0);
        let text = match media.as_str() {
            "application/json" => serde_json::to_string_pretty(&example).unwrap_or_default(),
            _ => String::new(),
        };
        request["header"] = json!([{ "key": "Content-Type", "value": media }]);
        request["body"] = json!({ "mode": "raw", "raw": text });
    }
    json!({ "name": operation["operationId"], "request": request })
}

/// A value that a schema describes, from its examples.
fn example(document: &Value, schema: &Value, depth: usize) -> Value {
    if depth > 8 {
        return Value::Null;
    }
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return example(document, &document["components"]["schemas"][name], depth + 1);
    }
    if let Some(choice) = schema["oneOf"].as_array().and_then(|choices| choices.last()) {
        return example(document, choice, depth + 1);
    }
    if let Some(properties) = schema["properties"].as_object() {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let named = properties
            .iter()
            .filter(|(name, property)| required.contains(&name.as_str()) || property.get("example").is_some());
        return named.map(|(name, property)| (name.clone(), example(document, property, depth + 1))).collect();
    }
    match schema["type"].as_str() {
        Some("array") => json!([example(document, &schema["items"], depth + 1)]),
        Some("integer") => json!(1),
        Some("boolean") => json!(false),
        Some("string") => json!(""),
        _ => json!({}),
    }
}
