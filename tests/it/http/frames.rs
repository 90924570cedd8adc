//! Requests that can be read in two ways, and bodies in other forms than ours.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::program::{
    Program,
    client::{Answer, Api},
};

/// What is answered to these bytes, until the other side hangs up.
async fn said(api: &Api, bytes: &str) -> String {
    let mut stream = TcpStream::connect(&api.address).await.expect("a connection");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ended = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-header-timeout", "1"]).await;
    let body = r#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}]}"#;
    let post = |headers: &str| {
        format!("POST /v1/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{headers}\r\n{body}")
    };
    let length = body.len();
    let good = post(&format!("content-length: {length}\r\n"));
    assert!(said(&api, &good).await.starts_with("HTTP/1.1 202"));
    let chunks = |begin: &str| {
        let head = post("transfer-encoding: chunked\r\n").replace(body, "");
        let begin = begin.replace("5d", &format!("{length:x}"));
        let rest = if begin.contains(body) { String::new() } else { format!("{body}\r\n0\r\n") };
        format!("{head}{begin}{rest}\r\n")
    };
    assert!(said(&api, &chunks("5d;a=b;c=\"d\"\r\n")).await.starts_with("HTTP/1.1 202"));
    for (name, request) in [
        ("two hosts", "GET /livez HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n".to_owned()),
        ("no host", "GET /livez HTTP/1.1\r\n\r\n".to_owned()),
        ("a host that is none", "GET /livez HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned()),
        ("a user in the host", "GET /livez HTTP/1.1\r\nhost: a@localhost\r\n\r\n".to_owned()),
        ("two targets", "GET http://evil.example/livez HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned()),
        ("bare line feeds", "GET /livez HTTP/1.1\nhost: localhost\n\n".to_owned()),
        ("one bare line feed", "GET /livez HTTP/1.1\r\nhost: localhost\nx-a: b\r\n\r\n".to_owned()),
        ("a bare line feed at the end", "GET /livez HTTP/1.1\r\nhost: localhost\r\n\n".to_owned()),
        ("a bare carriage return", "GET /livez HTTP/1.1\r\nhost: localhost\rx-a: b\r\n\r\n".to_owned()),
        ("a folded line", "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\n c\r\n\r\n".to_owned()),
        ("a blank before the colon", "GET /livez HTTP/1.1\r\nhost : localhost\r\n\r\n".to_owned()),
        ("two lengths", post(&format!("content-length: {length}\r\ncontent-length: 5\r\n"))),
        ("a length twice", post(&format!("content-length: {length}\r\ncontent-length: {length}\r\n"))),
        ("a list of lengths", post(&format!("content-length: {length}, {length}\r\n"))),
        ("a length with a sign", post(&format!("content-length: +{length}\r\n"))),
        ("length and chunks", post(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"))),
        ("chunks and length", post(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"))),
        ("another transfer encoding", post("transfer-encoding: gzip, chunked\r\n")),
        ("a bare line feed behind a chunk's size", chunks("5d;\n\r\n")),
        ("a bare line feed in a chunk's extension", chunks("5d;a=b\nc\r\n")),
        ("a quoted line feed in a chunk's extension", chunks("5d;a=\"b\nc\"\r\n")),
        ("a control character in a chunk's extension", chunks("5d;a=\0\r\n")),
        ("a bare line feed in the last chunk's extension", chunks(&format!("{length:x}\r\n{body}\r\n0;a\nb\r\n"))),
        ("a chunk with a bare line feed", format!("{}5\n", post("transfer-encoding: chunked\r\n").replace(body, ""))),
    ] {
        let answer = said(&api, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{name}: {answer}");
        // Behind a good one on the same connection, too: a proxy sends those of many clients over one.
        let answer = said(&api, &format!("{good}{request}")).await;
        assert!(answer.contains("HTTP/1.1 202") && answer.contains("HTTP/1.1 400"), "{name}: {answer}");
    }
    let old = said(&api, "GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") || old.starts_with("HTTP/1.1 200"), "{old}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn a_body_in_gzip_is_unpacked_within_its_bounds_and_any_other_form_is_refused_by_name() {
    let program = Program::seeded(1, &[10]).await;
    let api = Api::serve(&program, &["--upload-max", "1M"]).await;
    let send = async |path: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        let mut request = api.request(reqwest::Method::POST, path).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::of(request).await
    };
    let order = json!({ "order_code": "A", "customer_id": 1, "lines": [{ "product_id": 1, "quantity": 1, "unit_price": "1" }] });
    let order = order.to_string();
    let (json, csv) = (("content-type", "application/json"), ("content-type", "text/csv"));
    let packed = ("content-encoding", "gzip");
    send("/v1/orders", &[json, packed], gzip(order.as_bytes())).await.ok(202);
    let csv_file = "order_code,customer_id,product_id,quantity,unit_price\nA,1,1,1,1\nB,1,1,1,1\n";
    let import = send("/v1/imports", &[csv, packed], gzip(csv_file.as_bytes())).await.ok(202);
    let link = format!("/v1/imports/{}", import["id"]);
    crate::program::harness::eventually("it is read", async || api.get(&link).await.ok(200)["rows"] == 2).await;
    send("/v1/orders", &[json, ("content-encoding", "identity")], order.clone().into_bytes()).await.ok(202);

    // A kilobyte that would be a gigabyte.
    let bomb = gzip(&vec![b'x'; 4 << 20]);
    send("/v1/imports", &[csv, packed], bomb.clone()).await.problem(413, "too_large");
    send("/v1/orders", &[json, packed], bomb).await.problem(413, "too_large");
    send("/v1/orders", &[json, packed], order.clone().into_bytes()).await.problem(400, "bad_request");
    for encoding in ["br", "zstd", "deflate", "gzip, gzip", "GZIP, br"] {
        let refused = send("/v1/imports", &[csv, ("content-encoding", encoding)], gzip(csv_file.as_bytes())).await;
        let problem = refused.problem(415, "unsupported_type");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("gzip or none")), "{problem}");
        assert_eq!(refused.headers["accept-encoding"], "gzip, identity");
    }
    // What is signed is the packed body, or the other one: nobody knows.
    send("/webhooks/payments", &[json, packed], gzip(b"{}")).await.problem(415, "unsupported_type");

    for charset in ["utf-8", "UTF-8", "\"utf-8\"", "us-ascii"] {
        let media = format!("application/json; charset={charset}");
        send("/v1/orders", &[("content-type", &media)], order.clone().into_bytes()).await.ok(202);
    }
    let utf16: Vec<u8> = csv_file.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let import = send("/v1/imports", &[("content-type", "text/csv; charset=utf-16le")], utf16).await.ok(202);
    let link = format!("/v1/imports/{}", import["id"]);
    crate::program::harness::eventually("it is read", async || api.get(&link).await.ok(200)["rows"] == 2).await;
    for (path, media) in [
        ("/v1/orders", "application/json; charset=iso-8859-1"),
        ("/v1/orders", "application/x-ndjson;charset=\"windows-1252\""),
        ("/v1/refunds", "application/json; charset=utf-16"),
        ("/v1/imports", "text/csv; header=present; charset=latin1"),
    ] {
        let problem =
            send(path, &[("content-type", media)], order.clone().into_bytes()).await.problem(415, "unsupported_type");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("send UTF-8")), "{problem}");
    }
}
