//! Exposition, expectation -> what is wrong.

use super::case::Expectation;

/// Why `text` is not as expected; `None` if it is.
pub(super) fn problem(text: &str, expectation: &Expectation) -> Option<String> {
    // Only `\n` ends a line; a label value may hold a `\r`.
    let lines: Vec<&str> = text.split('\n').collect();
    match expectation {
        Expectation::Want(wanted) => {
            let found = lines.contains(&wanted.as_str());
            (!found).then(|| format!("lacks {wanted}{}", near(&lines, wanted)))
        }
        Expectation::Like(form) => {
            let found = lines.iter().any(|line| is_like(line, form));
            (!found).then(|| format!("has nothing like {form}{}", near(&lines, form)))
        }
        Expectation::None(name) => {
            let is_of = |line: &&&str| {
                line.strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '{']))
            };
            lines.iter().find(is_of).map(|line| format!("has {line}"))
        }
        Expectation::Unlike(form) => {
            lines.iter().find(|line| is_like(line, form)).map(|line| format!("has {line}"))
        }
        Expectation::Block(block) => {
            let found = lines.windows(block.len()).any(|window| window.iter().eq(block));
            let first = block.first().map_or("", String::as_str);
            (!found).then(|| format!("lacks the lines from {first:?} together{}", near(&lines, first)))
        }
    }
}

/// Lines of the same name, for whoever reads the failure.
fn near(lines: &[&str], wanted: &str) -> String {
    let name = wanted.trim_start_matches("# TYPE ").trim_start_matches("# HELP ");
    let name = name.split(['{', ' ', '*']).next().unwrap_or_default();
    let of_name = |line: &&str| {
        let line = line.trim_start_matches("# TYPE ").trim_start_matches("# HELP ");
        !name.is_empty() && line.starts_with(name)
    };
    let alike: Vec<&str> = lines.iter().copied().filter(of_name).take(12).collect();
    if alike.is_empty() {
        String::new()
    } else {
        format!("\n      there is: {}", alike.join("\n                "))
    }
}

/// Whether `text` has this form; `*` stands for anything.
pub(super) fn is_like(text: &str, form: &str) -> bool {
    let mut parts = form.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (text, form) in
            [("abc", "abc"), ("abc", "a*"), ("abc", "*c"), ("abc", "*"), ("abcabc", "a*b*c"), ("", "*")]
        {
            assert!(is_like(text, form), "{text} {form}");
        }
        for (text, form) in [("abc", "ab"), ("abc", "b*"), ("abc", "*b"), ("ab", "ab*b"), ("", "a")] {
            assert!(!is_like(text, form), "{text} {form}");
        }
    }

    #[track_caller]
    fn check(expectation: Expectation, holds: bool) {
        let text = "# TYPE a counter\na{k=\"v\"} 1\na_b 2\n";
        assert_eq!(problem(text, &expectation).is_none(), holds, "{expectation:?}");
    }

    #[test]
    fn each_expectation_can_fail() {
        let text = str::to_owned;
        check(Expectation::Want(text("a_b 2")), true);
        check(Expectation::Want(text("a_b 1")), false);
        check(Expectation::Like(text("a{*} 1")), true);
        check(Expectation::Like(text("b*")), false);
        check(Expectation::None(text("b")), true);
        check(Expectation::None(text("a")), false);
        check(Expectation::None(text("a_b 2")), false);
        check(Expectation::Unlike(text("a_c*")), true);
        check(Expectation::Unlike(text("*counter")), false);
        check(Expectation::Block(vec![text("a{k=\"v\"} 1"), text("a_b 2")]), true);
        check(Expectation::Block(vec![text("a_b 2"), text("a{k=\"v\"} 1")]), false);
    }
}
