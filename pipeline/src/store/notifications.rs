//! Who is told of an event. Rows are made from `events` and a watermark for each channel that move together, so that
//! whatever became of the events stream no event is left out, and none is told twice on one channel.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};

use super::{Error, Store, commit, last_event_seq};
use crate::{
    domain::{Cents, EventKind, NotificationChannel, NotificationStatus},
    failpoint,
};

/// The advisory lock of the one active notifier. Any constant does, as long as nothing else in the database uses it;
/// this one spells "notify".
const NOTIFIER_LOCK: i64 = 0x6e_6f_74_69_66_79;

/// Most characters of an error that are kept: what a server answers is of any length.
const ERROR_CHARS_MAX: usize = 500;

/// Tries to take the lock of the one notifier; it is kept until this connection ends.
///
/// # Errors
/// As any statement.
pub async fn try_become_notifier(connection: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "ours!""#, NOTIFIER_LOCK)
        .fetch_one(connection)
        .await?)
}

/// The name of this installation: different for any two, the same for ever.
///
/// # Errors
/// As any statement.
pub async fn installation(pool: &PgPool) -> Result<String, Error> {
    Ok(sqlx::query_scalar!("SELECT value FROM settings WHERE key = 'installation'").fetch_one(pool).await?)
}

/// What a channel tells of when it is switched on for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstTold {
    /// Of what happens from now on.
    News,
    /// Of what happened within the last day, too.
    LastDay,
}

/// Switches channels on: one that never was begins here, the others go on where they stood. Which ones begin.
///
/// # Errors
/// As any statement.
pub async fn switch_notifications_on(
    pool: &PgPool,
    channels: &[NotificationChannel],
    first: FirstTold,
) -> Result<Vec<NotificationChannel>, Error> {
    let channels: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
    let begun = sqlx::query_scalar!(
        "INSERT INTO notification_channels (channel, last_seq)
         SELECT channel, CASE WHEN NOT $2 THEN last_seq
                              ELSE coalesce((SELECT seq FROM events WHERE at <= now() - interval '1 day'
                                             ORDER BY seq DESC LIMIT 1), 0) END
         FROM event_counter, unnest($1::text[]) AS channel
         ON CONFLICT (channel) DO NOTHING
         RETURNING channel",
        &channels as &[&str],
        first == FirstTold::LastDay,
    )
    .fetch_all(pool)
    .await?;
    begun.into_iter().map(|channel| Ok(channel.parse()?)).collect()
}

/// Inserts the notifications of the next events after the watermarks of these channels, `limit` events at most, and moves
/// the watermarks; how many events were passed. A refused refund notifies nobody, nor does one that only brings pieces back.
///
/// # Errors
/// As any statement.
pub async fn enqueue_notifications(store: &Store, channels: &[NotificationChannel], limit: i64) -> Result<i64, Error> {
    let channels: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
    let mut transaction = store.begin().await?;
    // A second notifier waits here, and then goes on behind the first.
    let watermarks = sqlx::query_scalar!(
        "SELECT last_seq FROM notification_channels WHERE channel = ANY ($1) ORDER BY channel FOR NO KEY UPDATE",
        &channels as &[&str],
    )
    .fetch_all(&mut *transaction)
    .await?;
    // Whoever sees the counter at n sees all events up to n.
    let last = last_event_seq(&mut transaction).await?;
    let after = watermarks.into_iter().min().unwrap_or(last);
    let up_to = last.min(after + limit);
    if up_to > after {
        sqlx::query!(
            "INSERT INTO notifications (seq, order_id, kind, channel)
             SELECT e.seq, e.order_id, e.kind, c.channel
             FROM events e JOIN notification_channels c ON e.seq > c.last_seq
             WHERE e.seq > $1 AND e.seq <= $2 AND c.channel = ANY ($3)
               AND e.kind <> 'refund_refused' AND e.order_id IS NOT NULL
               AND (e.kind <> 'refunded' OR e.amount_cents > 0)
               -- Whoever switches notifications on again tells nobody of what is long past.
               AND e.at > now() - interval '1 day'
             ORDER BY e.seq
             ON CONFLICT (seq, channel) DO NOTHING",
            after,
            up_to,
            &channels as &[&str],
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE notification_channels SET last_seq = $1 WHERE channel = ANY ($2) AND last_seq < $1",
            up_to,
            &channels as &[&str],
        )
        .execute(&mut *transaction)
        .await?;
    }
    commit(transaction).await?;
    Ok((up_to - after).max(0))
}

/// How many events have no notifications on some of these channels yet.
///
/// # Errors
/// As any statement.
pub async fn events_without_notifications(pool: &PgPool, channels: &[NotificationChannel]) -> Result<i64, Error> {
    let channels: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
    Ok(sqlx::query_scalar!(
        r#"SELECT coalesce(max(c.last_seq - n.last_seq), 0) AS "events!"
           FROM event_counter c, notification_channels n WHERE n.channel = ANY ($1)"#,
        &channels as &[&str],
    )
    .fetch_one(pool)
    .await?)
}

