//! `Accept-Encoding` -> whether the exposition goes out compressed.

/// Whether the client takes gzip: named, with a quality above 0. `*` does not name it.
pub(super) fn accepts_gzip<'a>(headers: impl IntoIterator<Item = &'a str>) -> bool {
    headers.into_iter().flat_map(|header| header.split(',')).any(|entry| {
        let mut parts = entry.split(';');
        let named = parts.next().is_some_and(|coding| coding.trim().eq_ignore_ascii_case("gzip"));
        named && quality(parts) > 0.0
    })
}

/// The value of the parameter `q`; 1 without it, 0 where it is no number.
fn quality<'a>(parameters: impl Iterator<Item = &'a str>) -> f64 {
    for parameter in parameters {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            return value.trim().parse().unwrap_or(0.0);
        }
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[&str], expected: bool) {
        assert_eq!(accepts_gzip(headers.iter().copied()), expected, "{headers:?}");
    }

    #[test]
    fn gzip_must_be_named_and_not_refused() {
        check(&["gzip"], true);
        check(&["deflate, GZIP;q=0.5"], true);
        check(&["zstd", "br, gzip ; q = 1"], true);
        check(&["gzip;q=0"], false);
        check(&["gzip;q=0.000"], false);
        check(&["gzip;q=x"], false);
        check(&["gzip;q=NaN"], false);
        check(&["*"], false);
        check(&["identity, x-gzip"], false);
        check(&[""], false);
        check(&[], false);
    }
}
