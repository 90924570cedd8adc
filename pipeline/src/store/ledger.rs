//! Our side of a provider's ledger: the money that we say it took and gave back, page by page.

use sqlx::{Postgres, Transaction};

use super::{Error, Store};
use crate::domain::{Cents, OrderId, PaymentStatus, RefundStatus};

/// How many rows a page has.
const PAGE_ROWS: i64 = 5_000;

/// A payment that is taken, or may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPayment {
    /// Its order.
    pub order_id: OrderId,
    /// Which attempt.
    pub attempt: i16,
    /// The order's code.
    pub code: String,
    /// What it is stored under.
    pub gateway: String,
    /// How much.
    pub amount: Cents,
    /// Approved, late, or pending.
    pub status: PaymentStatus,
}

/// A refund that went back, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRefund {
    /// Its key.
    pub key: String,
    /// What stands before its key in its reference at the provider.
    pub reference_prefix: String,
    /// What it is stored under.
    pub gateway: String,
    /// How much.
    pub amount: Cents,
    /// Succeeded, or pending.
    pub status: RefundStatus,
}

/// One snapshot of the payments and refunds of some gateways.
#[derive(Debug)]
pub struct LedgerSnapshot {
    snapshot: Transaction<'static, Postgres>,
    gateways: Vec<String>,
}

impl LedgerSnapshot {
    /// Begins to read. It writes nothing and waits for nobody.
    ///
    /// # Errors
    /// When no connection can be had within ten seconds.
    pub async fn begin(store: &Store, gateways: Vec<String>) -> Result<Self, Error> {
        let snapshot = store.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        Ok(Self { snapshot, gateways })
    }

    /// The next payments in the order of their keys, after this one; none after the last.
    ///
    /// # Errors
    /// As any statement.
    pub async fn payments_after(&mut self, last: Option<&LedgerPayment>) -> Result<Vec<LedgerPayment>, Error> {
        let (order_id, attempt) = last.map_or((i64::MIN, 0), |last| (last.order_id.0, last.attempt));
        let rows = sqlx::query!(
            "SELECT p.order_id, p.attempt, o.code, p.gateway, p.amount_cents, p.status
             FROM payments p JOIN orders o ON o.id = p.order_id
             WHERE p.gateway = ANY ($1) AND p.status IN ('approved', 'late', 'pending')
               AND (p.order_id, p.attempt) > ($2, $3)
             ORDER BY p.order_id, p.attempt LIMIT $4",
            &self.gateways,
            order_id,
            attempt,
            PAGE_ROWS,
        )
        .fetch_all(&mut *self.snapshot)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(LedgerPayment {
                    order_id: OrderId(row.order_id),
                    attempt: row.attempt,
                    code: row.code,
                    gateway: row.gateway,
                    amount: Cents::new(row.amount_cents),
                    status: row.status.parse()?,
                })
            })
            .collect()
    }

    /// The next refunds in the order of their keys, after this one; none after the last.
    ///
    /// # Errors
    /// As any statement.
    pub async fn refunds_after(&mut self, last: Option<&LedgerRefund>) -> Result<Vec<LedgerRefund>, Error> {
        let key = last.map_or("", |last| last.key.as_str());
        // Such a refund has its amount: the table sees to it.
        let rows = sqlx::query!(
            r#"SELECT key, reference_prefix, gateway AS "gateway!", amount_cents AS "amount_cents!", status FROM refunds
               WHERE gateway = ANY ($1) AND status IN ('succeeded', 'pending') AND key > $2
               ORDER BY key LIMIT $3"#,
            &self.gateways,
            key,
            PAGE_ROWS,
        )
        .fetch_all(&mut *self.snapshot)
        .await?;
        rows.into_iter()
            .map(|row| {
                let (amount, status) = (Cents::new(row.amount_cents), row.status.parse()?);
                let (key, reference_prefix, gateway) = (row.key, row.reference_prefix, row.gateway);
                Ok(LedgerRefund { key, reference_prefix, gateway, amount, status })
            })
            .collect()
    }

    /// Ends the snapshot.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn end(self) -> Result<(), Error> {
        Ok(self.snapshot.rollback().await?)
    }
}
