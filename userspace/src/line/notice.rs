//! Line -> DogStatsD event or service check: what clients send beside metrics.
//!
//! `_e{title_bytes,text_bytes}:title|text|fields`, `_sc|name|status|fields`. Prometheus has no place
//! for either. They are told by how they begin, whatever follows, so that none is read as a sample.

use super::LineError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Event,
    ServiceCheck,
}

/// What kind of notice `line` is; `None` if it is none.
pub(super) fn read(line: &str) -> Option<Result<Notice, LineError>> {
    if let Some(event) = line.strip_prefix("_e{") {
        let read = behind_event(event).filter(|rest| begins_fields(rest));
        return Some(read.map(|_| Notice::Event).ok_or(LineError::MalformedEvent));
    }
    let check = line.strip_prefix("_sc|")?;
    let read = behind_check(check).filter(|rest| begins_fields(rest));
    Some(read.map(|_| Notice::ServiceCheck).ok_or(LineError::MalformedServiceCheck))
}

/// What follows the text of an event that begins behind its `{`. A `\n` in a text is escaped by the
/// client, so an event is one line.
fn behind_event(event: &str) -> Option<&str> {
    let (lengths, rest) = event.split_once("}:")?;
    let (title, text) = lengths.split_once(',')?;
    let rest = rest.get(length(title)?..)?.strip_prefix('|')?;
    rest.get(length(text)?..)
}

/// What follows the status of a service check that begins with its name.
fn behind_check(check: &str) -> Option<&str> {
    let (name, rest) = check.split_once('|')?;
    // OK, warning, critical, unknown.
    rest.strip_prefix(['0', '1', '2', '3']).filter(|_| !name.is_empty())
}

fn length(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn begins_fields(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('|')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<Result<Notice, LineError>>) {
        assert_eq!(read(line), expected, "{line}");
    }

    #[test]
    fn an_event_has_a_title_and_a_text_of_the_lengths_it_says() {
        for line in [
            "_e{5,4}:title|text",
            "_e{5,4}:title|text|d:1|h:host|#a:b|c:x",
            "_e{1,0}:t|",
            "_e{3,3}:a|b|c:d",
            "_e{2,5}:é|a\\nb\\",
        ] {
            check(line, Some(Ok(Notice::Event)));
        }
    }

    #[test]
    fn an_event_of_other_lengths_is_malformed() {
        for line in [
            "_e{",
            "_e{5,4}",
            "_e{5,4}:title",
            "_e{5,5}:title|text",
            "_e{5,3}:title|text",
            "_e{4,4}:title|text",
            "_e{1,1}:é|t",
            "_e{5}:title|text",
            "_e{+5,4}:title|text",
            "_e{99999999999999999999,4}:title|text",
            "_e{a,b}:1|c",
        ] {
            check(line, Some(Err(LineError::MalformedEvent)));
        }
    }

    #[test]
    fn a_service_check_has_a_name_and_a_status() {
        check("_sc|redis up|0", Some(Ok(Notice::ServiceCheck)));
        check("_sc|redis|2|d:1|h:host|#a:b|m:a message: b", Some(Ok(Notice::ServiceCheck)));
        for line in ["_sc|", "_sc|x", "_sc||0", "_sc|x|4", "_sc|x|00", "_sc|x|", "_sc|a:1|c"] {
            check(line, Some(Err(LineError::MalformedServiceCheck)));
        }
    }

    #[test]
    fn a_metric_is_no_notice() {
        for line in ["_e:1|c", "_ev{:1|c", "_sc:1|c", "_scx|0", "e{1,1}:a|b", ""] {
            check(line, None);
        }
    }
}
