//! Value text -> number, as Go's `strconv.ParseFloat` reads it.
//!
//! Senders are not asked to know about Go, but what statsd_exporter accepts, they send: hexadecimal
//! floats, underscores between digits, `inf` and `nan` in any case. Rust's own parser knows neither
//! of the first two, and takes `1e400` for infinity where Go reports an error.

use super::block;

/// Why a text is no value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NumberError {
    Malformed,
    /// Beyond the largest float; holds the infinity of its sign, which is what a sample rate becomes.
    OutOfRange(f64),
}

/// Powers of ten that a float holds exactly, as far as up to 16 digits need them.
pub(super) const POWERS_OF_TEN: [f64; 17] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16];

/// The number that `text` spells, rounded to nearest.
///
/// # Errors
///
/// [`NumberError::OutOfRange`] for a number that is too large; one that is too small is 0.
/// [`NumberError::Malformed`] for everything else.
///
/// Source: Go's `strconv.ParseFloat`.
pub fn parse(text: &[u8]) -> Result<f64, NumberError> {
    plain_decimal(text).map_or_else(|| any_form(text), Ok)
}

/// The same for the value of a line. Faster: nearly all have up to eight bytes, and hardly any more than
/// sixteen, which are read with what stands before them. `front` ends with the value.
///
/// # Errors
///
/// As [`parse`].
#[inline(always)]
pub fn parse_last(front: &[u8], value: &[u8]) -> Result<f64, NumberError> {
    match block::decimal(front, value) {
        Some(number) => Ok(number),
        None => parse_apart(value),
    }
}

/// [`parse`], not inlined.
///
/// # Errors
///
/// As [`parse`].
#[inline(never)]
pub fn parse_apart(value: &[u8]) -> Result<f64, NumberError> {
    parse(value)
}

/// Powers of ten by the number of bytes behind a point, and at 8 that of no point.
const POWERS_BEHIND_POINT: [f64; 9] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e0];

/// The number that the `length` highest bytes of `text` spell, the last of them the highest, if it has no
/// sign. No loop and no branch but to say that it is another number.
#[inline]
pub(super) fn short_decimal(text: u64, length: usize) -> Option<f64> {
    // What stands before it becomes zeros.
    let digits = (text ^ 0x3030_3030_3030_3030) & (u64::MAX << (64 - 8 * length));
    // The top bit of each byte above 9; the sum runs over into the next byte only above 127, and then
    // there is more than one.
    let others = (digits.wrapping_add(0x7676_7676_7676_7676) | digits) & 0x8080_8080_8080_8080;
    // The lowest bit of the byte that is a point, or nothing.
    let point = others >> 7;
    let is_plain = digits & (point.wrapping_mul(0xff)) == point.wrapping_mul(u64::from(b'.' ^ b'0'));
    if others & others.wrapping_sub(1) != 0 || !is_plain || (point != 0 && length == 1) {
        return None;
    }
    // The digits before the point move up over it.
    let before = if point == 0 { 0 } else { point - 1 };
    let digits = digits & !(before | point.wrapping_mul(0xff)) | (digits & before) << 8;
    let behind = point.leading_zeros() as usize / 8;
    // Both operands are exact, so that the division rounds only once, to the right result.
    Some(eight_digits(digits) as f64 / POWERS_BEHIND_POINT.get(behind)?)
}

