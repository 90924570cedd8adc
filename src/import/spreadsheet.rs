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

#[cfg(test)]
mod tests {
    use super::*;

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
