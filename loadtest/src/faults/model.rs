//! What must come out, worked out from the contract alone, and how it differs from what did.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::ledger::{KnownOrder, Ledger};

/// Share of payments that are approved, in ten thousandths: the default of `--success-rate`.
const APPROVED_OF_10000: u32 = 9_000;

/// Differences that are shown in words.
const EXAMPLES_MAX: usize = 10;

/// An order that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    customer: i64,
    total_cents: i64,
}

/// All orders that were sent, by code. Their products are there, their customers are known, and stock abounds.
#[derive(Debug, Default)]
pub(super) struct Model {
    orders: HashMap<String, Expected>,
}

/// How Postgres differs from the model.
#[derive(Debug, Default, Clone, Serialize)]
pub(super) struct Differences {
    /// Orders that Postgres does not know.
    pub(super) missing: u64,
    /// Orders that it knows and nobody sent.
    pub(super) unexpected: u64,
    /// Orders in another state, for another reason, of another customer or of another total.
    pub(super) wrong: u64,
    /// Some of them in words.
    pub(super) examples: Vec<String>,
}

impl Differences {
    /// All together.
    pub(super) fn count(&self) -> u64 {
        self.missing + self.unexpected + self.wrong
    }

    fn note(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

impl Model {
    /// How many orders there are.
    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    /// Adds the orders of a CSV file without quotes and with all seven columns.
    pub(super) fn add_file(&mut self, path: &Path) -> Result<()> {
        let file = BufReader::new(File::open(path).with_context(|| path.display().to_string())?);
        for row in file.lines().skip(1) {
            self.add_row(&row?)?;
        }
        Ok(())
    }

    fn add_row(&mut self, row: &str) -> Result<()> {
        let [_, code, customer, _, _, _, total] = row.split(',').collect::<Vec<_>>()[..] else {
            bail!("seven columns are expected in {row:?}");
        };
        let customer = customer.parse()?;
        // The customer of an order is that of its first row.
        let order = self.orders.entry(code.to_owned()).or_insert(Expected { customer, total_cents: 0 });
        order.total_cents += cents(total).with_context(|| format!("no total in {row:?}"))?;
        Ok(())
    }

    /// Adds an order by the JSON of its message.
    pub(super) fn add_body(&mut self, body: &[u8]) -> Result<()> {
        let order: serde_json::Value = serde_json::from_slice(body)?;
        let lines = order["lines"].as_array().context("an order has lines")?;
        let line_cents =
            |line: &serde_json::Value| Some(line["quantity"].as_i64()? * cents(line["unit_price"].as_str()?)?);
        let total_cents = lines.iter().map(line_cents).sum::<Option<i64>>().context("a line has quantity and price")?;
        let customer = order["customer_id"].as_i64().context("an order has a customer")?;
        let code = order["order_code"].as_str().context("an order has a code")?;
        self.orders.insert(code.to_owned(), Expected { customer, total_cents });
        Ok(())
    }

    /// Takes an order out that is not to be processed.
    pub(super) fn remove(&mut self, code: &str) {
        self.orders.remove(code);
    }

    /// Compares every order of Postgres with what it should be, and the other way round.
    pub(super) async fn compare(&self, ledger: &mut Ledger) -> Result<Differences> {
        let mut comparison = Comparison::new(self);
        ledger.orders(|order| comparison.look_at(&order)).await?;
        Ok(comparison.end())
    }
}

/// A comparison under way.
struct Comparison<'a> {
    model: &'a Model,
    unseen: HashMap<&'a str, Expected>,
    differences: Differences,
}

impl<'a> Comparison<'a> {
    fn new(model: &'a Model) -> Self {
        let unseen = model.orders.iter().map(|(code, expected)| (code.as_str(), *expected)).collect();
        Self { model, unseen, differences: Differences::default() }
    }

