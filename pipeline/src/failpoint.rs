//! Places where tests make the program fail; without the feature `failpoints` they are nothing.
//!
//! The variable `FAILPOINTS` says which fail and how, in the language of the crate `fail`:
//! `insert_orders=3*off->1*return(abort)` lets three batches pass and kills the process at the fourth. What `return`
//! can be: `error` (as if the server had not answered), `abort` (the process dies at once), `stop` (it is stopped as by
//! SIGSTOP, until somebody sends SIGCONT), and for `stage.process` also `abort:TEXT` (it dies if a message of the batch
//! contains the text). `panic` and `sleep(ms)` are the crate's own. `docs/RELIABILITY.md` lists the places.

use std::io;

/// Fails here, if a test says so.
///
/// # Errors
/// When a test says `return(error)`: as if the server had not answered.
#[cfg(feature = "failpoints")]
pub fn hit<E: From<io::Error>>(place: &str) -> Result<(), E> {
    match act(place, |_| false) {
        true => Err(io::Error::other(format!("failpoint {place}")).into()),
        false => Ok(()),
    }
}

/// Fails here, if a test says so.
///
/// # Errors
/// None.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit<E: From<io::Error>>(_: &str) -> Result<(), E> {
    Ok(())
}

/// Dies here, if a test says so of a text that `contains` finds in the batch.
#[cfg(feature = "failpoints")]
pub(crate) fn hit_batch(place: &str, contains: impl Fn(&[u8]) -> bool) {
    act(place, contains);
}

/// Dies here, if a test says so of a text that `contains` finds in the batch.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(crate) fn hit_batch(_: &str, _: impl Fn(&[u8]) -> bool) {}

/// Reads `FAILPOINTS`; to be called once, first thing.
pub fn setup() {
    #[cfg(feature = "failpoints")]
    // Kept for as long as the process lives.
    std::mem::forget(fail::FailScenario::setup());
}

#[cfg(feature = "failpoints")]
fn act(place: &str, contains: impl Fn(&[u8]) -> bool) -> bool {
    let Some(action) = fail::eval(place, |action| action.unwrap_or_default()) else { return false };
    if let Some(text) = action.strip_prefix("abort:") {
        if contains(text.as_bytes()) {
            say(place, "abort");
            std::process::abort();
        }
        return false;
    }
    // Said before it happens: a test must be able to see that it was hit.
    say(place, &action);
    match action.as_str() {
        "abort" => std::process::abort(),
        "stop" => {
            // Returns once somebody has sent SIGCONT.
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).expect("a process may stop itself");
            false
        }
        "error" => true,
        other => panic!("failpoint {place}: unknown action {other:?}"),
    }
}

/// In one piece: another thread may panic at the same time, and says that meanwhile.
#[cfg(feature = "failpoints")]
fn say(place: &str, action: &str) {
    use io::Write;
    let line = format!("failpoint {place}: {action}\n");
    io::stderr().write_all(line.as_bytes()).expect("standard error");
}
