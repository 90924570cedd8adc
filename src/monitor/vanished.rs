//! Imports whose process has vanished: it was killed, or its machine is gone. An importer says every two seconds that it
//! lives. Whoever watches sees one fall silent and ends its import, so that the record says so, and not "publishing" for
//! ever; orders that it had published go on, and importing the file again brings the rest.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use pipeline::{
    shutdown::Shutdown,
    store::{self, OpenImport},
};
use tracing::{debug, warn};

use super::Monitor;

/// How often open imports are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// An importer that was silent for so long has vanished. Seen by this process, by its own clock, and with Postgres
/// answering all the time: an importer cannot say anything while Postgres is away.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The last words of importers, and since when they have been the last.
#[derive(Debug, Default)]
struct Words(BTreeMap<i64, (OpenImport, Instant)>);

impl Words {
    /// Takes in what importers said last; those that have been silent for too long.
    fn hear(&mut self, imports: Vec<OpenImport>, now: Instant) -> Vec<OpenImport> {
        let mut heard = BTreeMap::new();
        for import in imports {
            let since = match self.0.remove(&import.id) {
                Some((before, since)) if before == import => since,
                _ => now,
            };
            heard.insert(import.id, (import, since));
        }
        self.0 = heard;
        let is_silent = |since: &Instant| now.duration_since(*since) >= SILENCE_MAX;
        self.0.values().filter(|(_, since)| is_silent(since)).map(|(import, _)| import.clone()).collect()
    }
}

impl Monitor {
    /// Ends imports whose process has vanished, until the shutdown.
    pub(super) async fn end_vanished_imports_until(self, shutdown: Shutdown) {
        let mut words = Words::default();
        while shutdown.sleep(LOOK_EVERY).await {
            if let Err(error) = self.end_vanished_imports(&mut words).await {
                debug!(%error, "open imports are not looked at");
                words = Words::default();
            }
        }
    }

    async fn end_vanished_imports(&self, words: &mut Words) -> Result<(), store::Error> {
        let pool = self.0.store.pool();
        let open = store::open_imports(&pool).await?;
        for import in words.hear(open, Instant::now()) {
            if store::abandon_import(&pool, &import).await? {
                warn!(import = import.id, "the process of an import has vanished: import the same file again");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn import(id: i64, second: i64) -> OpenImport {
        OpenImport { id, noted_at: DateTime::<Utc>::from_timestamp(second, 0) }
    }

    #[test]
    fn who_says_something_lives_and_who_is_silent_for_long_has_vanished() {
        let (mut words, start) = (Words::default(), Instant::now());
        let mut hear = |second: u64, imports: Vec<OpenImport>| {
            let silent = words.hear(imports, start + Duration::from_secs(second));
            silent.into_iter().map(|import| import.id).collect::<Vec<_>>()
        };
        assert!(hear(0, vec![import(1, 0), import(2, 0)]).is_empty());
        assert!(hear(29, vec![import(1, 28), import(2, 0)]).is_empty());
        assert_eq!(hear(30, vec![import(1, 30), import(2, 0), import(3, 30)]), [2]);
        assert_eq!(hear(59, vec![import(1, 30), import(3, 30)]), Vec::<i64>::new());
        // One that had ended and is open again is heard for the first time.
        assert_eq!(hear(61, vec![import(1, 30), import(2, 0), import(3, 61)]), [1]);
    }
}