/// A notification in hand, with all that its reader is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueNotification {
    /// Which one.
    pub id: i64,
    /// The event's number.
    pub seq: i64,
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: DateTime<Utc>,
    /// The amount of the event: the order's total, or what went back.
    pub amount: Cents,
    /// In what; `None` where an earlier version did not record it.
    pub currency: Option<String>,
    /// Tries that were refused so far.
    pub attempts: i32,
    /// The order.
    pub order_code: String,
    /// Its total.
    pub total: Cents,
    /// Why it failed, if it did.
    pub failure_reason: Option<String>,
    /// Whose it is.
    pub customer_id: i64,
    /// As the catalogue has it; `None` if the customer is not in it.
    pub customer_name: Option<String>,
    /// As the catalogue has it, usable or not.
    pub customer_email: Option<String>,
    /// The refund, if it is one.
    pub refund_key: Option<String>,
    /// Why it was asked for.
    pub refund_reason: Option<String>,
}

/// Takes up to `limit` pending notifications of a channel whose time has come, and moves their next time on by `lease`:
/// if whoever took them dies, they are due again then.
///
/// # Errors
/// As any statement.
pub async fn take_due_notifications(
    pool: &PgPool,
    channel: NotificationChannel,
    limit: i64,
    lease: Duration,
) -> Result<Vec<DueNotification>, Error> {
    let rows = sqlx::query!(
        r#"WITH due AS (
               SELECT id FROM notifications
               WHERE status = 'pending' AND channel = $1 AND next_at <= now()
               ORDER BY next_at, id FOR NO KEY UPDATE SKIP LOCKED LIMIT $2
           ), taken AS (
               UPDATE notifications n SET next_at = now() + make_interval(secs => $3)
               FROM due WHERE n.id = due.id
               RETURNING n.id, n.seq, n.attempts
           )
           SELECT t.id, t.seq, t.attempts, e.kind, e.at, e.amount_cents, e.refund_key, o.code, o.total_cents,
                  order_currency(o.id) AS currency, o.failure_reason, o.customer_id, c.name AS "name?", c.email AS "email?", r.reason AS "refund_reason?"
           FROM taken t
           JOIN events e ON e.seq = t.seq
           JOIN orders o ON o.id = e.order_id
           LEFT JOIN customers c ON c.id = o.customer_id
           LEFT JOIN refunds r ON r.key = e.refund_key
           ORDER BY t.seq"#,
        channel.as_str(),
        limit,
        lease.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    failpoint::hit::<Error>("take_due_notifications")?;
    rows.into_iter()
        .map(|row| {
            Ok(DueNotification {
                id: row.id,
                seq: row.seq,
                kind: row.kind.parse()?,
                at: row.at,
                amount: Cents::new(row.amount_cents),
                currency: row.currency,
                attempts: row.attempts,
                order_code: row.code,
                total: Cents::new(row.total_cents),
                failure_reason: row.failure_reason,
                customer_id: row.customer_id,
                customer_name: row.name,
                customer_email: row.email,
                refund_key: row.refund_key,
                refund_reason: row.refund_reason,
            })
        })
        .collect()
}

/// When the next pending notification of a channel is due, in time from now; `None` if none is pending.
///
/// # Errors
/// As any statement.
pub async fn next_due_notification(pool: &PgPool, channel: NotificationChannel) -> Result<Option<Duration>, Error> {
    let seconds = sqlx::query_scalar!(
        r#"SELECT greatest(extract(epoch FROM next_at - clock_timestamp()), 0)::float8 AS "seconds!" FROM notifications
           WHERE status = 'pending' AND channel = $1
           ORDER BY next_at LIMIT 1"#,
        channel.as_str(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

/// Whether any notification of these channels was never tried.
///
/// # Errors
/// As any statement.
pub async fn has_untried_notifications(pool: &PgPool, channels: &[NotificationChannel]) -> Result<bool, Error> {
    let channels: Vec<&str> = channels.iter().map(|channel| channel.as_str()).collect();
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM notifications
                          WHERE status = 'pending' AND channel = ANY ($1) AND last_error IS NULL) AS "any!""#,
        &channels as &[&str],
    )
    .fetch_one(pool)
    .await?)
}

