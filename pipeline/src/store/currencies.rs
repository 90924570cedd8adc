//! In which currencies sums over orders are.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::Error;

/// Every currency that a sum over orders may be over, in the order of the alphabet. One that an earlier version did not record
/// is `None`, and the whole is unknown before Postgres was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Currencies(Option<Vec<Option<String>>>);

impl Currencies {
    /// These ones.
    pub fn new(all: Vec<Option<String>>) -> Self {
        Self(Some(all))
    }

    /// Each of them, as people read it; none while they are unknown.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flatten().map(|currency| currency.as_deref().unwrap_or("an unrecorded currency"))
    }

    /// Whether amounts in several currencies are added up.
    pub fn is_mixed(&self) -> bool {
        self.names().count() > 1
    }

    /// What stands beside a sum: `EUR`, or `EUR+USD`. Empty where nothing is known, or nothing was ever charged.
    pub fn label(&self) -> String {
        self.names().collect::<Vec<_>>().join("+")
    }

    /// What has to be said of sums, as a sentence; nothing where all of them are in one currency.
    pub fn note(&self) -> Option<String> {
        let names: Vec<&str> = self.names().collect();
        match (&self.0, names.as_slice()) {
            (None, _) => Some("In which currency the amounts are is unknown: Postgres does not answer.".to_owned()),
            (_, [.., _, last]) => {
                let rest = names[..names.len() - 1].join(", ");
                Some(format!("Sums over {rest} and {last}, at face value: orders were charged in each of them."))
            }
            _ => None,
        }
    }
}

/// In what sums over all orders are: every currency in which payments were begun, before `until` if it is given. Where there
/// were none, what is charged in now. The simulator of an earlier version had no currency, and adds none.
///
/// # Errors
/// As any statement.
pub async fn currencies(connection: &mut PgConnection, until: Option<DateTime<Utc>>) -> Result<Currencies, Error> {
    // Gateways without a term are those of an earlier version, which had payments.
    let all = sqlx::query_scalar!(
        "SELECT DISTINCT currency FROM gateways
         WHERE (kind = 'http' OR currency IS NOT NULL)
           AND (NOT EXISTS (SELECT FROM gateway_terms WHERE gateway = name)
                OR EXISTS (SELECT FROM gateway_terms
                           WHERE gateway = name AND took_payments AND from_at < coalesce($1::timestamptz, 'infinity')))
         ORDER BY currency",
        until,
    )
    .fetch_all(&mut *connection)
    .await?;
    if !all.is_empty() {
        return Ok(Currencies::new(all));
    }
    let now = sqlx::query_scalar!("SELECT order_currency(NULL)").fetch_one(connection).await?;
    Ok(Currencies::new(now.map(Some).into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[&str]) -> Currencies {
        Currencies::new(all.iter().map(|one| Some((*one).to_owned())).collect())
    }

    #[test]
    fn sums_over_one_currency_need_no_remark_and_others_do() {
        assert_eq!((of(&["EUR"]).label(), of(&["EUR"]).note()), ("EUR".to_owned(), None));
        assert_eq!((of(&[]).label(), of(&[]).note()), (String::new(), None));
        let mixed = of(&["CHF", "EUR", "USD"]);
        assert_eq!(mixed.label(), "CHF+EUR+USD");
        assert!(mixed.note().expect("a remark").starts_with("Sums over CHF, EUR and USD, at face value"));
        let unrecorded = Currencies::new(vec![Some("EUR".to_owned()), None]);
        assert!(unrecorded.note().expect("a remark").contains("EUR and an unrecorded currency"));
        let unknown = Currencies::default();
        assert!(unknown.label().is_empty() && unknown.note().expect("a remark").contains("unknown"));
    }
}
