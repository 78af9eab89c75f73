//! Delimited `MetricFamily` messages -> protobuf's text form, by the list of fields below.
//!
//! Written apart from the writer: only the numbers of the fields are common knowledge.

#[derive(Clone, Copy)]
enum Type {
    Text,
    Double,
    Unsigned,
    Signed,
    Metric,
    Message(&'static [(u64, &'static str, Type)]),
}

const TIMESTAMP: Type = Type::Message(&[(1, "seconds", Type::Unsigned), (2, "nanos", Type::Unsigned)]);
const LABEL: Type = Type::Message(&[(1, "name", Type::Text), (2, "value", Type::Text)]);
const QUANTILE: Type = Type::Message(&[(1, "quantile", Type::Double), (2, "value", Type::Double)]);
const BUCKET: Type =
    Type::Message(&[(1, "cumulative_count", Type::Unsigned), (2, "upper_bound", Type::Double)]);
const SPAN: Type = Type::Message(&[(1, "offset", Type::Signed), (2, "length", Type::Unsigned)]);
const HISTOGRAM: Type = Type::Message(&[
    (1, "sample_count", Type::Unsigned),
    (2, "sample_sum", Type::Double),
    (3, "bucket", BUCKET),
    (5, "schema", Type::Signed),
    (6, "zero_threshold", Type::Double),
    (7, "zero_count", Type::Unsigned),
    (9, "negative_span", SPAN),
    (10, "negative_delta", Type::Signed),
    (12, "positive_span", SPAN),
    (13, "positive_delta", Type::Signed),
    (15, "created_timestamp", TIMESTAMP),
]);
const SUMMARY: Type = Type::Message(&[
    (1, "sample_count", Type::Unsigned),
    (2, "sample_sum", Type::Double),
    (3, "quantile", QUANTILE),
    (4, "created_timestamp", TIMESTAMP),
]);
const METRIC: Type = Type::Message(&[
    (1, "label", LABEL),
    (2, "gauge", Type::Message(&[(1, "value", Type::Double)])),
    (3, "counter", Type::Message(&[(1, "value", Type::Double), (3, "created_timestamp", TIMESTAMP)])),
    (4, "summary", SUMMARY),
    (7, "histogram", HISTOGRAM),
]);
const FAMILY: Type = Type::Message(&[
    (1, "name", Type::Text),
    (2, "help", Type::Text),
    (3, "type", Type::Metric),
    (4, "metric", METRIC),
]);

/// The text of each message, or `None` if anything is not as it should be.
pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut families = Vec::new();
    while !bytes.is_empty() {
        let mut text = String::new();
        read_fields(length_delimited(&mut bytes)?, FAMILY, 0, &mut text)?;
        families.push(text);
    }
    Some(families)
}

fn read_fields(mut bytes: &[u8], message: Type, depth: usize, text: &mut String) -> Option<()> {
    let Type::Message(fields) = message else { return None };
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let (_, name, kind) = fields.iter().find(|field| field.0 == tag >> 3)?;
        let indent = "  ".repeat(depth);
        let value = match (kind, tag & 7) {
            (Type::Text, 2) => format!("{:?}", str::from_utf8(length_delimited(&mut bytes)?).ok()?),
            (Type::Double, 1) => {
                let (value, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                float(f64::from_le_bytes(*value))
            }
            (Type::Unsigned, 0) => varint(&mut bytes)?.to_string(),
            (Type::Signed, 0) => {
                let value = varint(&mut bytes)?;
                let half = i64::try_from(value / 2).ok()?;
                (if value % 2 == 0 { half } else { -1 - half }).to_string()
            }
            (Type::Metric, 0) => ["COUNTER", "GAUGE", "SUMMARY", "", "HISTOGRAM"]
                .get(usize::try_from(varint(&mut bytes)?).ok()?)?
                .to_string(),
            (Type::Message(_), 2) => {
                let mut inner = String::from("{\n");
                read_fields(length_delimited(&mut bytes)?, *kind, depth + 1, &mut inner)?;
                inner + &indent + "}"
            }
            _ => return None,
        };
        *text += &format!("{indent}{name}: {value}\n");
    }
    Some(())
}

/// As Rust prints it, with the exponent where Go has one.
fn float(value: f64) -> String {
    let exponent = value.abs().log10().floor();
    match value {
        _ if value.is_nan() => "nan".to_owned(),
        _ if value.is_finite() && value != 0.0 && !(-4.0..6.0).contains(&exponent) => {
            let text = format!("{value:e}");
            let (digits, exponent) = text.split_once('e').unwrap();
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        _ => value.to_string(),
    }
}

fn length_delimited<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}
