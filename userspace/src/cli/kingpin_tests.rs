//! Command lines -> what they ask for, or the message.

use std::io::Write as _;

use clap::Arg;

use super::*;

fn table() -> Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("test").args([
        Arg::new("a.value").long("a.value").action(ArgAction::Set),
        Arg::new("b.value").long("b.value").action(ArgAction::Set),
        Arg::new("many").long("many").action(ArgAction::Append),
        switch("off"),
        switch("on"),
        switch("no-on"),
    ])
}

fn ask(arguments: &[&str]) -> Result<Request, String> {
    read(&table(), arguments.iter().map(OsString::from)).map_err(|error| error.to_string())
}

#[track_caller]
fn check(arguments: &[&str], expected: &[&str]) {
    let expected = expected.iter().map(|argument| (*argument).to_owned()).collect();
    assert_eq!(ask(arguments), Ok(Request::Run(expected)), "{arguments:?}");
}

#[track_caller]
fn check_refused(arguments: &[&str], expected: &str) {
    let error = ask(arguments).expect_err("it does not do");
    assert!(error.starts_with(expected), "{arguments:?}: {error}");
}

#[test]
fn values_stand_behind_an_equals_sign_or_a_space() {
    check(&[], &[]);
    check(&["--a.value=1", "--b.value", "2"], &["--a.value=1", "--b.value=2"]);
    check(&["--a.value="], &["--a.value="]);
    check(&["--a.value", ""], &["--a.value="]);
    check(&["--a.value=x=y"], &["--a.value=x=y"]);
    check(&["--a.value=-1"], &["--a.value=-1"]);
    check(&["--a.value=--b.value"], &["--a.value=--b.value"]);
    check_refused(&["--a.value"], "expected argument for flag '--a.value'");
    check_refused(&["--a.value", "--b.value=1"], "expected argument for flag '--a.value'");
    check_refused(&["--a.value", "-1"], "expected argument for flag '--a.value'");
}

#[test]
fn switches_take_no_value_and_can_be_negated() {
    check(&["--on"], &["--on"]);
    check(&["--no-on"], &["--no-on"]);
    check(&["--off"], &["--off"]);
    // The table has no --no-off: off is what it is by default.
    check(&["--no-off"], &[]);
    check_refused(&["--on=true"], "unexpected true");
    check_refused(&["--no-on=true"], "unexpected true");
    check_refused(&["--on", "true"], "unexpected true");
    check_refused(&["--no-a.value=1"], "unknown long flag '--no-a.value'");
}

#[test]
fn a_flag_stands_once_unless_it_may_be_repeated() {
    check(&["--many=1", "--many", "2"], &["--many=1", "--many=2"]);
    check_refused(&["--a.value=1", "--a.value=1"], "flag 'a.value' cannot be repeated");
    check_refused(&["--on", "--no-on"], "flag 'on' cannot be repeated");
    check_refused(&["--off", "--off"], "flag 'off' cannot be repeated");
}

#[test]
fn what_is_unknown_is_named() {
    check_refused(&["--nope"], "unknown long flag '--nope', try --help");
    check_refused(&["--a.val=1"], "unknown long flag '--a.val' (did you mean --a.value?)");
    check_refused(&["--c.value=1"], "unknown long flag '--c.value' (did you mean --a.value?)");
    check_refused(&["-x"], "unknown short flag '-x'");
    check_refused(&["-"], "unknown short flag '-'");
    check_refused(&["-a.value=1"], "unknown short flag '-a'");
    check_refused(&["word"], "unexpected word, try --help");
    check_refused(&[""], "unexpected ");
    check(&["--on", "--"], &["--on"]);
    check_refused(&["--", "--on"], "unexpected --on");
}

#[test]
fn pages_are_asked_for() {
    for (argument, page) in [
        ("-h", Page::Help),
        ("--help", Page::Help),
        ("--help-long", Page::Help),
        ("--help-man", Page::Man),
        ("--version", Page::Version),
        ("--completion-script-bash", Page::CompletionBash),
        ("--completion-script-zsh", Page::CompletionZsh),
    ] {
        assert_eq!(ask(&["--on", argument]), Ok(Request::Print(page)), "{argument}");
    }
    check_refused(&["--nope", "--help"], "unknown long flag '--nope'");
    check_refused(&["--help", "--nope"], "unknown long flag '--nope'");
    assert_eq!(ask(&["--help", "--a.value=1", "word"]), Ok(Request::Print(Page::Help)));
    assert_eq!(ask(&["--help", "--version", "--nope"]), Ok(Request::Print(Page::Version)));
}

#[test]
fn files_behind_an_at_sign_hold_one_argument_a_line() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "# flags\n--b.value\n@b c\n\n--many=x y\n").unwrap();
    let at = format!("@{}", file.path().display());
    check_refused(&[&at], "reading arguments from b c");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "--b.value\nb c\n--many=x y").unwrap();
    let at = format!("@{}", file.path().display());
    check(&["--on", &at, "--many=z"], &["--on", "--b.value=b c", "--many=x y", "--many=z"]);
    // Behind an equals sign it is a value like any other.
    check(&[&format!("--a.value={at}")], &[&format!("--a.value={at}")]);
    check_refused(&["@/no/such/file"], "reading arguments from /no/such/file");
}

#[test]
fn a_file_that_names_itself_ends() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let at = format!("@{}", file.path().display());
    writeln!(file, "{at}").unwrap();
    check_refused(&[&at], "more than 10000 arguments");
}

#[test]
fn one_string_of_flags_is_taken_apart() {
    let expected = &["--a.value=/x", "--b.value=y"];
    check(&["--a.value=/x --b.value=y"], expected);
    check(&["--a.value /x --b.value y"], expected);
    check(&["/bin/statsd_exporter --a.value=/x   --b.value=y\n"], expected);
    check(&["/bin/statsd_exporter", "--a.value=/x", "--b.value=y"], expected);
    check(&["statsd_exporter"], &[]);
    check(&["--a.value='/my file' --b.value=\"\" --on"], &["--a.value=/my file", "--b.value=", "--on"]);
    check(&["--a.value /x"], &["--a.value=/x"]);
    // A value may hold spaces.
    check(&["--a.value=/my file"], &["--a.value=/my file"]);
    check(&["--a.value=/my -- file"], &["--a.value=/my -- file"]);
    check(&["--a.value=/my --b.value=file", "--on"], &["--a.value=/my --b.value=file", "--on"]);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let argument = OsString::from_vec(b"--a.value=\xff".to_vec());
    assert!(matches!(read(&table(), [argument]), Err(UsageError::NotUtf8(_))));
}
