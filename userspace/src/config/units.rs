//! Text -> sizes, counts, durations.

use std::time::Duration;

use crate::line::number::{self, NumberError};

/// What is wrong with a number that someone typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("not a size; write bytes, with Ki, Mi or Gi if you like, for example 4Mi")]
    Size,
    #[error("not a whole number")]
    Count,
    #[error("not a duration; write a number and a unit (ms, s, m, h), for example 200ms or 1m30s")]
    Duration,
    #[error("not a number")]
    Number,
    #[error("below 0; write 0 or more")]
    Negative,
    #[error("write something above 0")]
    Zero,
    #[error("too large")]
    TooLarge,
}

/// Bytes from `4096`, `64Ki`, `16Mi`, `1Gi`; a `B` may follow.
///
/// # Errors
///
/// [`UnitError::Size`], or [`UnitError::TooLarge`] where 64 bits do not hold it.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    // What statsd_exporter takes as well: 1e6.
    if let Ok(bytes) = parse_integer(text) {
        return u64::try_from(bytes).map_err(|_| UnitError::Size);
    }
    let number_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let shift = match suffix.strip_suffix('B').unwrap_or(suffix) {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err(UnitError::Size),
    };
    if number.is_empty() {
        return Err(UnitError::Size);
    }
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
    number.checked_mul(1 << shift).ok_or(UnitError::TooLarge)
}

/// A whole number without sign.
///
/// # Errors
///
/// [`UnitError::Count`], or [`UnitError::TooLarge`].
pub fn parse_count(text: &str) -> Result<u32, UnitError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(UnitError::Count);
    }
    text.parse().map_err(|_| UnitError::TooLarge)
}

/// A signed number as `statsd_exporter` reads it: as a float whose fraction is cut off, so `1e3` and
/// `10.7` do, and underscores between digits.
///
/// # Errors
///
/// [`UnitError::Number`], or [`UnitError::TooLarge`] where 53 bits do not hold it.
pub fn parse_integer(text: &str) -> Result<i64, UnitError> {
    let number = match number::parse(text.as_bytes()) {
        Ok(number) => number,
        Err(NumberError::OutOfRange(_)) => return Err(UnitError::TooLarge),
        Err(NumberError::Malformed) => return Err(UnitError::Number),
    };
    if number.is_nan() {
        return Err(UnitError::Number);
    }
    if number.abs() > (1_u64 << 53) as f64 {
        return Err(UnitError::TooLarge);
    }
    #[expect(clippy::cast_possible_truncation, reason = "cutting off the fraction is what is meant")]
    Ok(number as i64)
}

/// An unsigned number as Go reads literals: `16`, `1_000`, `0x10`, `0b1_0000`, `0o20`, `020`.
///
/// # Errors
///
/// [`UnitError::Count`], or [`UnitError::TooLarge`] where 64 bits do not hold it.
pub fn parse_unsigned(text: &str) -> Result<u64, UnitError> {
    let lower = text.to_ascii_lowercase();
    let prefixes = [("0x", 16), ("0b", 2), ("0o", 8), ("0_", 8), ("0", 8)];
    let (digits, radix, prefixed) = prefixes
        .into_iter()
        .find_map(|(prefix, radix)| Some((lower.strip_prefix(prefix)?, radix, true)))
        .filter(|(digits, ..)| !digits.is_empty())
        .unwrap_or((lower.as_str(), 10, false));
    // Each underscore stands between digits, or between the prefix and one.
    let digits = if (prefixed || !digits.starts_with('_')) && !digits.ends_with('_') && !digits.contains("__")
    {
        digits.replace('_', "")
    } else {
        digits.to_owned()
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(UnitError::Count);
    }
    u64::from_str_radix(&digits, radix).map_err(|_| UnitError::TooLarge)
}

/// A duration as Go writes it: `200ms`, `1.5s`, `1m30s`. Never negative.
///
/// # Errors
///
/// [`UnitError::Duration`], or [`UnitError::TooLarge`] beyond about 290 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut nanoseconds = 0.0;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(UnitError::Duration);
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or(UnitError::Duration)?;
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            _ => return Err(UnitError::Duration),
        };
        nanoseconds += number.parse::<f64>().map_err(|_| UnitError::Duration)? * scale;
        rest = tail;
    }
    if nanoseconds > 9.2e18 {
        return Err(UnitError::TooLarge);
    }
    Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| UnitError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("64Ki"), Ok(65_536));
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        for bad in ["", "Ki", "1k", "-1", "1.5Mi", "1 Mi", "1Kii"] {
            assert_eq!(parse_size(bad), Err(UnitError::Size), "{bad}");
        }
        assert_eq!(parse_size("99999999999Gi"), Err(UnitError::TooLarge));
        assert_eq!(parse_size("99999999999999999999"), Err(UnitError::TooLarge));
    }

    #[test]
    fn counts_are_plain_digits() {
        assert_eq!(parse_count("16384"), Ok(16_384));
        for bad in ["", "+1", "-1", "1e3", "x"] {
            assert_eq!(parse_count(bad), Err(UnitError::Count), "{bad}");
        }
        assert_eq!(parse_count("4294967296"), Err(UnitError::TooLarge));
    }

    #[test]
    fn sizes_are_floats_where_statsd_exporters_are() {
        assert_eq!(parse_size("1e6"), Ok(1_000_000));
        assert_eq!(parse_size("10.7"), Ok(10));
        assert_eq!(parse_size("1_000"), Ok(1000));
        assert_eq!(parse_size("inf"), Err(UnitError::Size));
    }

    #[test]
    fn signed_numbers_are_floats_cut_off() {
        for (text, number) in
            [("1000", 1000), ("1e3", 1000), ("1_000", 1000), ("10.7", 10), ("-10.7", -10), ("+5", 5)]
        {
            assert_eq!(parse_integer(text), Ok(number), "{text}");
        }
        for bad in ["", " 1", "x", "0x10", "nan", "_1", "1__0"] {
            assert_eq!(parse_integer(bad), Err(UnitError::Number), "{bad}");
        }
        assert_eq!(parse_integer("inf"), Err(UnitError::TooLarge));
        assert_eq!(parse_integer("1e300"), Err(UnitError::TooLarge));
    }

    #[test]
    fn unsigned_numbers_take_gos_prefixes() {
        for (text, number) in [
            ("0", 0),
            ("16", 16),
            ("0x10", 16),
            ("0X1f", 31),
            ("0b11", 3),
            ("0o17", 15),
            ("017", 15),
            ("0x_1_0", 16),
            ("1_000", 1000),
            ("0_17", 15),
        ] {
            assert_eq!(parse_unsigned(text), Ok(number), "{text}");
        }
        for bad in ["", "-1", "+1", "1e3", "1.5", "0x", "08", "1__0", "0x1__0", "0x1_", "_1"] {
            assert_eq!(parse_unsigned(bad), Err(UnitError::Count), "{bad}");
        }
        assert_eq!(parse_unsigned("18446744073709551616"), Err(UnitError::TooLarge));
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        for bad in ["", "1", "s", "-1s", "1x", "1..5s", "1s2"] {
            assert_eq!(parse_duration(bad), Err(UnitError::Duration), "{bad}");
        }
        assert_eq!(parse_duration("999999999999w"), Err(UnitError::TooLarge));
    }
}
