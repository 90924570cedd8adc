//! The mark: a number in Redis that only grows. Whoever knows a greater one than Redis has knows that Redis went back.

use std::sync::LazyLock;

use redis::{Script, aio::MultiplexedConnection};

use super::{Error, Redis};

static MARK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("mark.lua")));

/// A mark that Redis had, or has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    /// The number; 0 is none.
    pub number: i64,
    /// When it was reached, in Unix milliseconds.
    pub at_ms: i64,
}

impl Redis {
    /// Moves the mark on and yields the one that was found. One that is smaller than `known` stays, unless `accepted`.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn move_mark(
        &self,
        connection: &mut MultiplexedConnection,
        known: i64,
        now_ms: i64,
        accepted: bool,
    ) -> Result<Mark, Error> {
        let mut mark = MARK.key(self.keys().mark());
        mark.arg(known).arg(now_ms).arg(u8::from(accepted));
        let (number, at_ms) = mark.invoke_async(connection).await?;
        Ok(Mark { number, at_ms })
    }
}