/// The number that eight bytes of 0 to 9 spell, of which the highest is the last digit.
#[inline]
fn eight_digits(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(100 + (1_000_000 << 32));
    let high = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// The same as [`short_decimal`] for 9 to 16 bytes, unless a float does not hold their digits.
#[inline(never)]
pub(super) fn longer_decimal(text: u128, length: usize) -> Option<f64> {
    const ONES: u128 = u128::MAX / 0xff;
    let digits = (text ^ (ONES * 0x30)) & (u128::MAX << (128 - 8 * length));
    let others = (digits.wrapping_add(ONES * 0x76) | digits) & (ONES * 0x80);
    let point = others >> 7;
    if others & others.wrapping_sub(1) != 0 || digits & (point << 8).wrapping_sub(point) != point * 0x1e {
        return None;
    }
    let before = if point == 0 { 0 } else { point - 1 };
    let digits = digits & !(before | (point << 8).wrapping_sub(point)) | (digits & before) << 8;
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    let mantissa = eight_digits(digits as u64) * 100_000_000 + eight_digits((digits >> 64) as u64);
    let behind = if point == 0 { 0 } else { point.leading_zeros() as usize / 8 };
    (mantissa <= 1 << 53).then_some(mantissa as f64 / POWERS_OF_TEN.get(behind)?)
}

/// The hot case of all lengths: an optional sign, at most 16 digits, perhaps a point among them.
fn plain_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = split_sign(text);
    // 16 digits and a point; the length bounds the sum below and the index into the powers.
    if digits.is_empty() || digits.len() > 17 {
        return None;
    }
    let mut mantissa = 0u64;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    let fraction_digits = point.map_or(0, |at| digits.len() - at - 1);
    // A point alone is no number, and 17 digits may not fit: the long way knows.
    if digits.len() - usize::from(point.is_some()) == 0 || mantissa > 1 << 53 {
        return None;
    }
    // Both operands are exact, so that the division rounds only once, to the right result.
    let value = mantissa as f64 / POWERS_OF_TEN.get(fraction_digits)?;
    Some(if negative { -value } else { value })
}

fn any_form(text: &[u8]) -> Result<f64, NumberError> {
    let (negative, unsigned) = split_sign(text);
    let signed = unsigned.len() < text.len();
    let value = match unsigned {
        [b'i' | b'I', ..] if is_infinity(unsigned) => return Ok(with_sign(f64::INFINITY, negative)),
        // A sign before `nan` is an error in Go.
        [b'n' | b'N', ..] if !signed && unsigned.eq_ignore_ascii_case(b"nan") => return Ok(f64::NAN),
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
        [b'0'..=b'9' | b'.', ..] => decimal(unsigned)?,
        _ => return Err(NumberError::Malformed),
    };
    if value.is_infinite() {
        return Err(NumberError::OutOfRange(with_sign(value, negative)));
    }
    Ok(with_sign(value, negative))
}

fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', unsigned @ ..] => (true, unsigned),
        [b'+', unsigned @ ..] => (false, unsigned),
        unsigned => (false, unsigned),
    }
}

fn with_sign(value: f64, negative: bool) -> f64 {
    if negative { -value } else { value }
}

fn is_infinity(text: &[u8]) -> bool {
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}

/// Decimal with point and exponent; infinity if too large.
fn decimal(text: &[u8]) -> Result<f64, NumberError> {
    if !text.contains(&b'_') {
        return fast_float2::parse(text).map_err(|_| NumberError::Malformed);
    }
    let digits = without_underscores(text, b'^', u8::is_ascii_digit)?;
    fast_float2::parse(&digits).map_err(|_| NumberError::Malformed)
}

/// `text` without its underscores, each of which must stand between two digits; `before` is what
/// stands in front of the text. One underscore is also allowed after the prefix `0x`, which
/// therefore passes a digit there.
fn without_underscores(
    text: &[u8],
    mut before: u8,
    is_digit: impl Fn(&u8) -> bool,
) -> Result<Vec<u8>, NumberError> {
    let mut digits = Vec::with_capacity(text.len());
    for &byte in text {
        if byte == b'_' {
            if !is_digit(&before) {
                return Err(NumberError::Malformed);
            }
        } else {
            if before == b'_' && !is_digit(&byte) {
                return Err(NumberError::Malformed);
            }
            digits.push(byte);
        }
        before = byte;
    }
    if before == b'_' { Err(NumberError::Malformed) } else { Ok(digits) }
}

