//! The JSON of an order, from any program that can `XADD`, over HTTP, or from the importer.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

use super::{DeadReason, Undecodable};
use crate::domain::{Cents, CustomerId, InvalidOrder, Line, Order, OrderCode, ProductId, is_like};

#[derive(Serialize)]
struct OrderBody<'a> {
    order_code: Cow<'a, str>,
    customer_id: i64,
    lines: Vec<LineBody<'a>>,
    /// Need not be there, and is not written; where it is, it has to be true.
    #[serde(skip)]
    total: Option<Cow<'a, str>>,
    /// Is not there: whoever says what an order is charged in has to be told that nobody heeds it.
    #[serde(skip)]
    has_currency: bool,
}

#[derive(Serialize)]
struct LineBody<'a> {
    product_id: i64,
    quantity: i32,
    /// A decimal in a string: a JSON number would pass through a float somewhere.
    unit_price: Cow<'a, str>,
    /// As in [`OrderBody`], of this line.
    #[serde(skip)]
    total: Option<Cow<'a, str>>,
    /// As in [`OrderBody`].
    #[serde(skip)]
    has_currency: bool,
}

/// Text that is borrowed from the JSON where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the value of a field that may stand there once.
fn once<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    map: &mut A,
    field: &'static str,
    slot: &mut Option<T>,
) -> Result<(), A::Error> {
    match slot.replace(map.next_value()?) {
        None => Ok(()),
        Some(_) => Err(A::Error::duplicate_field(field)),
    }
}

fn needed<E: Error, T>(field: &'static str, slot: Option<T>) -> Result<T, E> {
    slot.ok_or_else(|| E::missing_field(field))
}

/// Passes over a field that means nothing here, unless its name is that of one that does, written otherwise: its value would not be
/// heeded.
fn pass_over<'de, A: MapAccess<'de>>(map: &mut A, name: &str, known: &[&str]) -> Result<(), A::Error> {
    if let Some(field) = known.iter().find(|field| is_like(name, field)) {
        return Err(A::Error::custom(format_args!("field {name:?} looks like `{field}` and is another one")));
    }
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// A struct that is read from a JSON object only: serde would take an array of its values, too.
macro_rules! object {
    ($body:ident, $visit:ident) => {
        impl<'de> Deserialize<'de> for $body<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> Visitor<'de> for Fields {
                    type Value = $body<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                        $visit(map)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}

object!(OrderBody, read_order);
object!(LineBody, read_line);

fn read_order<'de, A: MapAccess<'de>>(mut map: A) -> Result<OrderBody<'de>, A::Error> {
    const KNOWN: [&str; 5] = ["order_code", "customer_id", "lines", "total", "currency"];
    let (mut code, mut customer, mut lines, mut total) = (None::<Text<'_>>, None, None, None::<Option<Text<'_>>>);
    let mut currency = None::<Option<IgnoredAny>>;
    while let Some(Text(name)) = map.next_key::<Text<'_>>()? {
        match &*name {
            "order_code" => once(&mut map, "order_code", &mut code)?,
            "customer_id" => once(&mut map, "customer_id", &mut customer)?,
            "lines" => once(&mut map, "lines", &mut lines)?,
            "total" => once(&mut map, "total", &mut total)?,
            "currency" => once(&mut map, "currency", &mut currency)?,
            name => pass_over(&mut map, name, &KNOWN)?,
        }
    }
    Ok(OrderBody {
        order_code: needed("order_code", code)?.0,
        customer_id: needed("customer_id", customer)?,
        lines: needed("lines", lines)?,
        total: total.flatten().map(|Text(total)| total),
        has_currency: currency.flatten().is_some(),
    })
}

fn read_line<'de, A: MapAccess<'de>>(mut map: A) -> Result<LineBody<'de>, A::Error> {
    const KNOWN: [&str; 5] = ["product_id", "quantity", "unit_price", "total", "currency"];
    let (mut product, mut quantity, mut price, mut total) = (None, None, None::<Text<'_>>, None::<Option<Text<'_>>>);
    let mut currency = None::<Option<IgnoredAny>>;
    while let Some(Text(name)) = map.next_key::<Text<'_>>()? {
        match &*name {
            "product_id" => once(&mut map, "product_id", &mut product)?,
            "quantity" => once(&mut map, "quantity", &mut quantity)?,
            "unit_price" => once(&mut map, "unit_price", &mut price)?,
            "total" => once(&mut map, "total", &mut total)?,
            "currency" => once(&mut map, "currency", &mut currency)?,
            name => pass_over(&mut map, name, &KNOWN)?,
        }
    }
    Ok(LineBody {
        product_id: needed("product_id", product)?,
        quantity: needed("quantity", quantity)?,
        unit_price: needed("unit_price", price)?.0,
        total: total.flatten().map(|Text(total)| total),
        has_currency: currency.flatten().is_some(),
    })
}

/// Whether a total that stands there is another one than this.
fn is_wrong(total: Option<&Cow<'_, str>>, sum: Cents) -> bool {
    total.is_some_and(|total| Cents::parse_total(total.as_bytes()) != Ok(sum))
}

/// Reads the JSON of an order.
///
/// # Errors
/// When it is no JSON of the documented shape, or a value is out of bounds.
pub fn decode_order(body: &[u8]) -> Result<Order, Undecodable> {
    let body: OrderBody<'_> = serde_json::from_slice(body)?;
    let invalid = |detail: String| Undecodable::new(DeadReason::InvalidOrder, detail);
    let lines = body
        .lines
        .iter()
        .map(|line| {
            Ok(Line {
                product_id: ProductId(line.product_id),
                quantity: line.quantity,
                unit_price: Cents::parse_price(line.unit_price.as_bytes()).map_err(|_| InvalidOrder::UnitPrice)?,
            })
        })
        .collect::<Result<_, InvalidOrder>>()?;
    let order = Order::new(OrderCode::new(body.order_code)?, CustomerId(body.customer_id), lines)?;
    if body.has_currency || body.lines.iter().any(|line| line.has_currency) {
        let detail = "an order has no currency: all are charged in that of the installation; leave it out";
        return Err(invalid(detail.to_owned()));
    }
    for (said, line) in body.lines.iter().zip(order.lines()) {
        let amount = line.unit_price.checked_mul(line.quantity);
        if let Some(amount) = amount.filter(|amount| is_wrong(said.total.as_ref(), *amount)) {
            return Err(invalid(format!("a line's total must be quantity × unit_price, which is {amount}")));
        }
    }
    if is_wrong(body.total.as_ref(), order.total()) {
        let sum = order.total();
        return Err(invalid(format!("total must be the sum of quantity × unit_price, which is {sum}")));
    }
    Ok(order)
}

/// Writes the JSON of an order.
pub fn encode_order(order: &Order) -> Vec<u8> {
    let body = OrderBody {
        order_code: Cow::Borrowed(order.code().as_str()),
        customer_id: order.customer_id().0,
        lines: order
            .lines()
            .iter()
            .map(|line| LineBody {
                product_id: line.product_id.0,
                quantity: line.quantity,
                unit_price: Cow::Owned(line.unit_price.to_string()),
                total: None,
                has_currency: false,
            })
            .collect(),
        total: None,
        has_currency: false,
    };
    serde_json::to_vec(&body).expect("texts and integers are always JSON")
}
