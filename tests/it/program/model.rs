//! What must come out, worked out again from the contract alone: no code of the pipeline is used here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// State and reason by order code.
pub(crate) type Ends = BTreeMap<String, (String, Option<String>)>;

/// An order of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelOrder {
    pub(crate) code: String,
    pub(crate) customer: i64,
    /// Product, pieces, cents.
    pub(crate) lines: Vec<(i64, i64, i64)>,
}

/// KPIs and leaderboards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Board {
    pub(crate) completed: i64,
    pub(crate) failed: i64,
    pub(crate) revenue_cents: i64,
    pub(crate) customers: BTreeMap<i64, i64>,
    pub(crate) products: BTreeMap<i64, i64>,
}

impl ModelOrder {
    pub(crate) fn total_cents(&self) -> i64 {
        self.lines.iter().map(|(_, pieces, cents)| pieces * cents).sum()
    }
}

/// The orders of a file without quotes, in order of first appearance.
pub(crate) fn orders(csv: &str) -> Vec<ModelOrder> {
    let mut orders: Vec<ModelOrder> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in csv.lines().skip(1) {
        let [_, code, customer, product, quantity, price, _] = row.split(',').collect::<Vec<_>>()[..] else {
            panic!("seven columns: {row}")
        };
        let number = |text: &str| text.parse().expect("a number");
        let place = *places.entry(code).or_insert(orders.len());
        if place == orders.len() {
            orders.push(ModelOrder { code: code.to_owned(), customer: number(customer), lines: Vec::new() });
        }
        orders[place].lines.push((number(product), number(quantity), cents(price)));
    }
    orders
}

/// The same orders, as the pipeline writes them.
pub(crate) fn of<'a>(orders: impl IntoIterator<Item = &'a pipeline::domain::Order>) -> Vec<ModelOrder> {
    let lines = |order: &pipeline::domain::Order| {
        let lines = order.lines().iter();
        lines.map(|line| (line.product_id.0, i64::from(line.quantity), line.unit_price.get())).collect()
    };
    let model = |order: &pipeline::domain::Order| ModelOrder {
        code: order.code().as_str().to_owned(),
        customer: order.customer_id().0,
        lines: lines(order),
    };
    orders.into_iter().map(model).collect()
}

/// `19.99` as 1999.
pub(crate) fn cents(amount: &str) -> i64 {
    let (whole, fraction) = amount.split_once('.').expect("two places");
    assert_eq!(fraction.len(), 2, "{amount}");
    format!("{whole}{fraction}").parse().expect("an amount")
}

/// How orders end that come in this sequence, one after the other: each holds all its pieces or none, and nothing is
/// free again before the last one has been looked at.
pub(crate) fn ends(orders: &[ModelOrder], customers: i64, stocks: &[i64]) -> Ends {
    let mut free: BTreeMap<i64, i64> = (1..).zip(stocks.iter().copied()).collect();
    let known: BTreeSet<i64> = (1..=customers).collect();
    let end = |order: &ModelOrder| {
        let mut wanted: BTreeMap<i64, i64> = BTreeMap::new();
        for (product, pieces, _) in &order.lines {
            *wanted.entry(*product).or_default() += pieces;
        }
        let failed = |reason: &str| ("failed".to_owned(), Some(reason.to_owned()));
        if !known.contains(&order.customer) {
            return failed("unknown_customer");
        }
        if wanted.keys().any(|product| !free.contains_key(product)) {
            return failed("unknown_product");
        }
        if wanted.iter().any(|(product, pieces)| free[product] < *pieces) {
            return failed("out_of_stock");
        }
        for (product, pieces) in wanted {
            *free.get_mut(&product).expect("a known product") -= pieces;
        }
        match is_approved(&order.code) {
            true => ("completed".to_owned(), None),
            false => failed("payment_declined"),
        }
    };
    orders.iter().map(end).zip(orders).map(|(end, order)| (order.code.clone(), end)).collect()
}

/// What the board shows once all orders have come to these ends.
pub(crate) fn board(orders: &[ModelOrder], ends: &Ends) -> Board {
    let mut board = Board::default();
    for order in orders {
        if ends[&order.code].0 == "failed" {
            board.failed += 1;
            continue;
        }
        board.completed += 1;
        board.revenue_cents += order.total_cents();
        *board.customers.entry(order.customer).or_default() += order.total_cents();
        for (product, pieces, _) in &order.lines {
            *board.products.entry(*product).or_default() += pieces;
        }
    }
    board
}

/// The simulated payment at the default rate of 0.9.
pub(crate) fn is_approved(code: &str) -> bool {
    crc32(code.as_bytes()) % 10_000 < 9_000
}

/// CRC-32 as in IEEE 802.3, bit by bit.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
