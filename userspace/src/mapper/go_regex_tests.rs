use super::*;

/// What the expression matches first in `text`, and the groups.
#[track_caller]
fn check(pattern: &str, text: &str, expected: Option<&[&str]>) {
    let translated = translate(pattern).expect("Go takes it");
    let regex = regex_automata::meta::Regex::new(&translated.pattern)
        .unwrap_or_else(|error| panic!("{} from {pattern}: {error:?}", translated.pattern));
    let mut captures = regex.create_captures();
    regex.captures(text, &mut captures);
    let groups: Vec<_> = captures.iter().map(|span| span.map_or("-", |span| &text[span.range()])).collect();
    assert_eq!(captures.is_match().then_some(&*groups), expected, "{pattern} as {}", translated.pattern);
}

#[track_caller]
fn check_error(pattern: &str, expected: GoRegexError) {
    assert_eq!(translate(pattern), Err(expected), "{pattern}");
}

#[test]
fn perl_classes_and_word_boundaries_are_ascii() {
    check(r"\d+", "٣4", Some(&["4"]));
    check(r"\w+", "éa_1é", Some(&["a_1"]));
    check(r"\W", "aé", Some(&["é"]));
    check(r"\s", "a\u{a0}\x0b", None);
    check(r"\S+", " a\u{a0}", Some(&["a\u{a0}"]));
    check(r"\bb", "éb", Some(&["b"]));
    check(r"a\B.", "aé ab", Some(&["ab"]));
    check(r"\D\d[\d.]+[^\d\w]", "x1.2-", Some(&["x1.2-"]));
}

#[test]
fn leftmost_first_holds() {
    check("(a|ab)(c|bcd)(d*)", "abcd", Some(&["abcd", "a", "bcd", ""]));
    check("a+?", "aaa", Some(&["a"]));
    check("(?U)a+", "aaa", Some(&["a"]));
    check("(x)?(b)", "ab", Some(&["b", "-", "b"]));
}

#[test]
fn classes_are_those_of_go() {
    check("[a&&b]+", "c&ba", Some(&["&ba"]));
    check("[+--]+", "x+,-", Some(&["+,-"]));
    check("[]a]+", "]a", Some(&["]a"]));
    check("[^]a]", "]ab", Some(&["b"]));
    check("[a[b]", "[", Some(&["["]));
    check("[[:alpha:]-]+", "9ab-c", Some(&["ab-c"]));
    check("[[:^alpha:]]+", "ab9", Some(&["9"]));
    check("[[:alpha]", ":", Some(&[":"]));
    check("[a-]+", "-a", Some(&["-a"]));
    check("[~~#^]+", "a~#^", Some(&["~#^"]));
    check(r"[\-\]\\\x41\x{e9}\101]+", r"-]\AéA", Some(&[r"-]\AéA"]));
    check(r"[\pL\P{Lu}]+", "aB", Some(&["aB"]));
    check_error("[b-a]", GoRegexError::Class(0));
    check_error("[a--b]", GoRegexError::Class(0));
    check_error("x[a", GoRegexError::Class(1));
    check_error("[[:foo:]]", GoRegexError::Class(0));
    check_error(r"[a-\d]", GoRegexError::Escape(3));
}

#[test]
fn groups_and_names() {
    check(r"(?P<seg>a)(?<n9>b)", "ab", Some(&["ab", "a", "b"]));
    let names = translate("(?P<9>a)(b)(?:c)(?<x>d)").expect("Go takes it").group_names;
    assert_eq!(names, [None, Some("9".into()), None, Some("x".into())]);
    check("(?i)aB(?-i:c)", "AbC Abc", Some(&["Abc"]));
    check("(?i)(?)a", "A", Some(&["A"]));
    check("(?ii-s:a)", "A", Some(&["A"]));
    check("(?s).", "\n", Some(&["\n"]));
    check_error("(?<a>x)(?P<a>y)", GoRegexError::Name(7));
    check_error("(?P<a-b>x)", GoRegexError::Name(0));
    check_error("(?=a)", GoRegexError::Group(0));
    check_error("(?<=a)b>", GoRegexError::Group(0));
    check_error("(?x)a b", GoRegexError::Group(0));
    check_error("(?i-)a", GoRegexError::Group(0));
    check_error("(a", GoRegexError::Parenthesis(2));
    check_error("a)", GoRegexError::Parenthesis(1));
    check_error(&"(".repeat(300), GoRegexError::Depth);
}

#[test]
fn escapes() {
    check(r"\Qa.b*\E+", "a.b**", Some(&["a.b**"]));
    check(r"\Q(", "(", Some(&["("]));
    check(r"\_\-\/\ \@", "_-/ @", Some(&["_-/ @"]));
    check(r"\x41\x{1F600}\101\060\0", "A\u{1F600}A0\0", Some(&["A\u{1F600}A0\0"]));
    check(r"\Aa\z", "a", Some(&["a"]));
    check(r"^a$", "a\n", None);
    check(r"\p{Greek}\pN\p{^Greek}", "α1a", Some(&["α1a"]));
    check_error(r"(a)\1", GoRegexError::Escape(3));
    check_error(r"\8", GoRegexError::Escape(0));
    check_error(r"\q", GoRegexError::Escape(0));
    check_error(r"\C", GoRegexError::Escape(0));
    check_error(r"a\", GoRegexError::TrailingBackslash);
    check_error(r"\x4", GoRegexError::Escape(0));
    check_error(r"\x{110000}", GoRegexError::Escape(0));
    check_error(r"\é", GoRegexError::Escape(0));
}

#[test]
fn repetition() {
    check("a{2}", "aaa", Some(&["aa"]));
    check("a{1,2}?", "aaa", Some(&["a"]));
    check("a{2,}", "aaaa", Some(&["aaaa"]));
    check("a{,2}", "a{,2}", Some(&["a{,2}"]));
    check("a{", "a{", Some(&["a{"]));
    check("{a}", "{a}", Some(&["{a}"]));
    check("a{01}", "a{01}", Some(&["a{01}"]));
    check("(?:a*)*b", "aab", Some(&["aab"]));
    check("^*a|", "a", Some(&["a"]));
    check("(?:a{500}){2}", "", None);
    check_error("a**", GoRegexError::NestedRepetition(2));
    check_error("a*??", GoRegexError::NestedRepetition(3));
    check_error("a{2}{3}", GoRegexError::NestedRepetition(4));
    check_error("*a", GoRegexError::MissingArgument(0));
    check_error("(*a)", GoRegexError::MissingArgument(1));
    check_error("a|*", GoRegexError::MissingArgument(2));
    check_error("a{1001}", GoRegexError::RepeatCount(1));
    check_error("a{3,2}", GoRegexError::RepeatCount(1));
    check_error("(a{100}){11}", GoRegexError::RepeatCount(8));
    check_error("((ab{30}){30}c){2}", GoRegexError::RepeatCount(15));
}