/// What follows `0x`: hexadecimal digits, perhaps with a point, and a binary exponent, which is not
/// optional. Infinity if too large.
fn hexadecimal(text: &[u8]) -> Result<f64, NumberError> {
    let text = without_underscores(text, b'0', u8::is_ascii_hexdigit)?;
    let at = text.iter().position(|byte| matches!(byte, b'p' | b'P')).ok_or(NumberError::Malformed)?;
    let (digits, exponent) = text.split_at_checked(at).ok_or(NumberError::Malformed)?;
    let mut power = binary_exponent(exponent.get(1..).unwrap_or_default())?;

    let mut mantissa = 0u64;
    let mut lost_bits = false;
    let (mut seen_digit, mut seen_point) = (false, false);
    for &byte in digits {
        if byte == b'.' {
            if seen_point {
                return Err(NumberError::Malformed);
            }
            seen_point = true;
            continue;
        }
        let digit = char::from(byte).to_digit(16).ok_or(NumberError::Malformed)?;
        seen_digit = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            power -= if seen_point { 4 } else { 0 };
        } else {
            lost_bits |= digit != 0;
            power += if seen_point { 0 } else { 4 };
        }
    }
    if seen_digit { Ok(scaled(mantissa, lost_bits, power)) } else { Err(NumberError::Malformed) }
}

/// The exponent after `p`. Beyond ten thousand, which is far outside of what a float holds, further
/// digits make no difference, as in Go.
fn binary_exponent(text: &[u8]) -> Result<i64, NumberError> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() {
        return Err(NumberError::Malformed);
    }
    let mut exponent = 0i64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return Err(NumberError::Malformed);
        }
        if exponent < 10_000 {
            exponent = exponent * 10 + i64::from(byte - b'0');
        }
    }
    Ok(if negative { -exponent } else { exponent })
}

