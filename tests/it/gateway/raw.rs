//! A server that is given its behaviour connection by connection, below HTTP.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Where it listens, and what it saw.
pub(crate) struct Raw {
    pub(crate) url: String,
    /// Requests so far.
    pub(crate) requests: Arc<AtomicUsize>,
    /// Most requests in hand at once.
    pub(crate) most: Arc<AtomicUsize>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: String,
    /// How many came before it.
    pub(crate) number: usize,
}

impl Raw {
    /// Gives every request with its connection to `serve`; one request a connection.
    pub(crate) async fn serve<F>(serve: impl Fn(Seen, TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (requests, most, now) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let raw = Self { url, requests: Arc::clone(&requests), most: Arc::clone(&most) };
        let shared = Arc::new((serve, now));
        tokio::spawn(async move {
            loop {
                let Ok((mut connection, _)) = listener.accept().await else { return };
                let (shared, requests, most) = (Arc::clone(&shared), Arc::clone(&requests), Arc::clone(&most));
                tokio::spawn(async move {
                    let Some((head, body)) = request(&mut connection).await else { return };
                    let number = requests.fetch_add(1, Ordering::SeqCst);
                    most.fetch_max(shared.1.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    shared.0(Seen { head, body, number }, connection).await;
                    shared.1.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        raw
    }
}

/// Head and body of a request.
async fn request(connection: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = connection.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}

/// An answer of this status line, with this body.
pub(crate) fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

/// Sends what can be sent: the other side may be gone.
pub(crate) async fn send(mut connection: TcpStream, text: &str) {
    if connection.write_all(text.as_bytes()).await.is_ok() {
        connection.shutdown().await.ok();
    }
}

/// An approved charge, as it was asked for.
pub(crate) fn approved(body: &str) -> String {
    let asked: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let mut charge = asked;
    charge["id"] = "ch_1".into();
    charge["status"] = "approved".into();
    charge.to_string()
}
