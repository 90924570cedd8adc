//! Characters that nobody sees, and texts that look like others: what no name may have.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark, is_nfc};
use unicode_security::confusable_detection::skeleton;

/// What makes a text look like another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookalike {
    /// A character that [`is_unseen`].
    Unseen(char),
    /// Not in the normal form NFC: `é` as two characters, say, or the sign for ohm instead of the letter.
    NotComposed,
}

/// The first thing, if there is any, by which a text looks like another one.
pub(super) fn lookalike(text: &str) -> Option<Lookalike> {
    if text.is_ascii() {
        return text.bytes().find(u8::is_ascii_control).map(|byte| Lookalike::Unseen(char::from(byte)));
    }
    let unseen = text.chars().find(|&character| is_unseen(character)).map(Lookalike::Unseen);
    unseen.or_else(|| (!is_nfc(text)).then_some(Lookalike::NotComposed))
}

/// Whether a character leaves no trace of its own where text is shown, or turns what stands around it: control and format
/// characters, line separators, every blank but the usual one, what Unicode has as ignorable by default, and what it leaves to
/// private use or means for no text, so that it looks like nothing in particular.
pub const fn is_unseen(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' | '\u{ad}'
        // Format characters of the general category Cf.
        | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{fff9}'..='\u{fffb}'
        // Ignorable by default: joiners, fillers, selectors of variants, tags.
        | '\u{34f}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}'
        | '\u{e0000}'..='\u{e0fff}'
        // For private use, no characters, and what stands where one could not be read.
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{fffc}'..='\u{ffff}' | '\u{f0000}'..='\u{10ffff}'
        // Blanks, direction, separators, invisible operators.
        | '\u{1680}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
        | '\u{2800}' | '\u{3000}'
    )
}

/// Whether somebody who reads a name of a field may take it for this known one, which it is not: because of a character that
/// nobody sees, a letter of another alphabet, an accent, its case, or what joins its words and stands around them. Anything that
/// says what currency it is stands for `currency`.
pub fn is_like(name: &str, known: &str) -> bool {
    let letters = letters(name);
    let small = letters.to_lowercase();
    let known_letters = known.replace('_', "");
    let is_like = match letters.is_ascii() {
        true => small == known_letters,
        // Letters of other alphabets look like Latin ones in capitals or in small.
        false => {
            let seen: String = skeleton(&letters).collect();
            seen.to_lowercase() == skeleton(&known_letters).collect::<String>().to_lowercase()
                || seen.to_lowercase() == skeleton(&known_letters.to_uppercase()).collect::<String>().to_lowercase()
                || skeleton(&small).eq(skeleton(&known_letters))
        }
    };
    is_like || known == "currency" && says_currency(&letters)
}

/// The letters and digits of a name, without accents.
fn letters(name: &str) -> String {
    let is_letter = |character: &char| character.is_alphanumeric() && !is_unseen(*character);
    match name.is_ascii() {
        true => name.chars().filter(is_letter).collect(),
        false => name.nfkd().filter(|&character| !is_combining_mark(character)).filter(is_letter).collect(),
    }
}

/// Whether the letters of a name say what currency something is.
fn says_currency(letters: &str) -> bool {
    const WORDS: [&str; 12] = [
        "currency",
        "currencies",
        "waehrung",
        "wahrung",
        "devise",
        "divisa",
        "moneda",
        "valuta",
        "moeda",
        "waluta",
        "валюта",
        "通貨",
    ];
    let seen: String = skeleton(&letters.to_uppercase()).collect();
    let small = letters.to_lowercase();
    WORDS.iter().any(|word| small.contains(word))
        || seen.eq_ignore_ascii_case("currency")
        || ["ccy", "cur", "curr", "iso4217"].contains(&small.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_known_as_that() {
        for name in [
            "Total",
            "TOTAL",
            "total\u{200b}",
            "tot\u{ad}al",
            "Ｔotal",
            "t\u{43e}tal",
            "tótal",
            "total:",
            " *total* ",
            "'total'",
            "total_",
            "to-tal",
            "\u{3a4}\u{39f}TAL",
            "\u{422}\u{41e}\u{422}\u{410}L",
        ] {
            assert!(is_like(name, "total"), "{name:?}");
        }
        for name in [
            "unit price",
            "unit  price",
            "unitPrice",
            "Unit-Price",
            "unit_pr\u{131}ce",
            "UNIT_PR\u{130}CE",
            "unit.price",
        ] {
            assert!(is_like(name, "unit_price"), "{name:?}");
        }
        for name in [
            "currency_code",
            "Order Currency",
            "currenc\u{443}",
            "CCY",
            "CURRE\u{39d}CY",
            "Währung",
            "curr\u{200b}ency",
        ] {
            assert!(is_like(name, "currency"), "{name:?}");
        }
        for name in ["", "totals", "subtotal", "note", "total_weight", "合計", "_"] {
            assert!(!is_like(name, "total") && !is_like(name, "currency"), "{name:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_found() {
        for unseen in
            "\u{200b}\u{ad}\u{feff}\u{a0}\u{202e}\u{2066}\u{200d}\u{fe0f}\u{3164}\u{2007}\u{e0061}\u{85}\t\u{e000}\u{fffd}\u{fffe}\u{10ffff}".chars()
        {
            assert_eq!(lookalike(&format!("ü{unseen}x")), Some(Lookalike::Unseen(unseen)), "{unseen:?}");
        }
        assert_eq!(lookalike("a\u{7}b"), Some(Lookalike::Unseen('\u{7}')));
        for text in ["ORD-1 a", "Übergröße-🦀", "注文１", "заказ", "e\u{301}".replace("e\u{301}", "é").as_str()]
        {
            assert_eq!(lookalike(text), None, "{text:?}");
        }
    }

    #[test]
    fn accents_are_one_character() {
        for text in ["e\u{301}", "\u{2126}", "ORD-A\u{30a}"] {
            assert_eq!(lookalike(text), Some(Lookalike::NotComposed), "{text:?}");
        }
    }
}
