//! Connections: so many, each with so much time, and none that is slow on purpose.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::{App, problem::MEDIA_TYPE, routes, stall::Hurried, strict::Strict};

/// Most bytes of the headers of a request.
const HEADER_BYTES_MAX: usize = 32 * 1024;

/// Most headers of a request.
const HEADERS_MAX: usize = 64;

/// Rest after a failed accept: mostly there are no file descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How long requests in flight have when the process is to end.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves until the shutdown: then `/readyz` fails, a moment later nobody new is let in, and requests in flight come to
/// their end, within bounds.
pub(super) async fn serve(app: App, listener: TcpListener) {
    let router = routes::router(app.clone());
    let places = Arc::new(Semaphore::new(app.options.http_connections as usize));
    let mut connections = JoinSet::new();
    let notice = async {
        app.shutdown.begun().await;
        app.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(app.options.http_notice)).await;
    };
    tokio::pin!(notice);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut notice => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                let served = converse(app.clone(), router.clone(), stream, peer);
                connections.spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(_) => turn_away(&stream),
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        warn!(connections = connections.len(), "requests were cut off");
    }
}

/// One connection, to its end.
async fn converse(app: App, router: Router, stream: TcpStream, peer: SocketAddr) {
    // Only delays small answers.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection has ended at once");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            Ok::<_, Infallible>(match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            })
        }
    });
    let stream = Strict::new(Hurried::new(stream, Duration::from_secs(app.options.http_timeout)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(app.options.http_header_timeout))
        .max_buf_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = draining(&app) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, %peer, "a connection broke off");
    }
}

/// Waits until nobody new is let in.
async fn draining(app: &App) {
    app.shutdown.begun().await;
    tokio::time::sleep(Duration::from_secs(app.options.http_notice)).await;
}

/// Says why, as far as that goes without waiting for whoever came too much.
fn turn_away(stream: &TcpStream) {
    let body = r#"{"type":"/problems/busy","title":"Too much at once","status":503,"detail":"all connections are taken","code":"busy","request_id":""}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: {MEDIA_TYPE}\r\nretry-after: 1\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    if let Err(error) = stream.try_write(answer.as_bytes()) {
        debug!(%error, "a connection too many");
    }
}
