//! The orders of a run, written out before the clock starts.

use std::{
    io::Write,
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use rand::{RngExt, SeedableRng, distr::Distribution, distr::weighted::WeightedIndex};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Digits of an order's number within its run.
const NUMBER_DIGITS: usize = 7;

/// How often another product is drawn for a line before the order gets the same product twice.
const REDRAWS_MAX: u32 = 16;

/// Pieces on a line.
const QUANTITIES: Range<i32> = 1..4;

/// What the orders look like.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Shape {
    /// Orders to send
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..10_000_000))]
    pub(crate) orders: u64,
    /// Lines in each order
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub(crate) lines: u64,
    /// Zipf exponent of the products' popularity: 0 is uniform, 1 gives the first of 200 products a sixth of all lines
    #[arg(long, default_value_t = 0.0)]
    pub(crate) skew: f64,
    /// Products, with ids from 1
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) products: u64,
    /// Customers, with ids from 1
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) customers: u64,
    /// Put product 1 into every order: the hot row
    #[arg(long)]
    pub(crate) one_product: bool,
    /// The same seed gives the same orders, but for the prefix of their codes
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// All orders of a run: one buffer, so that two million of them are one allocation.
pub(crate) struct Orders {
    prefix: String,
    bodies: Bytes,
    /// Where each body ends.
    ends: Vec<usize>,
}

impl Orders {
    /// Writes the orders that `shape` describes.
    pub(crate) fn generate(shape: &Shape, prefix: String) -> Result<Self> {
        let popularity = WeightedIndex::new((1..=shape.products).map(|rank| (rank as f64).powf(-shape.skew)))
            .context("--skew must be a number from which weights can be made")?;
        let mut rng = ChaCha8Rng::seed_from_u64(shape.seed);
        let mut bodies = Vec::new();
        let mut ends = Vec::new();
        let mut products = Vec::new();
        for number in 0..shape.orders {
            draw_products(&mut products, shape, &popularity, &mut rng);
            let customer = rng.random_range(1..=shape.customers);
            write_body(&mut bodies, &prefix, number, customer, &products, &mut rng)?;
            ends.push(bodies.len());
        }
        Ok(Self { prefix, bodies: bodies.into(), ends })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// What all order codes of the run begin with, and no other run's.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The code of an order.
    pub(crate) fn code(&self, index: usize) -> String {
        format!("{}{index:0NUMBER_DIGITS$}", self.prefix)
    }

    /// The JSON of an order; a view, not a copy.
    pub(crate) fn body(&self, index: usize) -> Bytes {
        let start = index.checked_sub(1).map_or(0, |previous| self.ends[previous]);
        self.bodies.slice(start..self.ends[index])
    }
}

/// A prefix that no other run has: the time in milliseconds and two random characters, in base 36.
pub(crate) fn unique_prefix() -> String {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unique = elapsed.as_millis() * 36 * 36 + rand::rng().random_range(0..36 * 36);
    format!("L{}-", base36(unique))
}

fn base36(mut value: u128) -> String {
    let mut digits = Vec::new();
    while value > 0 {
        digits.push(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(value % 36) as usize]);
        value /= 36;
    }
    digits.iter().rev().map(|&digit| char::from(digit)).collect()
}

/// Draws the products of one order, each only once as long as that is easily had.
fn draw_products(products: &mut Vec<u64>, shape: &Shape, popularity: &WeightedIndex<f64>, rng: &mut ChaCha8Rng) {
    products.clear();
    if shape.one_product {
        products.push(1);
    }
    while (products.len() as u64) < shape.lines {
        let mut product = popularity.sample(rng) as u64 + 1;
        for _ in 0..REDRAWS_MAX {
            if !products.contains(&product) {
                break;
            }
            product = popularity.sample(rng) as u64 + 1;
        }
        products.push(product);
    }
}

fn write_body(
    out: &mut Vec<u8>,
    prefix: &str,
    number: u64,
    customer: u64,
    products: &[u64],
    rng: &mut ChaCha8Rng,
) -> Result<()> {
    write!(out, r#"{{"order_code":"{prefix}{number:0NUMBER_DIGITS$}","customer_id":{customer},"lines":["#)?;
    for (line, product) in products.iter().enumerate() {
        let separator = if line == 0 { "" } else { "," };
        let quantity = rng.random_range(QUANTITIES);
        let cents = 100 + product * 7_919 % 9_900;
        write!(
            out,
            r#"{separator}{{"product_id":{product},"quantity":{quantity},"unit_price":"{}.{:02}"}}"#,
            cents / 100,
            cents % 100
        )?;
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape { orders: 1_000, lines: 5, skew: 1.0, products: 200, customers: 10, one_product: false, seed: 7 }
    }

    fn parsed(orders: &Orders) -> Vec<serde_json::Value> {
        (0..orders.len()).map(|index| serde_json::from_slice(&orders.body(index)).expect("JSON")).collect()
    }

    #[test]
    fn a_body_has_the_documented_shape() {
        let orders = Orders::generate(&shape(), "L-".to_owned()).expect("orders");
        for (index, order) in parsed(&orders).iter().enumerate() {
            assert_eq!(order["order_code"], format!("L-{index:07}"));
            assert_eq!(order["order_code"], orders.code(index));
            assert!((1..=10).contains(&order["customer_id"].as_u64().expect("number")));
            let lines = order["lines"].as_array().expect("lines");
            assert_eq!(lines.len(), 5);
            for line in lines {
                assert!((1..=200).contains(&line["product_id"].as_u64().expect("number")));
                assert!((1..=3).contains(&line["quantity"].as_u64().expect("number")));
                let price = line["unit_price"].as_str().expect("text");
                assert_eq!(price.split_once('.').expect("decimal").1.len(), 2, "{price}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_orders() {
        let first = Orders::generate(&shape(), "A-".to_owned()).expect("orders");
        let second = Orders::generate(&shape(), "A-".to_owned()).expect("orders");
        let other = Orders::generate(&Shape { seed: 8, ..shape() }, "A-".to_owned()).expect("orders");
        assert_eq!(first.bodies, second.bodies);
        assert_ne!(first.bodies, other.bodies);
    }

    #[test]
    fn skew_prefers_the_first_product_and_one_product_is_in_every_order() {
        let with_first = |shape: &Shape| {
            let orders = parsed(&Orders::generate(shape, String::new()).expect("orders"));
            let has_first = |order: &serde_json::Value| {
                order["lines"].as_array().expect("lines").iter().any(|line| line["product_id"] == 1)
            };
            orders.iter().filter(|order| has_first(order)).count()
        };
        assert!(with_first(&Shape { skew: 0.0, ..shape() }) < 100);
        assert!(with_first(&shape()) > 400);
        assert_eq!(with_first(&Shape { one_product: true, ..shape() }), 1_000);
    }

    #[test]
    fn prefixes_differ() {
        let prefixes: std::collections::HashSet<_> = (0..5).map(|_| unique_prefix()).collect();
        assert!(prefixes.len() > 1, "{prefixes:?}");
        assert_eq!(base36(36 * 36 + 35), "10Z");
    }
}
