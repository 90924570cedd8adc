//! Addresses of what has a name from outside: whatever the name is, the address opens it.
//!
//! A name is a part of the path, percent-encoded. Of two that does not work: `.` and `..` mean a place in the path, encoded
//! or not, and whoever follows an address resolves them first. Those stand in the query.

use super::query::encoded;

/// An order, over the API.
pub(crate) fn order(code: &str) -> String {
    of("/v1/orders", "/v1/order?code", code)
}

/// A refund, over the API.
pub(crate) fn refund(key: &str) -> String {
    of("/v1/refunds", "/v1/refund?key", key)
}

/// The page of an order.
pub(crate) fn order_page(code: &str) -> String {
    of("/orders", "/order?code", code)
}

/// Where the page of an order sends its form for a refund.
pub(crate) fn refund_form(code: &str) -> String {
    match is_place(code) {
        true => format!("/order/refunds?code={code}"),
        false => format!("/orders/{}/refunds", encoded(code)),
    }
}

fn of(path: &str, query: &str, name: &str) -> String {
    match is_place(name) {
        true => format!("{query}={name}"),
        false => format!("{path}/{}", encoded(name)),
    }
}

/// Whether a name means a place in a path.
fn is_place(name: &str) -> bool {
    matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;

    #[test]
    fn an_address_resolves_to_what_it_names_whatever_the_name_is() {
        let base = Url::parse("http://shop.example/v1/orders").expect("an address");
        for name in ["ORD-1", ".", "..", "...", "a/..", "../x", "%2e", "%2E%2e", "%2F", "?", "#", "a?b#c", "\\", "ü;&="]
        {
            for (link, prefix, query) in
                [(order(name), "/v1/orders/", "/v1/order"), (refund(name), "/v1/refunds/", "/v1/refund")]
            {
                let resolved = base.join(&link).expect("an address");
                assert_eq!(resolved.as_str(), format!("http://shop.example{link}"), "{name:?} is changed on its way");
                let found = match resolved.query() {
                    None => resolved.path().strip_prefix(prefix).map(str::to_owned),
                    Some(_) => {
                        assert_eq!(resolved.path(), query);
                        resolved.query_pairs().next().map(|(_, value)| value.into_owned())
                    }
                };
                let found = found.expect("a name");
                assert!(found == name || found == encoded(name), "{found:?} is not {name:?}");
            }
            assert!(!order_page(name).ends_with("/..") && !refund_form(name).contains("/../"), "{name:?}");
        }
    }
}
