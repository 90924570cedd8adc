//! The contract of the streams as machines read it: what the code says, what the official schema of AsyncAPI allows, and
//! what stands in the streams.

mod bodies;
mod document;
mod streams;

use std::collections::BTreeMap;

use document::{Document, assert_valid, faults, read};
use pipeline::{
    message::{DeadReason, Entry, EntryId, Incoming, Message, decode_callback, decode_order, decode_refund},
    topology::StageName,
};
use serde_json::{Value, json};

use crate::program::{Local, Orderstream};

#[tokio::test]
async fn the_committed_document_is_what_the_program_prints() {
    let printed = Local::new().run(&["api", "asyncapi"]).await.exits(0).json();
    assert!(printed == Document::committed().0, "docs/asyncapi.json is stale: make contracts");
}

#[tokio::test]
async fn the_document_is_asyncapi_by_its_official_schema() {
    let official = BTreeMap::from([("asyncapi".to_owned(), read("tests/data/asyncapi-3.0.0.json"))]);
    let document = Document::committed().0;
    let mut cases = vec![("asyncapi".to_owned(), document.clone())];
    assert_valid(&official, &cases).await;

    // The schema notices what is wrong.
    let wrong: [(&str, Value); 4] = [
        ("/asyncapi", json!("2.6.0")),
        ("/operations/takeOrder/action", json!("publish")),
        ("/channels/orders/parameters/0/default", json!(0)),
        ("/components/messages/order/payload", json!("order")),
    ];
    cases = wrong
        .into_iter()
        .map(|(at, value)| {
            let mut document = document.clone();
            *document.pointer_mut(at).unwrap_or_else(|| panic!("there is {at}")) = value;
            ("asyncapi".to_owned(), document)
        })
        .collect();
    for (case, faults) in cases.iter().zip(faults(&official, &cases).await) {
        assert!(!faults.is_empty(), "{}", case.1);
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = Document::committed().0;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() >= 10, "{found:?}");
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn the_address_of_every_channel_is_its_key_with_the_parameters_filled_in() {
    let document = Document::committed().0;
    for (name, channel) in document["channels"].as_object().expect("channels") {
        let mut address = channel["address"].as_str().expect("an address").to_owned();
        for (parameter, allowed) in channel["parameters"].as_object().expect("parameters") {
            address = address.replace(&format!("{{{parameter}}}"), allowed["default"].as_str().expect("a text"));
        }
        assert_eq!(channel["x-redis-stream"]["key"], address, "{name}");
    }
}

#[tokio::test]
async fn every_example_in_the_document_is_what_it_is_an_example_of() {
    let document = Document::committed();
    let mut cases = Vec::new();
    for name in document.messages() {
        for example in document.message(&name)["examples"].as_array().expect("examples") {
            cases.push((name.clone(), example["payload"].clone()));
            if example["headers"].is_object() {
                cases.push((format!("{name} headers"), example["headers"].clone()));
            }
            let body = example["payload"].to_string();
            match name.as_str() {
                "order" => drop(decode_order(body.as_bytes()).expect("an order")),
                "refund" => drop(decode_refund(body.as_bytes()).expect("a refund")),
                "callback" => {
                    drop(decode_callback(body.as_bytes(), "m", chrono::DateTime::UNIX_EPOCH).expect("a callback"));
                }
                _ => {}
            }
        }
    }
    assert!(cases.len() > document.messages().len());
    assert_valid(&document.schemas(), &cases).await;
}

#[test]
fn a_body_at_the_bound_of_the_document_is_read_and_one_byte_more_is_not() {
    let document = Document::committed().0;
    let bound = document["channels"]["orders"]["x-redis-stream"]["body_bytes_max"].as_u64().expect("a number");
    let mut body = document["components"]["messages"]["order"]["examples"][0]["payload"].to_string().into_bytes();
    body.resize(usize::try_from(bound).expect("a length"), b' ');
    let reason = |body: &[u8]| {
        let entry = Entry { id: EntryId::default(), fields: vec![(b"body".to_vec(), body.to_vec())] };
        Incoming::decode(&entry).err().map(|error| error.reason)
    };
    assert_eq!(reason(&body), None);
    body.push(b' ');
    assert_eq!(reason(&body), Some(DeadReason::TooLarge));
}

#[test]
fn the_groups_of_the_document_are_those_of_the_stages() {
    let document = Document::committed().0;
    for (channel, stage) in
        [("orders", StageName::Reservation), ("refunds", StageName::Refund), ("callbacks", StageName::Callback)]
    {
        assert_eq!(document["channels"][channel]["x-redis-stream"]["group"], stage.as_str());
    }
}
