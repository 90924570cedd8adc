//! Hiding what a letter may hold of people: shown only to who may act on it, and asks for it.

/// Parts of names whose values are nobody's business.
const PRIVATE: &[&str] = &[
    "address",
    "authorization",
    "bic",
    "birth",
    "card",
    "cookie",
    "cvc",
    "cvv",
    "email",
    "iban",
    "mail",
    "name",
    "passw",
    "phone",
    "secret",
    "signature",
    "token",
];

/// What stands for a hidden value.
const HIDDEN: &str = "•••";

/// Whether the value of this name is hidden.
pub(super) fn is_private(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PRIVATE.iter().any(|private| name.contains(private))
}

/// JSON in lines, one member a line, with the private ones hidden, whole objects and lists included; and whether any were.
pub(super) fn masked(pretty: &str) -> (String, bool) {
    let mut text = String::with_capacity(pretty.len());
    let mut hidden = false;
    // The indentation of a private member that goes on over several lines.
    let mut within: Option<usize> = None;
    for line in pretty.split_inclusive('\n') {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let Some(outer) = within {
            if indent > outer {
                continue;
            }
            within = None;
            if content.starts_with(['}', ']']) {
                // The end of what is hidden: its comma is all that is kept.
                if content.trim_end().ends_with(',') {
                    text.insert(text.trim_end().len(), ',');
                }
                continue;
            }
        }
        match member(content) {
            Some((name, value)) if is_private(name) => {
                hidden = true;
                let value = value.trim_end();
                text.push_str(&line[..indent]);
                text.push_str(&format!("\"{name}\": \"{HIDDEN}\""));
                let opens = value.ends_with(['{', '[']);
                if opens {
                    within = Some(indent);
                } else if value.ends_with(',') {
                    text.push(',');
                }
                text.push('\n');
            }
            _ => text.push_str(line),
        }
    }
    (text, hidden)
}

/// Name and value of a line that is a member.
fn member(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix('"')?.split_once("\": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_hidden_and_the_rest_stays() {
        let text = "{\n  \"order_code\": \"A\",\n  \"Email\": \"a@b\",\n  \"card\": {\n    \"number\": 1\n  },\n  \"n\": [\n    1\n  ],\n  \"token\": [\n    1\n  ]\n}";
        let expected = "{\n  \"order_code\": \"A\",\n  \"Email\": \"•••\",\n  \"card\": \"•••\",\n  \"n\": [\n    1\n  ],\n  \"token\": \"•••\"\n}";
        assert_eq!(masked(text), (expected.to_owned(), true));
        assert_eq!(masked("nonsense \"a\": 1"), ("nonsense \"a\": 1".to_owned(), false));
    }
}