/// Marks pending notifications as sent.
///
/// # Errors
/// As any statement.
pub async fn mark_notifications_sent(pool: &PgPool, ids: &[i64]) -> Result<(), Error> {
    failpoint::hit::<Error>("before_mark_notifications_sent")?;
    sqlx::query!(
        "UPDATE notifications SET status = 'sent', sent_at = now(), next_at = NULL, last_error = NULL
         WHERE id = ANY ($1) AND status = 'pending'",
        ids,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// What a failed try leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTry {
    /// Nobody was there: again after this time, and the try does not count.
    Uncounted(Duration),
    /// It was refused: again after this time.
    Counted(Duration),
    /// Never: it was refused for good, or too often.
    Never,
}

/// Marks a pending notification as failed: due again, or dead.
///
/// # Errors
/// As any statement.
pub async fn mark_notification_failed(pool: &PgPool, id: i64, next: NextTry, error: &str) -> Result<(), Error> {
    let (delay, counts) = match next {
        NextTry::Uncounted(delay) => (Some(delay), 0),
        NextTry::Counted(delay) => (Some(delay), 1),
        NextTry::Never => (None, 1),
    };
    // Postgres takes no NUL in a text.
    let error: String = error.chars().filter(|character| *character != '\0').take(ERROR_CHARS_MAX).collect();
    sqlx::query!(
        "UPDATE notifications
         SET status = CASE WHEN $2::float8 IS NULL THEN 'dead' ELSE 'pending' END,
             next_at = now() + make_interval(secs => $2), attempts = attempts + $3, last_error = $4
         WHERE id = $1 AND status = 'pending'",
        id,
        delay.map(|delay| delay.as_secs_f64()),
        counts,
        error,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Gives back what was taken and not tried: due at once.
///
/// # Errors
/// As any statement.
pub async fn release_notifications(pool: &PgPool, ids: &[i64]) -> Result<(), Error> {
    sqlx::query!("UPDATE notifications SET next_at = now() WHERE id = ANY ($1) AND status = 'pending'", ids)
        .execute(pool)
        .await?;
    Ok(())
}

/// Which notifications are listed. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    /// Only of the order with this code.
    pub order_code: Option<String>,
    /// Only with this status.
    pub status: Option<NotificationStatus>,
    /// Only with a smaller id: the next page.
    pub before_id: Option<i64>,
}

/// A notification as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotificationRow {
    /// Which one.
    pub id: i64,
    /// The event's number.
    pub seq: i64,
    /// The order.
    pub order_code: String,
    /// What happened.
    pub kind: String,
    /// Which way it goes.
    pub channel: String,
    /// Where it stands.
    pub status: String,
    /// Tries that were refused.
    pub attempts: i32,
    /// When it is tried next, if it is pending.
    pub next_at: Option<DateTime<Utc>>,
    /// When it was delivered, if it was.
    pub sent_at: Option<DateTime<Utc>>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When it was put into the queue.
    pub created_at: DateTime<Utc>,
}

/// Notifications, newest first.
///
/// # Errors
/// As any statement.
pub async fn list_notifications(
    pool: &PgPool,
    filter: &NotificationFilter,
    limit: i64,
) -> Result<Vec<NotificationRow>, Error> {
    Ok(sqlx::query_as!(
        NotificationRow,
        "SELECT n.id, n.seq, o.code AS order_code, n.kind, n.channel, n.status, n.attempts, n.next_at, n.sent_at,
                n.last_error, n.created_at
         FROM notifications n JOIN orders o ON o.id = n.order_id
         WHERE ($1::text IS NULL OR n.order_id = (SELECT id FROM orders WHERE code = $1))
           AND ($2::text IS NULL OR n.status = $2)
           AND ($3::bigint IS NULL OR n.id < $3)
         ORDER BY n.id DESC LIMIT $4",
        filter.order_code.as_deref(),
        filter.status.map(NotificationStatus::as_str),
        filter.before_id,
        limit,
    )
    .fetch_all(pool)
    .await?)
}

/// The notifications of one order, in the sequence of its events.
pub(super) async fn notifications_of(pool: &PgPool, order_id: i64) -> Result<Vec<NotificationRow>, Error> {
    Ok(sqlx::query_as!(
        NotificationRow,
        "SELECT n.id, n.seq, o.code AS order_code, n.kind, n.channel, n.status, n.attempts, n.next_at, n.sent_at,
                n.last_error, n.created_at
         FROM notifications n JOIN orders o ON o.id = n.order_id
         WHERE n.order_id = $1
         ORDER BY n.seq, n.channel",
        order_id,
    )
    .fetch_all(pool)
    .await?)
}

/// Makes dead notifications pending again, due at once and with all their tries before them: those with these ids, or
/// every one. Those that were, in the order of their ids.
///
/// # Errors
/// As any statement.
pub async fn requeue_dead_notifications(pool: &PgPool, ids: Option<&[i64]>) -> Result<Vec<i64>, Error> {
    let mut requeued = sqlx::query_scalar!(
        "UPDATE notifications SET status = 'pending', next_at = now(), attempts = 0, last_error = NULL
         WHERE status = 'dead' AND ($1::bigint[] IS NULL OR id = ANY ($1))
         RETURNING id",
        ids,
    )
    .fetch_all(pool)
    .await?;
    requeued.sort_unstable();
    Ok(requeued)
}
