//! The kernel's part in noticing that a Postgres has vanished: sqlx leaves the sockets that it opens as they are.

use std::{
    fs,
    os::fd::{BorrowedFd, RawFd},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tracing::debug;

/// How long a connection may be silent before the kernel asks whether the other side is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(5);

/// How often it asks then.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);

/// How long what was sent, or asked, may stay unconfirmed before the connection is given up. Without it a machine that
/// vanished is noticed after a quarter of an hour, or never by who only waits.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(15);

/// Has the kernel watch over every connection of this process to a server on this port. Those of the other programs that
/// may listen there are watched over alike, which harms nothing.
pub(super) fn watch_over(port: u16) {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return };
    let numbers = open.flatten().filter_map(|file| file.file_name().to_str()?.parse::<RawFd>().ok());
    for number in numbers {
        if let Err(error) = watch_over_one(number, port) {
            debug!(%error, "a connection to Postgres is without keepalive");
        }
    }
}

#[expect(unsafe_code, reason = "sqlx gives out no socket; see below why this is sound")]
fn watch_over_one(number: RawFd, port: u16) -> std::io::Result<()> {
    // SAFETY: the number was open a moment ago and is only used for this call. Should it have been closed since, or be
    // another file, the kernel refuses, or an option is set that is right for any TCP connection to this port.
    let file = unsafe { BorrowedFd::borrow_raw(number) };
    let socket = SockRef::from(&file);
    // Files, listeners and sockets of other kinds have no such address.
    let peer = socket.peer_addr().ok().and_then(|peer| peer.as_socket());
    if peer.is_none_or(|peer| peer.port() != port) || socket.keepalive()? {
        return Ok(());
    }
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY))?;
    socket.set_tcp_user_timeout(Some(UNCONFIRMED_MAX))
}
