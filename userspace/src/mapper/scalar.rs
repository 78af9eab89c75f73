//! Scalar of a mapping file -> number, flag, duration or text, by the rules of YAML 1.1.
//!
//! As the Go library reads them that statsd_exporter uses; files in the field rest on it: `0x10`,
//! `1_000`, `012` (octal), `yes` and `on`, and quoted numbers that are no numbers.

use super::problem::Shown;
use super::yaml::{Scalar, ScalarForm};

/// A scalar with its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Resolved<'a> {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
}

pub(super) fn resolve(scalar: &Scalar) -> Resolved<'_> {
    let text = &*scalar.text;
    if scalar.form == ScalarForm::Text {
        return Resolved::Text(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Resolved::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Resolved::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Resolved::Text(text);
    }
    // What begins with a point takes no underscores, to the library of statsd_exporter.
    let plain = if text.starts_with('.') { text.to_owned() } else { text.replace('_', "") };
    if let Some(int) = parse_int(&plain) {
        return Resolved::Int(int);
    }
    parse_float(&plain).map_or(Resolved::Text(text), Resolved::Float)
}

/// Of 64 bits, signed or not, in base 16, 8, 2 or 10 as its prefix says.
fn parse_int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    let (digits, radix) = match lower.as_deref() {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        Some(_) if digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| (digit as char).is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -magnitude } else { magnitude };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// Digits with an optional point and exponent: neither `inf` nor hexadecimal, and not out of range.
fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = digits(whole) && digits(fraction) && whole.len() + fraction.len() > 0;
    let good_exponent = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    if !has_digits || !good_exponent {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The reason that messages give: `cannot unmarshal` is what people search for.
pub(super) fn mismatch(scalar: &Scalar, wanted: &str) -> String {
    let resolved = resolve(scalar);
    let tag = match resolved {
        Resolved::Null => "null",
        Resolved::Bool(_) => "bool",
        Resolved::Int(_) => "int",
        Resolved::Float(_) => "float",
        Resolved::Text(_) => "str",
    };
    let plain = Scalar { text: scalar.text.clone(), form: ScalarForm::Resolved };
    let hint = match (resolved, resolve(&plain)) {
        (Resolved::Text(_), Resolved::Int(_) | Resolved::Float(_)) => "; leave out the quotes",
        _ => "",
    };
    format!("cannot unmarshal !!{tag} `{}` into {wanted}{hint}", Shown(&scalar.text))
}

/// `None` if it is no number.
pub(super) fn float(scalar: &Scalar) -> Option<f64> {
    match resolve(scalar) {
        Resolved::Int(int) => Some(int_to_float(int)),
        Resolved::Float(float) => Some(float),
        _ => None,
    }
}

/// `None` if it is no number or does not fit; a fraction is cut off.
pub(super) fn unsigned(scalar: &Scalar) -> Option<u32> {
    match resolve(scalar) {
        Resolved::Int(int) => u32::try_from(int).ok(),
        Resolved::Float(float) if (0.0..=f64::from(u32::MAX)).contains(&float) => {
            u32::try_from(float_to_int(float)).ok()
        }
        _ => None,
    }
}

/// Nanoseconds, possibly negative: a duration such as `1h20m`, or a bare number of nanoseconds.
pub(super) fn duration_nanos(scalar: &Scalar) -> Option<i64> {
    match resolve(scalar) {
        Resolved::Int(int) => i64::try_from(int).ok(),
        Resolved::Float(float) if float.abs() < 9.2e18 => Some(float_to_int(float)),
        Resolved::Text(text) => parse_duration(text),
        _ => None,
    }
}

/// As Go spells durations: an optional sign, then numbers with units.
fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let number_bytes = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_bytes);
        let unit_bytes = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_bytes);
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !digits(fraction) || whole.len() > 20 {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        // Below a nanosecond nothing counts, and 18 digits are below it for every unit.
        let fraction = &fraction[..fraction.len().min(18)];
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
        nanos = nanos + whole * unit + fraction * unit / scale;
        if nanos > i128::from(i64::MAX) {
            return None;
        }
        rest = after;
    }
    i64::try_from(if negative { -nanos } else { nanos }).ok()
}

#[expect(clippy::cast_precision_loss, reason = "a number of a file, rounded to the nearest float")]
fn int_to_float(int: i128) -> f64 {
    int as f64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a fraction is meant to be cut off; callers check the range"
)]
fn float_to_int(float: f64) -> i64 {
    float as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.into(), form: ScalarForm::Resolved }
    }

    fn quoted(text: &str) -> Scalar {
        Scalar { text: text.into(), form: ScalarForm::Text }
    }

    #[test]
    fn numbers_have_the_forms_of_yaml_1_1() {
        let cases = [
            ("1_000", 1000.0),
            (".5", 0.5),
            ("0x10", 16.0),
            ("1e3", 1000.0),
            ("012", 10.0),
            ("0o17", 15.0),
            ("0b101", 5.0),
            ("-3", -3.0),
            ("+1.5", 1.5),
            ("5.", 5.0),
            ("08", 8.0),
            ("1e-6", 1e-6),
            (".inf", f64::INFINITY),
            ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ];
        for (text, expected) in cases {
            assert_eq!(float(&plain(text)), Some(expected), "{text}");
        }
        for text in ["x", "._1", ".1_0", "1e400", "0x", "1.2.3", "inf", "1e", "", "true", "-", "0x1p2", "1 2"]
        {
            assert_eq!(float(&plain(text)), None, "{text}");
        }
        assert_eq!(float(&quoted("1")), None);
    }

    #[test]
    fn durations_are_those_of_go_and_bare_numbers_are_nanoseconds() {
        let cases = [
            ("1h20m3s", 4_803_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("100ms", 100_000_000),
            ("1\u{b5}s", 1000),
            ("30", 30),
            ("0", 0),
            ("-5s", -5_000_000_000),
            ("1.9", 1),
            (".5s", 500_000_000),
            ("1.5ns", 1),
            ("2562047h", 9_223_369_200_000_000_000),
        ];
        for (text, expected) in cases {
            assert_eq!(duration_nanos(&plain(text)), Some(expected), "{text}");
        }
        for text in
            ["1d", "s", "1", "", "-", "1h ", ".s", "1..2s", "2562048h", "99999999999999999999999h", "x"]
        {
            assert_eq!(duration_nanos(&quoted(text)), None, "{text}");
        }
        assert_eq!(duration_nanos(&quoted("0")), Some(0));
    }

    #[test]
    fn unsigned_numbers_are_cut_and_must_fit() {
        assert_eq!(unsigned(&plain("5")), Some(5));
        assert_eq!(unsigned(&plain("5.7")), Some(5));
        assert_eq!(unsigned(&plain("4294967296")), None);
        assert_eq!(unsigned(&plain("-1")), None);
        assert_eq!(unsigned(&quoted("5")), None);
    }

    #[test]
    fn a_quoted_number_gets_a_hint() {
        assert_eq!(
            mismatch(&quoted("0.5"), "a number"),
            "cannot unmarshal !!str `0.5` into a number; leave out the quotes"
        );
        assert_eq!(mismatch(&plain("foo"), "a number"), "cannot unmarshal !!str `foo` into a number");
    }
}
