//! Header of preferences -> entries with their quality.

/// The entries of all `headers` of one name.
pub(super) fn entries<'a>(headers: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    headers.into_iter().flat_map(|header| header.split(',')).map(str::trim).filter(|entry| !entry.is_empty())
}

/// The value of an entry's parameter `q`; 1 without it, 0 where it is no number.
pub(super) fn quality(entry: &str) -> f64 {
    for parameter in entry.split(';').skip(1) {
        if let Some((name, value)) = parameter.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            let quality: f64 = value.trim().parse().unwrap_or(0.0);
            return if quality.is_nan() { 0.0 } else { quality };
        }
    }
    1.0
}
