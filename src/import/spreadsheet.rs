//! Fields that a spreadsheet leaves alone.

use std::borrow::Cow;

use pipeline::domain::is_unseen;
use unicode_normalization::UnicodeNormalization;

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

/// Whether a spreadsheet, or a program without a value, has put this in the place of what was there: of a long number, a date that
/// was none, a formula that has no value. Several values become one by that.
pub(super) fn is_spoilt(field: &str) -> bool {
    // Wide characters are shown like the others; an apostrophe marks a text.
    let field = if field.is_ascii() { Cow::Borrowed(field) } else { field.nfkc().collect() };
    let field = field.strip_prefix('\'').unwrap_or(&field);
    is_rounded(field) || is_error(field) || is_nothing(field)
}

/// A number as `1.23457E+11`: with an exponent, and a sign of it or places.
fn is_rounded(field: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.chars().all(char::is_numeric);
    let unsigned = field.strip_prefix(['+', '-', '−']).unwrap_or(field);
    let Some((mantissa, exponent)) = unsigned.split_once(['E', 'e']) else { return false };
    let (mantissa, exponent) = (mantissa.trim_end(), exponent.trim());
    let digits = exponent.strip_prefix(['+', '-', '−']);
    let (whole, places) = match mantissa.split_once(['.', ',', '٫']) {
        Some((whole, places)) => (whole, Some(places)),
        None => (mantissa, None),
    };
    is_number(whole)
        && places.is_none_or(|places| places.is_empty() || is_number(places))
        && is_number(digits.unwrap_or(exponent))
        && (places.is_some() || digits.is_some())
}

/// An error in any language, as `#REF!`, `#NV` or `Err:502`, or a column that is too narrow.
fn is_error(field: &str) -> bool {
    let name = field.trim_start_matches(['=', '-', '$', '€']);
    if let Some(name) = name.strip_prefix('#') {
        return !name.is_empty() && (name.ends_with(['!', '?']) || !name.contains(char::is_numeric));
    }
    // LibreOffice's, and its word for it in other languages.
    const ERRORS: [&str; 24] = [
        "err",
        "error",
        "erreur",
        "fehler",
        "fout",
        "errore",
        "erro",
        "błąd",
        "ошибка",
        "помилка",
        "chyba",
        "hiba",
        "hata",
        "virhe",
        "feil",
        "fejl",
        "fel",
        "eroare",
        "грешка",
        "σφάλμα",
        "エラー",
        "错误",
        "錯誤",
        "오류",
    ];
    field.contains("#REF!")
        || field.split_once(':').is_some_and(|(name, code)| {
            let code = code.trim_start();
            ERRORS.contains(&name.trim_end().to_lowercase().as_str())
                && code.len() == 3
                && code.starts_with('5')
                && code.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// What programs write that have no value.
fn is_nothing(field: &str) -> bool {
    const NOTHING: [&str; 26] = [
        "null",
        "NULL",
        "Null",
        "(null)",
        "(NULL)",
        "<null>",
        "\\N",
        "nil",
        "None",
        "NaN",
        "nan",
        "NaT",
        "<NA>",
        "undefined",
        "N/A",
        "n/a",
        "#",
        "inf",
        "Infinity",
        "1.#IND",
        "-1.#IND",
        "1.#QNAN",
        "(blank)",
        "[object Object]",
        "Loading...",
        "Loading…",
    ];
    NOTHING.contains(&field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_leaves_of_a_code_is_no_code() {
        let rounded = [
            "1.23457E+11",
            "1,23457E+11",
            "1,23457 E+11",
            "1.00E+05",
            "5E+15",
            "1.23457e+11",
            "1.E+11",
            "-1.2E+11",
            "+1E+11",
        ];
        let wide = ["１．２３４５７Ｅ＋１１", "1.2E-7", "1e-07", "1.23457E11", "12E+5", "＃ＲＥＦ！"];
        let errors =
            ["#REF!", "#N/A", "#NAME?", "#DIV/0!", "#NV", "#BEZUG!", "#ÜBERLAUF!", "#NOM?", "#¿NOMBRE?", "#Н/Д"];
        let others = [
            "#GETTING_DATA",
            "#ERROR!",
            "########",
            "Err:502",
            "'#NV",
            "=#REF!",
            "Sheet1!#REF!",
            "-#####",
            "エラー:502",
            "NULL",
            "NaN",
            "undefined",
            "n/a",
            "Fehler: 508",
            "Erreur :522",
            "#CALC!",
        ];
        for spoilt in rounded.iter().chain(&wide).chain(&errors).chain(&others) {
            assert!(is_spoilt(spoilt), "{spoilt}");
        }
        for code in [
            "", "1", "E+5", "12E5", "A1.0E+05", "N", "#1", "#1001-B", "ORD#1!", "1E+", "NULL-1", "nano", "SHOP:502",
            "Err:1", "1.5",
        ] {
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
