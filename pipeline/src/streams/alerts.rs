//! Where each alert stands: written by the one process that evaluates them, read by all that show them.

use std::sync::LazyLock;

use redis::{AsyncCommands, Script, aio::MultiplexedConnection};

use super::{Error, Redis};

static ALERTS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("alerts.lua")));

/// Most bytes of a field that are read: others may write into the hash.
const FIELD_BYTES_MAX: usize = 16 * 1024;

impl Redis {
    /// What stands in these fields, in their order; `None` where nothing does.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn alerts(
        &self,
        connection: &mut MultiplexedConnection,
        fields: &[&str],
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let found: Vec<Option<Vec<u8>>> =
            redis::cmd("HMGET").arg(self.keys().alerts()).arg(fields).query_async(connection).await?;
        Ok(found.into_iter().map(|text| text.filter(|text| text.len() <= FIELD_BYTES_MAX)).collect())
    }

    /// Writes fields, unless another process than `who` leads; whether they are written.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn save_alerts(
        &self,
        connection: &mut MultiplexedConnection,
        who: &str,
        fields: &[(&str, String)],
    ) -> Result<bool, Error> {
        let mut save = ALERTS.key(self.keys().monitor_leader());
        save.key(self.keys().alerts()).arg(who);
        for (field, text) in fields {
            save.arg(field).arg(text);
        }
        Ok(save.invoke_async(connection).await?)
    }

    /// Writes a field whoever leads: for what happened while nobody could.
    ///
    /// # Errors
    /// When Redis cannot be reached, or refuses.
    pub async fn hand_over_alert(
        &self,
        connection: &mut MultiplexedConnection,
        field: &str,
        text: &str,
    ) -> Result<(), Error> {
        Ok(connection.hset(self.keys().alerts(), field, text).await?)
    }
}
