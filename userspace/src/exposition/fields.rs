//! Fields of protobuf messages -> bytes, or protobuf's text form.
//!
//! Source: protobuf.dev, "Encoding" and "Text Format Language Specification".

use super::number::write_number;

/// Number and name of a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(pub(super) u32, pub(super) &'static str);

/// Writes the fields of one message, in order.
pub(super) trait Fields {
    /// A `string`; `value` is valid UTF-8.
    fn text(&mut self, field: Field, value: &[u8]);
    fn double(&mut self, field: Field, value: f64);
    /// A `uint32` or `uint64`, or an `int32` or `int64` that is not negative.
    fn unsigned(&mut self, field: Field, value: u64);
    /// A `sint32` or `sint64`.
    fn signed(&mut self, field: Field, value: i64);
    /// An enum's value.
    fn symbol(&mut self, field: Field, value: u64, name: &str);
    fn message(&mut self, field: Field, write: impl FnOnce(&mut Self));
}

/// The wire format.
pub(super) struct Binary<'a>(pub(super) &'a mut Vec<u8>);

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;

impl Binary<'_> {
    fn tag(&mut self, field: Field, wire_type: u32) {
        self.varint(u64::from(field.0 << 3 | wire_type));
    }

    fn varint(&mut self, value: u64) {
        let (bytes, length) = varint(value);
        self.0.extend_from_slice(bytes.get(..length).unwrap_or_default());
    }
}

impl Fields for Binary<'_> {
    fn text(&mut self, field: Field, value: &[u8]) {
        self.tag(field, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn double(&mut self, field: Field, value: f64) {
        self.tag(field, FIXED_64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn unsigned(&mut self, field: Field, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    fn signed(&mut self, field: Field, value: i64) {
        self.unsigned(field, (value << 1 ^ value >> 63).cast_unsigned());
    }

    fn symbol(&mut self, field: Field, value: u64, _name: &str) {
        self.unsigned(field, value);
    }

    fn message(&mut self, field: Field, write: impl FnOnce(&mut Self)) {
        self.tag(field, LENGTH_DELIMITED);
        let start = self.0.len();
        write(self);
        insert_length(self.0, start);
    }
}

/// Puts the length of what `out` holds from `start` on in front of it.
pub(super) fn insert_length(out: &mut Vec<u8>, start: usize) {
    let end = out.len();
    let (bytes, length) = varint((end - start) as u64);
    let bytes = bytes.get(..length).unwrap_or_default();
    out.extend_from_slice(bytes);
    out.copy_within(start..end, start + length);
    if let Some(place) = out.get_mut(start..start + length) {
        place.copy_from_slice(bytes);
    }
}

/// `value` in groups of seven bits, the lowest first, each but the last marked; and their number.
fn varint(mut value: u64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut length = 0;
    for byte in &mut bytes {
        length += 1;
        *byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    (bytes, length)
}

/// The text form, with an indented line for each field, or all of them in one line.
pub(super) struct TextForm<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) compact: bool,
    depth: usize,
    /// No field of this message is written yet.
    first: bool,
}

impl<'a> TextForm<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>, compact: bool) -> Self {
        Self { out, compact, depth: 0, first: true }
    }

    fn begin(&mut self, field: Field) {
        if !self.compact {
            self.out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
        } else if !self.first {
            self.out.push(b' ');
        }
        self.first = false;
        self.out.extend_from_slice(field.1.as_bytes());
        self.out.extend_from_slice(if self.compact { b":" } else { b": " });
    }

    fn end(&mut self) {
        if !self.compact {
            self.out.push(b'\n');
        }
    }

    fn plain(&mut self, field: Field, value: &str) {
        self.begin(field);
        self.out.extend_from_slice(value.as_bytes());
        self.end();
    }
}

impl Fields for TextForm<'_> {
    fn text(&mut self, field: Field, value: &[u8]) {
        self.begin(field);
        self.out.push(b'"');
        for byte in value {
            match byte {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', *byte]),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                0..=0x1f | 0x7f => self.out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                _ => self.out.push(*byte),
            }
        }
        self.out.push(b'"');
        self.end();
    }

    fn double(&mut self, field: Field, value: f64) {
        self.begin(field);
        if value.is_finite() {
            write_number(self.out, value);
        } else {
            let name: &[u8] = match value {
                f64::INFINITY => b"inf",
                f64::NEG_INFINITY => b"-inf",
                _ => b"nan",
            };
            self.out.extend_from_slice(name);
        }
        self.end();
    }

    fn unsigned(&mut self, field: Field, value: u64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn signed(&mut self, field: Field, value: i64) {
        self.plain(field, itoa::Buffer::new().format(value));
    }

    fn symbol(&mut self, field: Field, _value: u64, name: &str) {
        self.plain(field, name);
    }

    fn message(&mut self, field: Field, write: impl FnOnce(&mut Self)) {
        self.begin(field);
        self.out.push(b'{');
        self.end();
        self.depth += 1;
        self.first = true;
        write(self);
        self.depth -= 1;
        self.first = false;
        if !self.compact {
            self.out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
        }
        self.out.push(b'}');
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Field = Field(1, "a");
    const B: Field = Field(20, "b");

    fn write(out: &mut impl Fields) {
        out.text(A, b"x\"\n\x01\xc3\xa9");
        out.message(B, |out| {
            out.unsigned(A, 300);
            out.signed(B, -2);
            out.message(A, |_| ());
        });
        out.double(A, f64::NEG_INFINITY);
        out.symbol(B, 4, "HISTOGRAM");
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        let mut out = Vec::new();
        write(&mut Binary(&mut out));
        let expected: &[&[u8]] = &[
            b"\x0a\x06x\"\n\x01\xc3\xa9",
            b"\xa2\x01\x08\x08\xac\x02\xa0\x01\x03\x0a\x00",
            b"\x09\0\0\0\0\0\0\xf0\xff",
            b"\xa0\x01\x04",
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn a_long_message_has_a_long_length() {
        let mut out = vec![7];
        out.extend([1; 300]);
        insert_length(&mut out, 1);
        assert_eq!((&out[..4], out.len()), (&[7, 0xac, 0x02, 1][..], 303));
        assert_eq!(
            varint(u64::MAX),
            ([0xff; 9].into_iter().chain([1]).collect::<Vec<u8>>().try_into().unwrap(), 10)
        );
    }

    #[test]
    fn text_is_indented_or_in_one_line() {
        let mut out = Vec::new();
        write(&mut TextForm::new(&mut out, false));
        let expected =
            "a: \"x\\\"\\n\\x01é\"\nb: {\n  a: 300\n  b: -2\n  a: {\n  }\n}\na: -inf\nb: HISTOGRAM\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        write(&mut TextForm::new(&mut out, true));
        let expected = "a:\"x\\\"\\n\\x01é\" b:{a:300 b:-2 a:{}} a:-inf b:HISTOGRAM";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