/// `mantissa * 2^power`, rounded to nearest even; `lost_bits` says that the true mantissa is a
/// little larger.
fn scaled(mantissa: u64, lost_bits: bool, power: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let shift = mantissa.leading_zeros();
    let mantissa = mantissa << shift;
    // The first bit of the shifted mantissa is worth 2^top.
    let top = power - i64::from(shift) + 63;
    if top > 1023 {
        return f64::INFINITY;
    }
    // 53 bits stay, fewer where the number is below the normal ones.
    let drop = 11 + (-1022 - top).max(0);
    let Ok(drop) = u32::try_from(drop) else { return 0.0 };
    let (mut kept, below) = match drop {
        ..64 => (mantissa >> drop, mantissa << (64 - drop)),
        64 => (0, mantissa),
        _ => return 0.0,
    };
    let below = below | u64::from(lost_bits);
    let half = 1u64 << 63;
    if below > half || (below == half && kept & 1 == 1) {
        kept += 1;
    }
    // A carry out of the 53 bits runs into the exponent, where it belongs.
    let exponent = u64::try_from(top + 1022).unwrap_or(0);
    f64::from_bits((exponent << 52) + kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: f64) {
        let value = parse(text.as_bytes()).expect("the text is a number");
        assert_eq!(value.to_bits(), expected.to_bits(), "{text}: {value} is not {expected}");
    }

    #[track_caller]
    fn check_refused(text: &str) {
        assert_eq!(parse(text.as_bytes()), Err(NumberError::Malformed), "{text}");
    }

    #[test]
    fn decimals_are_read() {
        check("0", 0.0);
        check("-0", -0.0);
        check("+5", 5.0);
        check(".5", 0.5);
        check("5.", 5.0);
        check("12.345678", 12.345_678);
        check("9007199254740993", 9_007_199_254_740_992.0);
        check("0.006203873999766074", 0.006_203_873_999_766_074);
        check("1e3", 1000.0);
        check("1E+03", 1000.0);
        check("-2.5e-3", -0.0025);
        check("00000000000000000000000000001", 1.0);
    }

    #[test]
    fn hexadecimals_need_an_exponent() {
        check("0x1p-2", 0.25);
        check("-0X1.8P1", -3.0);
        check("0x.8p0", 0.5);
        check("0x_1p4", 16.0);
        check("0x1_0p0", 16.0);
        check("0x1p1_0", 1024.0);
        check_refused("0x10");
        check_refused("0x");
        check_refused("0xp1");
        check_refused("0x.p1");
        check_refused("0x1p");
        check_refused("0x1p+");
        check_refused("0x1.1.1p1");
        check_refused("0x1gp1");
        check_refused("0x1p1f");
    }

    #[test]
    fn hexadecimals_round_to_nearest_even() {
        check("0x1.00000000000008p0", 1.0);
        check("0x1.00000000000018p0", 1.0 + 2.0 * f64::EPSILON);
        check("0x1.000000000000080000000001p0", 1.0 + f64::EPSILON);
        check("0x1.fffffffffffff8p0", 2.0);
        check("0x1.fffffffffffffp1023", f64::MAX);
        check("0x1p-1074", f64::from_bits(1));
        check("0x1p-1075", 0.0);
        check("0x1.8p-1075", f64::from_bits(1));
        check("0x1p-1022", f64::MIN_POSITIVE);
        check("0x0.fffffffffffff8p-1022", f64::MIN_POSITIVE);
        check("0x1p-99999999999", 0.0);
        check("0x0p99999999999", 0.0);
    }

    #[test]
    fn underscores_stand_between_digits() {
        check("1_000", 1000.0);
        check("1_0.0_1e1_0", 10.01e10);
        for text in
            ["1__0", "_1", "1_", "1_.5", "1._5", "1_e3", "1e_3", "0_x1p1", "0x1_p1", "0x1p_1", "0x_p1", "_"]
        {
            check_refused(text);
        }
    }

    #[test]
    fn infinity_and_nan_in_any_case() {
        check("inf", f64::INFINITY);
        check("+Infinity", f64::INFINITY);
        check("-INF", f64::NEG_INFINITY);
        assert!(parse(b"NaN").expect("a spelling of nan").is_nan());
        check_refused("+nan");
        check_refused("-nan");
        check_refused("infi");
        check_refused("nano");
    }

    #[test]
    fn too_large_is_an_error_and_too_small_is_zero() {
        assert_eq!(parse(b"1e400"), Err(NumberError::OutOfRange(f64::INFINITY)));
        assert_eq!(parse(b"-1e400"), Err(NumberError::OutOfRange(f64::NEG_INFINITY)));
        assert_eq!(parse(b"0x1p1024"), Err(NumberError::OutOfRange(f64::INFINITY)));
        assert_eq!(parse(b"0x1.fffffffffffff8p1023"), Err(NumberError::OutOfRange(f64::INFINITY)));
        check("1e-400", 0.0);
        check("-1e-400", -0.0);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", " 1", "1 ", "1,5", "--5", "+-5", "+", "-", ".", "-.", "0b1", "0o7", "abc", "1e", "1e+", "e1",
            "$1", "1.2.3", "1f", "\u{661}",
        ] {
            check_refused(text);
        }
    }

    proptest! {
        #[test]
        fn a_printed_float_reads_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            for text in [format!("{value}"), format!("{value:e}")] {
                prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), Ok(bits));
            }
        }

        #[test]
        fn a_timing_with_six_decimals_reads_as_rust_reads_it(micros in 0u64..10_000_000_000_000) {
            let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), Ok(text.parse::<f64>().expect("a float").to_bits()));
        }

        #[test]
        fn hexadecimal_bits_read_back(bits in 0..f64::INFINITY.to_bits()) {
            let (exponent, fraction) = (bits >> 52, bits & ((1 << 52) - 1));
            let text = if exponent == 0 {
                format!("0x0.{fraction:013x}p-1022")
            } else {
                format!("0x1.{fraction:013x}p{}", i64::try_from(exponent).expect("11 bits") - 1023)
            };
            prop_assert_eq!(parse(text.as_bytes()).map(f64::to_bits), Ok(bits));
        }

        #[test]
        fn behind_a_name_it_is_the_same_number(
            name in "[a-z.:]{0,18}", value in "[0-9]{0,9}[.]?[0-9]{0,9}|[0-9.]{0,18}|[0-9.+e:|-]{0,17}", noise in any::<Vec<u8>>()
        ) {
            for value in [value.into_bytes(), noise] {
                let front = [name.as_bytes(), &value].concat();
                let read = |value: Result<f64, NumberError>| value.map(f64::to_bits);
                prop_assert_eq!(read(parse_last(&front, &value)), read(parse(&value)), "{}", value.escape_ascii());
            }
        }

        #[test]
        fn any_bytes_return(text in any::<Vec<u8>>()) {
            let _ = parse(&text);
        }
    }
}
