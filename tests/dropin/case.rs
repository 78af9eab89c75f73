//! Text of a case file -> [`Case`]s.
//!
//! A case begins with `case` and a sentence, and goes on with one word and its rest per line. First
//! what the daemon is started with:
//!
//! | word | rest |
//! | --- | --- |
//! | `flag` | a flag; it replaces the default one of its name |
//! | `bare` | no default flags for the listeners |
//! | `unheard` | standard error is a pipe that nobody reads |
//! | `mapping` | the lines that follow, indented by two blanks, are the mapping file |
//! | `pending` | why the case cannot hold yet; it runs, but may fail |
//!
//! Then what is done, in order:
//!
//! | word | rest |
//! | --- | --- |
//! | `udp`, `unixgram` | one datagram; `udp*9` sends it nine times |
//! | `tcp`, `unix` | one connection, which is closed afterwards |
//! | `want`, `like` | a line of the exposition: this one, or one of this form, `*` for anything |
//! | `none`, `unlike` | no series of this name and no line like this; no line of this form |
//! | `block` | the lines that follow, indented, stand in the exposition together in this order |
//! | `with` | a header for the request that follows |
//! | `get`, `post`, `put`, `head` | a path |
//! | `status`, `header`, `noheader`, `body`, `has`, `hasnt` | what the answer must be; the status is 200 if not given |
//! | `relayed` | the next datagram at the relay's target |
//! | `remap` | as `mapping`, while the daemon runs |
//! | `signal` | `HUP`, `TERM`, `INT`, `USR1`, `USR2` |
//! | `exits` | the daemon ends by itself with this code; as first step, also before it is ready |
//! | `stderr`, `stdout` | what it has written holds this |
//! | `silent` | it has written nothing on standard error |
//! | `sleep` | milliseconds |
//!
//! Wants and nones that follow each other are about one exposition; it is asked for again until it is
//! as wanted. In what is sent, `\n`, `\r`, `\t`, `\0`, `\\` and `\xff` stand for bytes and `{a*99}` for
//! 99 times `a`. `{ip}`, `{dir}` and `{relay}` stand for the daemon's address, a directory of the
//! case's own and the address of the relay's target; `{unix}` for `{dir}/socket`.

/// One case, as written.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    /// `file: sentence`.
    pub(super) name: String,
    pub(super) flags: Vec<String>,
    pub(super) bare: bool,
    pub(super) unheard: bool,
    pub(super) mapping: Option<String>,
    pub(super) pending: Option<String>,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Send { transport: Transport, times: usize, payload: String },
    Scrape(Vec<Expectation>),
    Request(Request),
    Relayed(String),
    Remap(String),
    Signal(String),
    Exits(i32),
    Output { stream: Stream, holds: String },
    Silent,
    Sleep(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Unixgram,
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// What an exposition must be like.
#[derive(Clone, Debug)]
pub(super) enum Expectation {
    Want(String),
    Like(String),
    None(String),
    Unlike(String),
    Block(Vec<String>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// `Name: value`.
    pub(super) with: Vec<String>,
    pub(super) answer: Vec<Answer>,
}

/// What the answer to a request must be like.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Status(u16),
    /// Name and form of the value.
    Header(String, String),
    NoHeader(String),
    Body(String),
    Has(String),
    Hasnt(String),
}

/// The cases of a file. Panics with the line where it is not as described above.
pub(super) fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut reader = Reader { cases: Vec::new(), with: Vec::new() };
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut block = String::new();
        while let Some((_, next)) = lines.next_if(|(_, next)| next.starts_with("  ")) {
            block.push_str(&next[2..]);
            block.push('\n');
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let read = reader.read(file, word, rest, block);
        assert!(read.is_some(), "{file}.case:{}: cannot read {line:?}", at + 1);
    }
    reader.cases
}

struct Reader {
    cases: Vec<Case>,
    /// Headers for the next request.
    with: Vec<String>,
}

impl Reader {
    fn read(&mut self, file: &str, word: &str, rest: &str, block: String) -> Option<()> {
        if word == "case" {
            self.cases.push(Case { name: format!("{file}: {rest}"), ..Case::default() });
            return Some(());
        }
        let case = self.cases.last_mut()?;
        let rest_text = rest.to_owned();
        if let Some((transport, times)) = transport(word) {
            case.steps.push(Step::Send { transport, times, payload: rest_text });
            return Some(());
        }
        let lines = || block.lines().map(str::to_owned).collect();
        match word {
            "flag" => case.flags.push(rest_text),
            "bare" => case.bare = true,
            "unheard" => case.unheard = true,
            "mapping" => case.mapping = Some(block),
            "pending" => case.pending = Some(rest_text),
            "want" => case.expect(Expectation::Want(rest_text)),
            "like" => case.expect(Expectation::Like(rest_text)),
            "none" => case.expect(Expectation::None(rest_text)),
            "unlike" => case.expect(Expectation::Unlike(rest_text)),
            "block" => case.expect(Expectation::Block(lines())),
            "with" => self.with.push(rest_text),
            "get" | "post" | "put" | "head" => case.steps.push(Step::Request(Request {
                method: word.to_ascii_uppercase(),
                path: rest_text,
                with: std::mem::take(&mut self.with),
                answer: Vec::new(),
            })),
            "status" => case.answer(Answer::Status(rest.parse().ok()?))?,
            "header" => {
                let (name, value) = rest.split_once(": ")?;
                case.answer(Answer::Header(name.to_owned(), value.to_owned()))?;
            }
            "noheader" => case.answer(Answer::NoHeader(rest_text))?,
            "body" => case.answer(Answer::Body(rest_text))?,
            "has" => case.answer(Answer::Has(rest_text))?,
            "hasnt" => case.answer(Answer::Hasnt(rest_text))?,
            "relayed" => case.steps.push(Step::Relayed(rest_text)),
            "remap" => case.steps.push(Step::Remap(block)),
            "signal" => case.steps.push(Step::Signal(rest_text)),
            "exits" => case.steps.push(Step::Exits(rest.parse().ok()?)),
            "stderr" => case.steps.push(Step::Output { stream: Stream::Stderr, holds: rest_text }),
            "stdout" => case.steps.push(Step::Output { stream: Stream::Stdout, holds: rest_text }),
            "silent" => case.steps.push(Step::Silent),
            "sleep" => case.steps.push(Step::Sleep(rest.parse().ok()?)),
            _ => return None,
        }
        Some(())
    }
}

