//! `Accept-Encoding` -> how the exposition is compressed.

use super::quality::{entries, quality};
use crate::exposition::compress::Coding;

/// The coding that the client prefers, of those that it names with a quality above 0; `*` names
/// none. Of two that it likes equally gzip is chosen, which every reader of expositions was tried
/// with, and then any rather than none.
pub(super) fn negotiate<'a>(headers: impl IntoIterator<Item = &'a str>) -> Coding {
    // Nobody has to name `identity` to get it.
    let mut best = (0.0, Coding::Identity);
    for entry in entries(headers) {
        let name = entry.split(';').next().unwrap_or_default().trim();
        let coding = match name.to_ascii_lowercase().as_str() {
            "gzip" => Coding::Gzip,
            #[cfg(feature = "zstd")]
            "zstd" => Coding::Zstd,
            "identity" => Coding::Identity,
            _ => continue,
        };
        let rank = |coding| match coding {
            Coding::Identity => 0,
            #[cfg(feature = "zstd")]
            Coding::Zstd => 1,
            Coding::Gzip => 2,
        };
        let quality = quality(entry);
        if quality > best.0 || quality == best.0 && quality > 0.0 && rank(coding) > rank(best.1) {
            best = (quality, coding);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[&str], expected: Coding) {
        assert_eq!(negotiate(headers.iter().copied()), expected, "{headers:?}");
    }

    #[test]
    fn gzip_must_be_named_and_not_refused() {
        check(&["gzip"], Coding::Gzip);
        check(&["deflate, GZIP;q=0.5"], Coding::Gzip);
        check(&["br", "br, gzip ; q = 1"], Coding::Gzip);
        check(&["gzip, deflate, br, zstd"], Coding::Gzip);
        check(&["identity, gzip"], Coding::Gzip);
        for header in ["gzip;q=0", "gzip;q=0.000", "gzip;q=x", "gzip;q=NaN", "*", "identity, x-gzip", ""] {
            check(&[header], Coding::Identity);
        }
        check(&[], Coding::Identity);
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_must_be_preferred() {
        check(&["zstd"], Coding::Zstd);
        check(&["identity", "zstd"], Coding::Zstd);
        check(&["gzip;q=0.9, zstd"], Coding::Zstd);
        check(&["zstd;q=0.5, gzip;q=0"], Coding::Zstd);
        check(&["zstd, gzip"], Coding::Gzip);
        check(&["zstd;q=0"], Coding::Identity);
    }

    #[test]
    fn identity_can_be_preferred() {
        check(&["identity, gzip;q=0.5, zstd;q=0.1"], Coding::Identity);
        check(&["identity;q=0.1, gzip;q=0.5"], Coding::Gzip);
    }
}
