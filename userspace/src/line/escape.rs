//! Text off the wire -> a name as Prometheus takes it.

/// Appends `name` to `out` with everything replaced that is not a letter, a digit or `_`.
///
/// One `_` stands for each other character, however many bytes it has; a `-` directly after a `-`
/// is dropped; a digit at the beginning gets a `_` before it. Other runs are kept, and case too, so
/// different names may become one. An empty name stays empty.
pub fn escape_name(name: &str, out: &mut String) {
    // As the names that mapping rules give, all of them.
    if is_escaped(name) {
        return out.push_str(name);
    }
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        out.push('_');
    }
    let mut before = '\0';
    for character in name.chars() {
        if is_plain(character) {
            out.push(character);
        } else if character != '-' || before != '-' {
            out.push('_');
        }
        before = character;
    }
}

/// Whether [`escape_name`] would change nothing.
#[must_use]
pub fn is_escaped(name: &str) -> bool {
    let bytes = name.as_bytes();
    !bytes.first().is_some_and(u8::is_ascii_digit)
        && bytes.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(name: &str, expected: &str) {
        let mut out = String::new();
        escape_name(name, &mut out);
        assert_eq!(out, expected);
        assert_eq!(is_escaped(name), name == expected, "{name}");
    }

    #[test]
    fn a_plain_name_stays() {
        check("Airflow_ti_9", "Airflow_ti_9");
        check("", "");
    }

    #[test]
    fn other_characters_become_one_underscore_each() {
        check("a.b c:d", "a_b_c_d");
        check("ü.日本", "____");
        check("a..b.*.c", "a__b___c");
        check("fo\0o", "fo_o");
    }

    #[test]
    fn a_digit_in_front_gets_an_underscore() {
        check("1a--2b.3c", "_1a_2b_3c");
    }

    #[test]
    fn runs_of_dashes_become_one() {
        check("a--b", "a_b");
        check("a---b", "a_b");
        check("a-.-b", "a___b");
        check("--", "_");
    }

    proptest! {
        #[test]
        fn what_comes_out_stays(name in any::<String>()) {
            let mut once = String::new();
            escape_name(&name, &mut once);
            prop_assert!(is_escaped(&once));
            let mut twice = String::new();
            escape_name(&once, &mut twice);
            prop_assert_eq!(once, twice);
        }
    }
}
