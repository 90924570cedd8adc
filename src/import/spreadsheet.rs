//! Fields that a spreadsheet leaves alone.

use std::borrow::Cow;

use pipeline::domain::is_unseen;

/// A field from outside, as a spreadsheet shows it: one that begins like a formula is taken for a formula and run, so that it
/// gets an apostrophe in front, which makes it text. The wide forms of the signs do the same in spreadsheets set to Chinese,
/// Japanese or Korean; blanks and what nobody sees may be dropped in front of them.
pub(super) fn as_text(field: &str) -> Cow<'_, str> {
    let begins = field.trim_start_matches(|character: char| character.is_whitespace() || is_unseen(character));
    let is_formula = begins.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫', '−']);
    if is_formula || field.starts_with(['\t', '\r', '\n']) {
        Cow::Owned(format!("'{field}"))
    } else {
        Cow::Borrowed(field)
    }
}

/// Whether a spreadsheet has put this in the place of what was there: a long number, a date that was none, a formula that has no
/// value. Several values become one by that.
pub(super) fn is_spoilt(field: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rounded = field.split_once("E+").is_some_and(|(mantissa, exponent)| {
        let (whole, places) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
        whole.len() == 1 && is_number(whole) && is_number(places) && is_number(exponent)
    });
    const ERRORS: [&str; 8] = ["#REF!", "#N/A", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!"];
    rounded || ERRORS.contains(&field) || (field.len() > 1 && field.bytes().all(|byte| byte == b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_leaves_of_a_code_is_no_code() {
        for spoilt in ["1.23457E+11", "1,23457E+11", "1.00E+05", "5E+15", "########", "#REF!", "#N/A"] {
            assert!(is_spoilt(spoilt), "{spoilt}");
        }
        for code in ["", "1", "E+5", "12E+5", "1.2E5", "A1.0E+05", "#", "#1", "ORD#REF!", "1E+", "1.E+5"] {
            assert!(!is_spoilt(code), "{code}");
        }
    }

    #[test]
    fn what_a_spreadsheet_would_run_gets_an_apostrophe() {
        for field in ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "\nx", "＝1", "＋1", "－1", "＠a", "  =1", "\u{feff}=1"]
        {
            assert_eq!(as_text(field), format!("'{field}"), "{field:?}");
        }
        for field in ["", "ORD-1", "1=1", "'=1", "注文＝1", " x"] {
            assert_eq!(as_text(field), field);
        }
    }
}
