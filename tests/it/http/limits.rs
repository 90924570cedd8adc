//! Clients that are slow, endless, or too many.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::program::{
    Program,
    client::Api,
    harness::{PATIENCE, eventually},
};

/// Sends bytes and reads until the other side hangs up.
async fn converse(api: &Api, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&api.address).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    ending(stream).await
}

async fn ending(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ended = timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the server hangs up");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn headers_that_do_not_come_are_not_waited_for() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-header-timeout", "1"]).await;
    // Nothing at all, half a line, and half of the headers.
    for start in ["", "GET /live", "GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a: "] {
        let said = converse(&api, start.as_bytes()).await;
        assert!(!said.contains("200 OK"), "{start:?}: {said}");
    }
    // After a request, too.
    let said = converse(&api, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-timeout", "2"]).await;
    let head = "POST /v1/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let said = converse(&api, format!("{head}content-length: 100\r\nconnection: close\r\n\r\n{{").as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("\"code\":\"timeout\""), "{said}");
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let head = "POST /v1/orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-type: application/json\r\n\r\n";
    let mut stream = TcpStream::connect(&api.address).await.expect("a connection");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut sent = 0;
    // Until the other side no longer takes it.
    while sent < 1_000 && timeout(PATIENCE, stream.write_all(chunk.as_bytes())).await.expect("taken or refused").is_ok()
    {
        sent += 1;
    }
    assert!(sent < 1_000, "{sent} chunks were taken");
}

#[tokio::test]
async fn headers_without_an_end_are_cut_off() {
    let program = Program::get().await;
    let api = Api::serve(&program, &[]).await;
    let many = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x-a: b\r\n".repeat(1_000));
    assert!(converse(&api, many.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let long = format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nx-a: {}\r\n\r\n", "b".repeat(100_000));
    assert!(!converse(&api, long.as_bytes()).await.contains("200 OK"));
    for nonsense in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\0",
        "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        assert!(!converse(&api, nonsense.as_bytes()).await.contains("200 OK"), "{nonsense:?}");
    }
    assert_eq!(api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn too_many_connections_are_turned_away_and_the_others_served() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-connections", "3", "--http-header-timeout", "5"]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(&api.address).await.expect("a connection"));
    }
    let mut said = String::new();
    eventually("one is turned away", async || {
        said = ending(TcpStream::connect(&api.address).await.expect("a connection")).await;
        said.starts_with("HTTP/1.1 503")
    })
    .await;
    assert!(said.contains("\"code\":\"busy\""), "{said}");
    drop(held);
    eventually("there is room again", async || {
        api.client.get(format!("http://{}/livez", api.address)).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

#[tokio::test]
async fn who_does_not_read_the_answers_is_hung_up_on() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-connections", "1", "--http-timeout", "1"]).await;
    let mut deaf = TcpStream::connect(&api.address).await.expect("a connection");
    let ask = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200);
    deaf.write_all(ask.as_bytes()).await.expect("sent");
    eventually("there is room for another", async || {
        api.client.get(format!("http://{}/livez", api.address)).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    drop(deaf);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-rate", "5"]).await;
    let mut limited = None;
    for _ in 0..20 {
        let answer = api.get("/livez").await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
    }
    let limited = limited.expect("a limit");
    limited.problem(429, "rate_limited");
    assert_eq!(limited.headers["retry-after"], "1");
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_process_ends() {
    let program = Program::get().await;
    let api = Api::serve(&program, &["--http-notice", "0"]).await;
    let mut stream = TcpStream::connect(&api.address).await.expect("a connection");
    let body = r#"{"order_code":"A","customer_id":1,"lines":[{"product_id":1,"quantity":1,"unit_price":"1"}]}"#;
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&body.as_bytes()[..10]).await.expect("sent");
    // It is being worked on once another one of the same connection's age is answered.
    assert_eq!(api.get("/livez").await.status, 200);
    api.running.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("nobody new is let in", async || TcpStream::connect(&api.address).await.is_err()).await;
    stream.write_all(&body.as_bytes()[10..]).await.expect("sent");
    let said = ending(stream).await;
    assert!(said.starts_with("HTTP/1.1 202"), "{said}");
    api.running.end().await.exits(0);
}
