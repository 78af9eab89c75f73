//! f64 -> the text that Go's client prints for it.

/// Appends `value` as Prometheus' Go client prints it: the shortest decimal that reads back equal,
/// with an exponent where that of the leading digit is below -4 or above 5.
///
/// Source: Go `strconv.FormatFloat(value, 'g', -1, 64)`, and `expfmt`, which prints -0 as 0.
pub(super) fn write_number(out: &mut Vec<u8>, value: f64) {
    // Up to here every integer is its own shortest decimal, so no float printing is needed.
    const INTEGER_MAX: f64 = 9_007_199_254_740_991.0;
    if value.abs() <= INTEGER_MAX && value.trunc() == value {
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        return write_integer(out, value as i64);
    }
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value < 0.0 {
        out.push(b'-');
    }
    let mut buffer = ryu::Buffer::new();
    let printed = buffer.format_finite(value.abs());
    let (mantissa, exponent) = printed.split_once('e').unwrap_or((printed, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));

    // ryu writes the digits around a point of its own choice. Gather them, without zeros at
    // either end, and count where the point belongs.
    let mut digits = [b'0'; 40];
    let mut length = 0;
    let mut point = exponent;
    for (digit, before_point) in
        whole.bytes().map(|digit| (digit, true)).chain(fraction.bytes().map(|digit| (digit, false)))
    {
        let leading_zero = length == 0 && digit == b'0';
        // The point moves right with each digit before it, and left with each zero behind it.
        point += match (before_point, leading_zero) {
            (true, false) => 1,
            (false, true) => -1,
            (true, true) | (false, false) => 0,
        };
        if !leading_zero && let Some(place) = digits.get_mut(length) {
            *place = digit;
            length += 1;
        }
    }
    let digits = digits.get(..length).unwrap_or_default().trim_ascii_end();
    write_digits(out, strip_zeros(digits), point);
}

/// Appends `value` as OpenMetrics wants its floats: as [`write_number`], but never without a point
/// or an exponent, so that it cannot be taken for an integer.
pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
    let start = out.len();
    write_number(out, value);
    if value.is_finite() && memchr::memchr2(b'.', b'e', out.get(start..).unwrap_or_default()).is_none() {
        out.extend_from_slice(b".0");
    }
}

/// Appends an integer with the same rules: from a million on it has an exponent.
pub(super) fn write_integer(out: &mut Vec<u8>, value: i64) {
    let mut buffer = itoa::Buffer::new();
    let printed = buffer.format(value).as_bytes();
    let digits = printed.strip_prefix(b"-").unwrap_or(printed);
    if digits.len() <= 6 {
        return out.extend_from_slice(printed);
    }
    if value < 0 {
        out.push(b'-');
    }
    let point = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    write_digits(out, strip_zeros(digits), point);
}

fn strip_zeros(digits: &[u8]) -> &[u8] {
    let end = digits.iter().rposition(|digit| *digit != b'0').map_or(1, |last| last + 1);
    digits.get(..end).unwrap_or(digits)
}

/// Appends `0.DIGITS` times ten to the power of `point`.
fn write_digits(out: &mut Vec<u8>, digits: &[u8], point: i32) {
    let exponent = point - 1;
    if !(-4..6).contains(&exponent) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, &[]));
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            out.push(b'0');
        }
        return out.extend_from_slice(itoa::Buffer::new().format(exponent.unsigned_abs()).as_bytes());
    }
    let zeros = |count: usize| b"000000".get(..count).unwrap_or(b"000000");
    let Ok(point) = usize::try_from(point) else {
        out.extend_from_slice(b"0.");
        out.extend_from_slice(zeros(point.unsigned_abs() as usize));
        return out.extend_from_slice(digits);
    };
    let (whole, fraction) = digits.split_at_checked(point).unwrap_or((digits, &[]));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    out.extend_from_slice(zeros(point - whole.len()));
    if !fraction.is_empty() {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn printed(value: f64) -> String {
        let mut out = Vec::new();
        write_number(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(value: f64, expected: &str) {
        assert_eq!(printed(value), expected);
        if value > 0.0 && value.is_finite() {
            assert_eq!(printed(-value), format!("-{expected}"));
        }
    }

    #[test]
    fn integers_have_an_exponent_from_a_million_on() {
        check(0.0, "0");
        check(-0.0, "0");
        check(1.0, "1");
        check(10.0, "10");
        check(123_456.0, "123456");
        check(999_999.0, "999999");
        check(1e6, "1e+06");
        check(1_234_567.0, "1.234567e+06");
        check(123_456_789.0, "1.23456789e+08");
        check(9_007_199_254_740_991.0, "9.007199254740991e+15");
        check(9_007_199_254_740_992.0, "9.007199254740992e+15");
        check(1e15, "1e+15");
        check(1e16, "1e+16");
        check(1e21, "1e+21");
        check(1e100, "1e+100");
    }

    #[test]
    fn fractions_are_shortest() {
        check(0.5, "0.5");
        check(0.1, "0.1");
        check(0.1 + 0.2, "0.30000000000000004");
        check(23.130_509_999_999_997, "23.130509999999997");
        check(123_456.789, "123456.789");
        check(999_999.5, "999999.5");
        check(1_234_567.5, "1.2345675e+06");
        check(10.25, "10.25");
        check(0.01, "0.01");
        check(0.001_234, "0.001234");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(0.000_012_5, "1.25e-05");
        check(1e-10, "1e-10");
        check(5e-324, "5e-324");
        check(f64::MAX, "1.7976931348623157e+308");
        check(2.5e-7, "2.5e-07");
        check(1.5e300, "1.5e+300");
    }

    #[test]
    fn an_openmetrics_float_is_no_integer() {
        for (value, expected) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-3.0, "-3.0"),
            (0.5, "0.5"),
            (1e6, "1e+06"),
            (f64::INFINITY, "+Inf"),
        ] {
            let mut out = b"7".to_vec();
            write_float(&mut out, value);
            assert_eq!(out, [b"7", expected.as_bytes()].concat());
        }
    }

    #[test]
    fn what_is_no_number_has_a_name() {
        check(f64::NAN, "NaN");
        check(-f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }

    proptest! {
        #[test]
        fn every_number_reads_back_equal_and_is_no_longer_than_rusts(bits in any::<u64>(), scaled in -1e9..1e9_f64) {
            for value in [f64::from_bits(bits), scaled, (scaled * 1000.0).round() / 1000.0, scaled.round()] {
                let text = printed(value);
                let back: f64 = text.parse().unwrap();
                prop_assert!(back == value || back.is_nan() && value.is_nan(), "{value} {text}");
                if value.is_finite() && value != 0.0 {
                    let digits = |text: &str| {
                        let mantissa = text.split(['e', 'E']).next().unwrap().to_owned();
                        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
                        digits.trim_matches('0').to_owned()
                    };
                    // Of two shortest decimals equally near, Go takes the even one, Rust the greater.
                    prop_assert_eq!(digits(&text).len(), digits(&format!("{value:e}")).len());
                }
            }
        }
    }
}
