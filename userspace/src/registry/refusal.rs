//! Why the registry did not take an event.

use thiserror::Error;

/// Why [`Registry::resolve`](super::Registry::resolve) gave no series: the event is counted under
/// [`Refusal::reason`] and has no other effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    #[error("the metric name is empty")]
    EmptyName,
    /// Holds something else than letters, digits, `_` and `:`, or begins with a digit.
    #[error("the metric name is not valid in Prometheus")]
    InvalidName,
    #[error("the metric name is bound to another type")]
    TypeConflict,
    /// With both families, a sample called `x_sum`, `x_count` or `x_bucket` could belong to either.
    #[error("the metric name collides with the sample names of another family")]
    SuffixConflict,
    #[error("the metric name belongs to this daemon's own metrics")]
    ReservedName,
    /// Empty, or holds something else than letters, digits and `_`, or begins with a digit.
    #[error("a label name is not valid in Prometheus")]
    InvalidLabelName,
    /// `le` on a histogram, `quantile` on a summary, `__` in front on anything.
    #[error("a label name is reserved")]
    ReservedLabelName,
    #[error("a label name is given twice")]
    DuplicateLabelName,
    /// A NUL byte: it ends the input for Prometheus' own text parser, and the scrape fails.
    #[error("a label value holds a NUL byte")]
    InvalidLabelValue,
    #[error("too many labels")]
    TooManyLabels,
    #[error("the limit on series is reached")]
    SeriesLimit,
    #[error("the limit on series of the metric name is reached")]
    FamilyLimit,
    #[error("the limit on metric names with their sets of label names is reached")]
    VectorLimit,
    #[error("the limit on series of a label value is reached")]
    LabelLimit,
    #[error("the limit on senders that gauges tell apart is reached")]
    SenderLimit,
}

impl Refusal {
    /// Label value of the refusal counter; part of our interface.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::EmptyName => "empty_metric_name",
            Self::InvalidName => "invalid_metric_name",
            Self::TypeConflict => "type_conflict",
            Self::SuffixConflict => "suffix_conflict",
            Self::ReservedName => "reserved_metric_name",
            Self::InvalidLabelName => "invalid_label_name",
            Self::ReservedLabelName => "reserved_label_name",
            Self::DuplicateLabelName => "duplicate_label_name",
            Self::InvalidLabelValue => "invalid_label_value",
            Self::TooManyLabels => "too_many_labels",
            Self::SeriesLimit => "series_limit",
            Self::FamilyLimit => "family_limit",
            Self::VectorLimit => "vector_limit",
            Self::LabelLimit => "label_limit",
            Self::SenderLimit => "sender_limit",
        }
    }

    /// Whether there was no room, which is nobody's conflict.
    #[must_use]
    pub const fn is_limit(self) -> bool {
        matches!(
            self,
            Self::SeriesLimit | Self::FamilyLimit | Self::VectorLimit | Self::LabelLimit | Self::SenderLimit
        )
    }

    /// Whether statsd_exporter would count this in its `events_conflict_total`.
    #[must_use]
    pub const fn is_conflict(self) -> bool {
        matches!(self, Self::TypeConflict | Self::SuffixConflict | Self::ReservedName)
    }
}

/// The series expired since its id was handed out, or is of another kind; resolve it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the series is no longer in the registry")]
pub struct Stale;
