//! Labels in any order -> the key by which a series is found, ordered and printed.
//!
//! A key is the number of labels (two bytes, big endian), then the values in the order of the
//! label names, with a NUL between them. Names are not in it: they belong to the vector. NUL is
//! refused in values, so comparing keys byte by byte gives the order of the exposition: fewer
//! labels first, then values pairwise.

use smallvec::SmallVec;

use super::family::FamilyKind;
use super::refusal::Refusal;

/// Between the values of a key, and between the names of a vector.
pub(crate) const SEPARATOR: u8 = 0;

/// The labels of one request, sorted and joined; its space is reused.
#[derive(Debug, Default)]
pub(super) struct JoinedLabels {
    /// Joined by [`SEPARATOR`].
    pub(super) names: String,
    pub(super) key: Vec<u8>,
}

impl JoinedLabels {
    pub(super) fn join(&mut self, kind: FamilyKind, labels: &[(&str, &str)]) -> Result<(), Refusal> {
        let count = u16::try_from(labels.len()).map_err(|_| Refusal::TooManyLabels)?;
        let mut sorted: SmallVec<[(&str, &str); 16]> = SmallVec::from_slice(labels);
        sorted.sort_unstable_by_key(|label| label.0);
        self.names.clear();
        self.key.clear();
        self.key.extend_from_slice(&count.to_be_bytes());
        let mut before = None;
        for (name, value) in sorted {
            check_name(kind, name)?;
            if memchr::memchr(SEPARATOR, value.as_bytes()).is_some() {
                return Err(Refusal::InvalidLabelValue);
            }
            if before.is_some() {
                self.names.push(char::from(SEPARATOR));
                self.key.push(SEPARATOR);
            }
            if before == Some(name) {
                return Err(Refusal::DuplicateLabelName);
            }
            self.names.push_str(name);
            self.key.extend_from_slice(value.as_bytes());
            before = Some(name);
        }
        Ok(())
    }

    /// The key of the series whose labels have these names (joined) and all the value `value`.
    pub(super) fn repeat(&mut self, names: &str, value: &str) {
        self.names.clear();
        self.names.push_str(names);
        let values =
            if names.is_empty() { 0 } else { memchr::memchr_iter(SEPARATOR, names.as_bytes()).count() + 1 };
        self.key.clear();
        // A vector's names came through `join`, so there are not more.
        self.key.extend_from_slice(&u16::try_from(values).unwrap_or(u16::MAX).to_be_bytes());
        for at in 0..values {
            if at > 0 {
                self.key.push(SEPARATOR);
            }
            self.key.extend_from_slice(value.as_bytes());
        }
    }
}

fn check_name(kind: FamilyKind, name: &str) -> Result<(), Refusal> {
    if !is_label_name(name) {
        return Err(Refusal::InvalidLabelName);
    }
    let reserved = match kind {
        FamilyKind::Histogram => name == "le",
        FamilyKind::Summary => name == "quantile",
        FamilyKind::Counter | FamilyKind::Gauge => false,
    };
    if reserved || name.starts_with("__") { Err(Refusal::ReservedLabelName) } else { Ok(()) }
}

fn is_label_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// Whether `name` may stand in front of a sample in the text format.
pub(super) fn is_metric_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
        && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// The labels of one series, sorted by name.
#[derive(Clone, Copy, Debug)]
pub struct LabelsView<'a> {
    pub(super) names: &'a str,
    pub(super) key: &'a [u8],
}

impl<'a> LabelsView<'a> {
    /// Names with values; both are valid UTF-8, the values as they came.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (count, mut values) = self.key.split_at_checked(2).unwrap_or_default();
        // An empty list of names would split into one empty name, so the count is the key's.
        let count = count.iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
        let mut names = self.names.as_bytes();
        (0..count).map(move |_| (next_part(&mut names), next_part(&mut values)))
    }

    /// All values with separators between them, to look for a byte in all of them at once.
    #[must_use]
    pub fn joined_values(self) -> &'a [u8] {
        self.key.get(2..).unwrap_or_default()
    }
}

/// Cuts the first part off `joined`.
#[inline]
fn next_part<'a>(joined: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr::memchr(SEPARATOR, joined).unwrap_or(joined.len());
    let (part, rest) = joined.split_at_checked(end).unwrap_or_default();
    *joined = rest.get(1..).unwrap_or_default();
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: FamilyKind, labels: &[(&str, &str)], expected: Result<&[(&str, &str)], Refusal>) {
        let mut joined = JoinedLabels::default();
        let outcome = joined.join(kind, labels);
        let view = LabelsView { names: &joined.names, key: &joined.key };
        let text = |bytes| str::from_utf8(bytes).unwrap();
        let split: Vec<_> = view.iter().map(|(name, value)| (text(name), text(value))).collect();
        assert_eq!(outcome.map(|()| split.as_slice()), expected);
    }

    #[test]
    fn labels_come_back_sorted_by_name() {
        check(FamilyKind::Gauge, &[], Ok(&[]));
        check(FamilyKind::Gauge, &[("b", "1"), ("a", "")], Ok(&[("a", ""), ("b", "1")]));
        check(FamilyKind::Gauge, &[("a", "")], Ok(&[("a", "")]));
    }

    #[test]
    fn what_no_parser_would_read_is_refused() {
        check(FamilyKind::Histogram, &[("le", "1")], Err(Refusal::ReservedLabelName));
        check(FamilyKind::Summary, &[("quantile", "1")], Err(Refusal::ReservedLabelName));
        check(FamilyKind::Summary, &[("le", "1")], Ok(&[("le", "1")]));
        check(FamilyKind::Counter, &[("__name__", "x")], Err(Refusal::ReservedLabelName));
        check(FamilyKind::Counter, &[("", "x")], Err(Refusal::InvalidLabelName));
        check(FamilyKind::Counter, &[("a,b", "x")], Err(Refusal::InvalidLabelName));
        check(FamilyKind::Counter, &[("1a", "x")], Err(Refusal::InvalidLabelName));
        check(FamilyKind::Counter, &[("a", "x\0y")], Err(Refusal::InvalidLabelValue));
        check(FamilyKind::Counter, &[("a", "x"), ("a", "y")], Err(Refusal::DuplicateLabelName));
    }

    #[test]
    fn one_value_is_repeated_for_all_names() {
        let (mut joined, mut expected) = (JoinedLabels::default(), JoinedLabels::default());
        for labels in [&[][..], &[("a", "x")], &[("a", "x"), ("b", "x"), ("c", "x")]] {
            expected.join(FamilyKind::Counter, labels).unwrap();
            joined.repeat(&expected.names, "x");
            assert_eq!((&joined.names, &joined.key), (&expected.names, &expected.key));
        }
    }

    #[test]
    fn keys_order_by_count_then_by_value() {
        let key = |labels: &[(&str, &str)]| {
            let mut joined = JoinedLabels::default();
            joined.join(FamilyKind::Counter, labels).unwrap();
            joined.key
        };
        assert!(key(&[("z", "z")]) < key(&[("a", ""), ("b", "")]));
        assert!(key(&[("a", "x"), ("b", "z")]) < key(&[("a", "x y"), ("b", "a")]));
        assert!(key(&[("a", "x")]) < key(&[("a", "x\t")]));
    }
}
