//! Rows and orders as bytes in temporary files: frames of variable-length numbers and texts.
//!
//! A row of five small numbers takes about twenty bytes where its fields in memory take forty. The files live as long
//! as the process that wrote them, so the layout has no version.

use std::{
    io::{self, BufRead, Write},
    str,
};

use pipeline::domain::{Cents, CustomerId, Line, ProductId};

/// Writes one frame: its length in two bytes, and the payload.
pub(super) fn write(out: &mut impl Write, payload: &[u8]) -> io::Result<()> {
    // The largest is an order of a thousand lines of at most nineteen bytes.
    let length = u16::try_from(payload.len()).map_err(io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(payload)
}

/// Bytes that a frame with this payload takes.
pub(super) fn length(payload: &[u8]) -> u64 {
    size_of::<u16>() as u64 + payload.len() as u64
}

/// Reads the next frame into `payload`; `false` at the end.
pub(super) fn read(input: &mut impl BufRead, payload: &mut Vec<u8>) -> io::Result<bool> {
    if input.fill_buf()?.is_empty() {
        return Ok(false);
    }
    let mut length = [0; size_of::<u16>()];
    input.read_exact(&mut length)?;
    payload.resize(usize::from(u16::from_le_bytes(length)), 0);
    input.read_exact(payload)?;
    Ok(true)
}

/// Appends a number, seven bits a byte, the lowest first.
pub(super) fn put(payload: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        payload.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    payload.push(value.to_le_bytes()[0]);
}

/// Appends a text.
pub(super) fn put_text(payload: &mut Vec<u8>, text: &str) {
    put(payload, text.len() as u64);
    payload.extend_from_slice(text.as_bytes());
}

/// Appends a customer.
pub(super) fn put_customer(payload: &mut Vec<u8>, customer_id: CustomerId) {
    put(payload, customer_id.0.cast_unsigned());
}

/// Appends a line of an order.
pub(super) fn put_line(payload: &mut Vec<u8>, line: &Line) {
    put(payload, line.product_id.0.cast_unsigned());
    put(payload, u64::from(line.quantity.cast_unsigned()));
    put(payload, line.unit_price.get().cast_unsigned());
}

/// Takes a payload apart in the order in which it was put together.
#[derive(Debug)]
pub(super) struct Payload<'a>(pub(super) &'a [u8]);

impl<'a> Payload<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn number(&mut self) -> io::Result<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or_else(damaged)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(damaged())
    }

    pub(super) fn text(&mut self) -> io::Result<&'a str> {
        let length = usize::try_from(self.number()?).map_err(|_| damaged())?;
        let (text, rest) = self.0.split_at_checked(length).ok_or_else(damaged)?;
        self.0 = rest;
        str::from_utf8(text).map_err(|_| damaged())
    }

    pub(super) fn customer(&mut self) -> io::Result<CustomerId> {
        Ok(CustomerId(self.number()?.cast_signed()))
    }

    pub(super) fn line(&mut self) -> io::Result<Line> {
        Ok(Line {
            product_id: ProductId(self.number()?.cast_signed()),
            quantity: i32::try_from(self.number()?).map_err(|_| damaged())?,
            unit_price: Cents::new(self.number()?.cast_signed()),
        })
    }
}

/// What was written cannot be read back.
pub(super) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a temporary file was changed from outside")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart_again() {
        let line = Line { product_id: ProductId(i64::MAX), quantity: i32::MAX, unit_price: Cents::PRICE_MAX };
        let mut payload = Vec::new();
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            put(&mut payload, value);
        }
        put_text(&mut payload, "Übergröße");
        put_line(&mut payload, &line);
        let mut file = Vec::new();
        write(&mut file, &payload).expect("in memory");
        assert_eq!(file.len() as u64, length(&payload));

        let (mut input, mut read_back) = (&file[..], Vec::new());
        assert!(read(&mut input, &mut read_back).expect("whole"));
        let mut payload = Payload(&read_back);
        for value in [0, 1, 127, 128, 300, u64::MAX] {
            assert_eq!(payload.number().expect("a number"), value);
        }
        assert_eq!(payload.text().expect("a text"), "Übergröße");
        assert_eq!(payload.line().expect("a line"), line);
        assert!(payload.is_empty() && payload.number().is_err());
        assert!(!read(&mut input, &mut read_back).expect("the end"));
    }
}
