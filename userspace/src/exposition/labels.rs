//! Labels encoded for the text format -> names and values.

use std::borrow::Cow;

/// Reads back `name="value",name="value"`, as our own families carry it. What does not look like
/// that ends the list.
pub(super) fn encoded_labels(encoded: &str) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let (name, behind) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = behind.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let (value, behind) = behind.split_at_checked(end)?;
        let behind = behind.get(1..)?;
        rest = behind.strip_prefix(',').unwrap_or(behind);
        Some((name, unescape(value)))
    })
}

fn unescape(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        plain.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(other) => other,
                None => c,
            },
            _ => c,
        });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(encoded: &str, expected: &[(&str, &str)]) {
        let labels: Vec<(&str, Cow<'_, str>)> = encoded_labels(encoded).collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn labels_read_back() {
        check("", &[]);
        check("a=\"b\"", &[("a", "b")]);
        check("a=\"\",b=\"x,y=\"", &[("a", ""), ("b", "x,y=")]);
        check(r#"a="\\",b="\"\n\\n""#, &[("a", "\\"), ("b", "\"\n\\n")]);
    }

    #[test]
    fn what_is_cut_off_ends_the_list() {
        check("a=\"b\",c=\"d", &[("a", "b")]);
        check("a", &[]);
    }
}
