//! A way to Postgres that fails: it hangs up between a commit and its answer.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

use super::Work;
use crate::program::{Orderstream, Running};

/// What the way does.
#[derive(Default)]
struct Way {
    /// How many commits are still to be left without an answer.
    cuts: AtomicU32,
}

impl Way {
    /// Opens a way to the Postgres of this work; its port.
    async fn open(self: &Arc<Self>, work: &Work) -> u16 {
        let folder: String = work.program.stack.value("SHOW unix_socket_directories").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let way = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(format!("{folder}/.s.PGSQL.5432")).await.expect("Postgres");
                let way = Arc::clone(&way);
                // Whoever hangs up ends it.
                tokio::spawn(async move { drop(way.carry(client, server).await) });
            }
        });
        port
    }

    async fn carry(&self, mut client: TcpStream, mut server: UnixStream) -> std::io::Result<()> {
        let (mut out, mut back) = ([0; 16_384], [0; 16_384]);
        loop {
            let (forth, bytes) = tokio::select! {
                read = client.read(&mut out) => (true, read?),
                read = server.read(&mut back) => (false, read?),
            };
            if bytes == 0 {
                return Ok(());
            }
            if !forth {
                client.write_all(&back[..bytes]).await?;
            } else {
                server.write_all(&out[..bytes]).await?;
                let commits = out[..bytes].windows(6).any(|word| word == b"COMMIT");
                if commits && self.cuts.fetch_update(SeqCst, SeqCst, |cuts| cuts.checked_sub(1)).is_ok() {
                    // It has answered, and nobody hears it.
                    server.readable().await?;
                    return Ok(());
                }
            }
        }
    }
}

async fn workers(work: &Work, port: u16) -> Running {
    let database: String = work.program.stack.value("SELECT current_database()::text").await;
    let url = format!("postgres://orderstream@127.0.0.1:{port}/{database}?sslmode=disable");
    let args = ["run", "--json", "--batch", "20", "--claim-idle", "1"];
    Running::spawn(work.program.command(&args).env("DATABASE_URL", url), &args)
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_done() {
    let work = Work::of(1_000).await;
    let way = Arc::new(Way::default());
    let workers = workers(&work, way.open(&work).await).await;
    work.gets_on(50).await;
    way.cuts.store(20, SeqCst);
    let counts = work.ends(workers).await;
    assert_eq!(way.cuts.load(SeqCst), 0, "all were cut: {counts}");
}
