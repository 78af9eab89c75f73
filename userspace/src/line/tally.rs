//! Line, sample -> counts: where each of them went.

use std::ops::AddAssign;

/// Why a line or one of its samples was refused. The reasons are those of statsd_exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineError {
    /// No `:`, nothing before it, or not UTF-8.
    MalformedLine,
    /// Tags in the name, and a DogStatsD tag section after the value.
    MixedTaggingStyles,
    /// No `|` after the name.
    NotEnoughParts,
    /// Several values before the first `|`, and a type that has one only.
    InvalidAggregateType,
    /// Fewer than 2 or too many parts between `|`, or an empty one after the type.
    MalformedComponent,
    /// The value is not a number, or out of range.
    MalformedValue,
    /// A sample rate that is not a number, or a field of no known kind. The former keeps its sample:
    /// [`Tally::kept`] counts it.
    InvalidSampleFactor,
    MalformedContainerId,
    /// A set, or a type that we do not know.
    IllegalEvent,
    /// It begins as a DogStatsD event, whose lengths do not fit what follows.
    MalformedEvent,
    /// It begins as a DogStatsD service check, without a name or a status from 0 to 3.
    MalformedServiceCheck,
}

impl LineError {
    pub const ALL: [Self; 11] = [
        Self::MalformedLine,
        Self::MixedTaggingStyles,
        Self::NotEnoughParts,
        Self::InvalidAggregateType,
        Self::MalformedComponent,
        Self::MalformedValue,
        Self::InvalidSampleFactor,
        Self::MalformedContainerId,
        Self::IllegalEvent,
        Self::MalformedEvent,
        Self::MalformedServiceCheck,
    ];
    pub const COUNT: usize = Self::ALL.len();

    /// Label value of the sample error counter; part of our interface, as in statsd_exporter.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::MalformedLine => "malformed_line",
            Self::MixedTaggingStyles => "mixed_tagging_styles",
            Self::NotEnoughParts => "not_enough_parts_after_colon",
            Self::InvalidAggregateType => "invalid_extended_aggregate_type",
            Self::MalformedComponent => "malformed_component",
            Self::MalformedValue => "malformed_value",
            Self::InvalidSampleFactor => "invalid_sample_factor",
            Self::MalformedContainerId => "malformed_container_id",
            Self::IllegalEvent => "illegal_event",
            Self::MalformedEvent => "malformed_event",
            Self::MalformedServiceCheck => "malformed_service_check",
        }
    }

    /// Whether the whole line was refused, before it was cut into samples.
    #[must_use]
    pub const fn refuses_line(self) -> bool {
        matches!(
            self,
            Self::MalformedLine
                | Self::MixedTaggingStyles
                | Self::NotEnoughParts
                | Self::InvalidAggregateType
                | Self::MalformedEvent
                | Self::MalformedServiceCheck
        )
    }

    /// Index into [`Tally::errors`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a parser saw and where it went. Two sums always hold:
///
/// ```text
/// lines   = empty + notices{kind} + lines refused{reason} + lines with samples
/// samples = events + vanished + samples refused{reason} - kept
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Empty ones included.
    pub lines: u64,
    pub empty: u64,
    /// DogStatsD events, which are no metrics.
    pub notice_events: u64,
    /// DogStatsD service checks, which are no metrics either.
    pub service_checks: u64,
    pub samples: u64,
    /// Events handed on; an observation that counts several times is one.
    pub events: u64,
    /// Observations whose sample rate repeats them zero times (`@2`, negative, far too small).
    pub vanished: u64,
    /// Samples with at least one tag, whatever their type.
    pub tags: u64,
    pub tag_errors: u64,
    /// Errors that did not cost their sample: sample rates that were not a number.
    pub kept: u64,
    /// By [`LineError::index`].
    pub errors: [u64; LineError::COUNT],
}

impl Tally {
    #[must_use]
    pub fn error(&self, error: LineError) -> u64 {
        self.errors.get(error.index()).copied().unwrap_or(0)
    }

    pub(super) fn refuse(&mut self, error: LineError) {
        self.refuse_times(error, 1);
    }

    pub(super) fn refuse_times(&mut self, error: LineError, times: u64) {
        if let Some(count) = self.errors.get_mut(error.index()) {
            *count += times;
        }
    }

    /// Lines that were refused as a whole.
    #[must_use]
    pub fn refused_lines(&self) -> u64 {
        LineError::ALL.into_iter().filter(|error| error.refuses_line()).map(|error| self.error(error)).sum()
    }

    /// Lines that gave at least one sample.
    #[must_use]
    pub fn lines_with_samples(&self) -> u64 {
        self.lines - self.empty - self.notice_events - self.service_checks - self.refused_lines()
    }

    /// Samples that gave neither an event nor vanished.
    #[must_use]
    pub fn refused_samples(&self) -> u64 {
        self.errors.iter().sum::<u64>() - self.refused_lines() - self.kept
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.lines += other.lines;
        self.empty += other.empty;
        self.notice_events += other.notice_events;
        self.service_checks += other.service_checks;
        self.samples += other.samples;
        self.events += other.events;
        self.vanished += other.vanished;
        self.tags += other.tags;
        self.tag_errors += other.tag_errors;
        self.kept += other.kept;
        for (sum, count) in self.errors.iter_mut().zip(&other.errors) {
            *sum += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_stands_at_its_index() {
        for (at, error) in LineError::ALL.into_iter().enumerate() {
            assert_eq!(error.index(), at);
        }
    }
}