    fn look_at(&mut self, order: &KnownOrder) {
        self.unseen.remove(order.code.as_str());
        let Some(expected) = self.model.orders.get(&order.code) else {
            self.differences.unexpected += 1;
            self.differences.note(|| format!("{} is known, and nobody sent it", order.code));
            return;
        };
        let (status, reason) = end(&order.code);
        let right = order.status == status
            && order.failure_reason.as_deref() == reason
            && order.customer_id == expected.customer
            && order.total_cents == expected.total_cents;
        if !right {
            self.differences.wrong += 1;
            self.differences.note(|| format!("{order:?} should be {status} {reason:?} with {expected:?}"));
        }
    }

    fn end(mut self) -> Differences {
        self.differences.missing = self.unseen.len() as u64;
        for code in self.unseen.keys() {
            self.differences.note(|| format!("{code} is not known"));
        }
        self.differences
    }
}

/// State and reason in which an order ends.
fn end(code: &str) -> (&'static str, Option<&'static str>) {
    match crc32(code.as_bytes()) % 10_000 < APPROVED_OF_10000 {
        true => ("completed", None),
        false => ("failed", Some("payment_declined")),
    }
}

/// `19.99` as 1999.
fn cents(amount: &str) -> Option<i64> {
    let (whole, fraction) = amount.split_once('.')?;
    (fraction.len() == 2).then(|| format!("{whole}{fraction}").parse().ok())?
}

/// CRC-32 as in IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let mut model = Model::default();
        for row in ["1,A,7,3,2,19.99,39.98", "2,B,8,1,1,5.00,5.00", "3,A,9,9,1,0.50,0.50"] {
            model.add_row(row).expect("a row");
        }
        model
    }

    fn known(code: &str, customer_id: i64, total_cents: i64) -> KnownOrder {
        let (status, reason) = end(code);
        let failure_reason = reason.map(str::to_owned);
        KnownOrder { code: code.to_owned(), customer_id, total_cents, status: status.to_owned(), failure_reason }
    }

    fn differences(orders: &[KnownOrder]) -> Differences {
        let model = model();
        let mut comparison = Comparison::new(&model);
        orders.iter().for_each(|order| comparison.look_at(order));
        comparison.end()
    }

    #[test]
    fn the_payment_is_the_documented_function_of_the_code() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let declined = (0..10_000).filter(|number| end(&format!("ORD-{number:08}")).0 == "failed").count();
        assert!((900..1_100).contains(&declined), "{declined}");
    }

    #[test]
    fn what_is_as_it_should_be_is_no_difference() {
        let differences = differences(&[known("A", 7, 4_048), known("B", 8, 500)]);
        assert_eq!(differences.count(), 0, "{differences:?}");
    }

    #[test]
    fn every_deviation_is_a_difference() {
        let right = [known("A", 7, 4_048), known("B", 8, 500)];
        assert_eq!(differences(&right[..1]).missing, 1);
        assert_eq!(differences(&[&right[..], &[known("C", 1, 1)]].concat()).unexpected, 1);
        for wrong in [
            known("B", 9, 500),
            known("B", 8, 501),
            KnownOrder { status: "reserved".to_owned(), ..known("B", 8, 500) },
            KnownOrder { failure_reason: Some("out_of_stock".to_owned()), ..known("B", 8, 500) },
        ] {
            let found = differences(&[right[0].clone(), wrong]);
            assert_eq!((found.wrong, found.count()), (1, 1));
            assert_eq!(found.examples.len(), 1);
        }
    }

    #[test]
    fn a_message_and_a_row_give_the_same_order() {
        let mut from_message = Model::default();
        let body = br#"{"order_code":"A","customer_id":7,"lines":[{"product_id":3,"quantity":2,"unit_price":"19.99"},
                        {"product_id":9,"quantity":1,"unit_price":"0.50"}]}"#;
        from_message.add_body(body).expect("an order");
        assert_eq!(from_message.orders["A"], model().orders["A"]);
        from_message.remove("A");
        assert_eq!(from_message.len(), 0);
    }
}
