use super::*;

/// What a template makes of `a.b.c...`, matched by as many stars as it has segments.
#[track_caller]
fn check_glob(template: &str, segments: &[&str], expected: &str) {
    let name = segments.join(".");
    let mut captures = Captures::default();
    let mut at = 0;
    captures.push(Some((0, u32::try_from(name.len()).unwrap())));
    for segment in segments {
        let end = at + segment.len();
        captures.push(Some((u32::try_from(at).unwrap(), u32::try_from(end).unwrap())));
        at = end + 1;
    }
    let mut out = String::new();
    Template::for_glob(template, segments.len()).expand(&name, &captures, &mut out);
    assert_eq!(out, expected, "{template}");
}

#[track_caller]
fn check_regex(template: &str, expected: &str) {
    // (a)(?P<seg>b)(x)?(?P<_1>c) on "abc"
    let mut captures = Captures::default();
    for range in [Some((0, 3)), Some((0, 1)), Some((1, 2)), None, Some((2, 3))] {
        captures.push(range);
    }
    let names = [None, None, Some("seg".into()), None, Some("_1".into())];
    let mut out = String::new();
    Template::for_regex(template, &names).expand("abc", &captures, &mut out);
    assert_eq!(out, expected, "{template}");
}

#[test]
fn a_bare_reference_takes_the_longest_run() {
    check_glob("$1_foo", &["a"], "");
    check_glob("x$1y", &["a"], "x");
    check_glob("$1-$2", &["a", "b"], "a-b");
    check_glob("$1.$2", &["a", "b"], "a.b");
    check_glob("x $1", &["a"], "x a");
    check_glob("$1$2", &["a", "b"], "");
    check_glob("$1/$1", &["a"], "a/a");
}

#[test]
fn braces_end_a_reference() {
    check_glob("${1}_foo", &["a"], "a_foo");
    check_glob("${1}${2}", &["a", "b"], "ab");
    check_glob("${1", &["a"], "a");
    check_glob("$1}", &["a"], "a");
    check_glob("$1}}", &["a"], "a}");
    check_glob("$${1}", &["a"], "{1}");
}

#[test]
fn what_names_no_wildcard_stands_for_nothing() {
    for template in ["$9", "${name}", "$x", "$99999999999999999999", "$2"] {
        check_glob(template, &["a"], "");
    }
    check_glob("a$$b", &["x"], "a");
    check_glob("$01", &["a"], "a");
    check_glob("$01x", &["a"], "");
}

#[test]
fn number_zero_is_the_whole_name() {
    check_glob("$0", &["a", "b"], "a.b");
    check_glob("${0}_x", &["a", "b"], "a.b_x");
}

#[test]
fn a_dollar_without_a_run_stays() {
    check_glob("cost$", &["a"], "cost$");
    check_glob("$-", &["a"], "$-");
    check_glob("$-$1", &["b"], "$-b");
    check_glob("${}", &["b"], "${}");
    check_glob("", &["b"], "");
}

#[test]
fn a_reference_is_replaced_wherever_its_text_stands() {
    let ten = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10"];
    check_glob("$1-$10", &ten, "c1-c100");
    check_glob("$10-$1", &ten, "c10-c1");
    check_glob("${1}-${10}", &ten, "c1-c10");
    check_glob("$1-${10}", &ten, "c1-c10");
    check_glob("$x-$xy", &ten, "-y");
    // The peer prints the error of its formatter here.
    check_glob("$1-$1_x", &["a"], "a-");
}

#[test]
fn a_percent_sign_is_text() {
    check_glob("100%", &["b"], "100%");
    check_glob("100%_$1", &["b"], "100%_b");
    check_glob("%s$1%d", &["b"], "%sb%d");
}

#[test]
fn the_references_of_regular_expressions_are_those_of_go() {
    check_regex("$1-$seg-${4}", "a-b-c");
    check_regex("$1_x", "");
    check_regex("${1}_x", "a_x");
    check_regex("$0", "abc");
    check_regex("$$", "$");
    check_regex("$$1", "$1");
    check_regex("$3|$9|$nope|${nope}", "|||");
    check_regex("$_1", "c");
    check_regex("$01", "");
    check_regex("a$", "a$");
    check_regex("$-x ${ ${1 ${}", "$-x ${ ${1 ${}");
    check_regex("${1-}", "${1-}");
    check_regex("$é1", "");
    check_regex("100%$1", "100%a");
}
