//! Path of a request -> the path that is meant.

use std::borrow::Cow;

/// `path` with `%6d` and its like as the bytes that they stand for; as it is where that is no text.
pub(super) fn decoded(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = tail.split_at_checked(2).filter(|_| *first == b'%');
        match escaped.and_then(|(digits, after)| Some((byte(digits)?, after))) {
            Some((byte, after)) => {
                bytes.push(byte);
                rest = after;
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(path), Cow::Owned)
}

/// The byte that two hexadecimal digits spell.
fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

/// `path` without empty, `.` and `..` segments, where it has any; `None` where it has not.
///
/// `http://host:9102//metrics`, a base address and a path that were put together, is a common mistake.
/// Go's server, and so `statsd_exporter`, sends whoever asks for it to the right page.
pub(super) fn cleaned(path: &str) -> Option<String> {
    let segments = path.strip_prefix('/')?;
    // An empty last segment is a slash at the end, which stays.
    let (folders, last) = segments.rsplit_once('/').unwrap_or(("", segments));
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    let is_clean = !matches!(last, "." | "..") && (segments == last || !folders.split('/').any(odd));
    if is_clean {
        return None;
    }
    let mut kept = Vec::new();
    for segment in segments.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let end = if last.is_empty() && !kept.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        assert_eq!(decoded(path), expected, "{path}");
    }

    #[test]
    fn escaped_bytes_are_what_they_stand_for() {
        check("/metrics", "/metrics");
        check("/%6detrics", "/metrics");
        check("/m%C3%A4", "/mä");
        check("/a%2Fb%", "/a/b%");
    }

    #[test]
    fn what_escapes_no_text_stays() {
        for path in ["/%", "/%6", "/%zz", "/%ff", "/%+1"] {
            check(path, path);
        }
    }

    #[test]
    fn empty_segments_and_dots_are_cleaned_away() {
        for (path, expected) in [
            ("//metrics", "/metrics"),
            ("//", "/"),
            ("/./metrics", "/metrics"),
            ("/a/../metrics", "/metrics"),
            ("/../../metrics", "/metrics"),
            ("/metrics//", "/metrics/"),
            ("/metrics/..", "/"),
            ("/metrics/.", "/metrics"),
            ("//evil.example/x", "/evil.example/x"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_clean_path_is_left_alone() {
        for path in ["/", "/metrics", "/metrics/", "/-/healthy", "/a/.b/..c/d.", "", "*"] {
            assert_eq!(cleaned(path), None, "{path}");
        }
    }
}
