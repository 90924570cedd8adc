//! Numbers as decimal text, written straight into a buffer: millions of rows a second leave no time for `format!`.

/// Appends a number with at least `width` digits.
pub(crate) fn digits(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut text = [b'0'; 20];
    let mut start = text.len();
    while value > 0 || text.len() - start < width {
        start -= 1;
        text[start] = b'0' + (value % 10).to_le_bytes()[0];
        value /= 10;
    }
    out.extend_from_slice(&text[start..]);
}

/// Appends an amount in minor units with two decimal places.
pub(crate) fn amount(out: &mut Vec<u8>, cents: u64) {
    digits(out, cents / 100, 1);
    out.push(b'.');
    digits(out, cents % 100, 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_format_writes_them() {
        for value in [0, 1, 9, 10, 99, 100, 101, 4_900, 123_456_789, u64::MAX] {
            let mut out = Vec::new();
            digits(&mut out, value, 1);
            digits(&mut out, value, 8);
            amount(&mut out, value);
            let expected = format!("{value}{value:08}{}.{:02}", value / 100, value % 100);
            assert_eq!(String::from_utf8(out).expect("digits"), expected);
        }
    }
}