impl Case {
    /// Whether a datagram over UDP has a part in it.
    pub(super) fn sends_udp(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Send { transport: Transport::Udp, .. }))
    }

    fn expect(&mut self, expectation: Expectation) {
        match self.steps.last_mut() {
            Some(Step::Scrape(expectations)) => expectations.push(expectation),
            _ => self.steps.push(Step::Scrape(vec![expectation])),
        }
    }

    fn answer(&mut self, answer: Answer) -> Option<()> {
        match self.steps.last_mut() {
            Some(Step::Request(request)) => request.answer.push(answer),
            _ => return None,
        }
        Some(())
    }
}

fn transport(word: &str) -> Option<(Transport, usize)> {
    let (name, times) = match word.split_once('*') {
        Some((name, times)) => (name, times.parse().ok()?),
        None => (word, 1),
    };
    let transport = match name {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        "unixgram" => Transport::Unixgram,
        "unix" => Transport::Unix,
        _ => return None,
    };
    Some((transport, times))
}

/// The bytes that the text of a payload stands for.
pub(super) fn payload(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        rest = match (character, repeat(rest), escape(after)) {
            ('{', Some((bytes, after)), _) | ('\\', _, Some((bytes, after))) => {
                out.extend(bytes);
                after
            }
            ('\\', _, None) => panic!("no such escape: {rest:?}"),
            _ => {
                out.extend(character.encode_utf8(&mut [0; 4]).bytes());
                after
            }
        };
    }
    out
}

/// What an escape stands for, behind its `\`, and what follows it.
fn escape(after: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(hex) = after.strip_prefix('x') {
        let (digits, after) = hex.split_at_checked(2)?;
        return Some((vec![u8::from_str_radix(digits, 16).ok()?], after));
    }
    let (letter, after) = after.split_at_checked(1)?;
    let byte = match letter {
        "n" => b'\n',
        "r" => b'\r',
        "t" => b'\t',
        "0" => b'\0',
        "\\" => b'\\',
        _ => return None,
    };
    Some((vec![byte], after))
}

/// `{text*times}` and what follows it.
fn repeat(text: &str) -> Option<(Vec<u8>, &str)> {
    let (inside, after) = text.strip_prefix('{')?.split_once('}')?;
    let (what, times) = inside.rsplit_once('*')?;
    Some((payload(what).repeat(times.parse().ok()?), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_flags_a_mapping_and_steps() {
        let cases = parse(
            "f",
            "# a comment\n\ncase one\nflag --x=y\nmapping\n  mappings:\n  - a\nudp*2 a:1|c\nwant a 1\nnone b\nwith A: b\nget /\nhas x\n\
             case two\nexits 1\nstderr no\n",
        );
        assert_eq!(cases.len(), 2);
        assert_eq!(
            (cases[0].name.as_str(), cases[0].flags.as_slice()),
            ("f: one", &["--x=y".to_owned()][..])
        );
        assert_eq!(cases[0].mapping.as_deref(), Some("mappings:\n- a\n"));
        assert!(matches!(&cases[0].steps[0], Step::Send { transport: Transport::Udp, times: 2, .. }));
        assert!(matches!(&cases[0].steps[1], Step::Scrape(two) if two.len() == 2));
        assert!(
            matches!(&cases[0].steps[2], Step::Request(get) if get.with == ["A: b"] && get.answer.len() == 1)
        );
        assert!(matches!(cases[1].steps[..], [Step::Exits(1), Step::Output { .. }]));
    }

    #[test]
    #[should_panic(expected = "f.case:2: cannot read \"wnat a 1\"")]
    fn what_is_no_word_is_found() {
        parse("f", "case one\nwnat a 1\n");
    }

    #[test]
    fn payloads_hold_any_bytes() {
        assert_eq!(
            payload("a\\n\\r\\0\\\\\\xff{b*3}{é\\n*2}{ip}"),
            b"a\n\r\0\\\xffbbb\xc3\xa9\n\xc3\xa9\n{ip}"
        );
    }

    #[test]
    fn each_name_is_there_once() {
        let mut names: Vec<String> = super::super::cases().into_iter().map(|case| case.name).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a name is there twice");
    }
}
