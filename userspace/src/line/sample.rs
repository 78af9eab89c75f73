//! Sample -> kind of event, with its sample rates at work.

use super::event::EventKind;
use super::number;
use super::{Dialects, LineError, Tally};

/// The types on the wire. New ones enter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleType {
    Counter,
    Gauge,
    /// A time in milliseconds; observed in seconds.
    Timer,
    /// A histogram's or a distribution's value, observed as it is.
    Observation,
    Set,
    Unknown,
}

/// The type that `text` names; exactly, no spaces, no other case.
pub(super) fn sample_type(text: &[u8]) -> SampleType {
    match text {
        b"c" => SampleType::Counter,
        b"g" => SampleType::Gauge,
        b"ms" => SampleType::Timer,
        b"h" | b"d" => SampleType::Observation,
        b"s" => SampleType::Set,
        _ => SampleType::Unknown,
    }
}

impl SampleType {
    /// Whether several values may stand before one type. The protocol of DogStatsD has them for all but
    /// sets, statsd_exporter for observers only.
    pub(super) fn packs(self, dialects: Dialects) -> bool {
        match self {
            Self::Timer | Self::Observation => true,
            Self::Counter | Self::Gauge => dialects.packing,
            Self::Set | Self::Unknown => false,
        }
    }
}

/// The value of a sample, before its type is asked.
#[derive(Clone, Copy)]
pub(super) struct Value {
    value: f64,
    signed: bool,
}

/// Reads the value of a sample. It must be a number whatever the type, also of a set.
pub(super) fn value(text: &str) -> Result<Value, LineError> {
    let value = number::parse(text.as_bytes()).map_err(|_| LineError::MalformedValue)?;
    Ok(Value { value, signed: text.starts_with(['+', '-']) })
}

/// The part of an event that comes from the sample alone.
pub(super) struct Reading {
    pub(super) kind: EventKind,
    pub(super) raw: f64,
    pub(super) divisor: f64,
    pub(super) times: u64,
}

/// Puts `value` together with its type and sample rates; `None`, and counted, if no event comes of it.
pub(super) fn reading(value: Value, kind: SampleType, rates: &[f64], tally: &mut Tally) -> Option<Reading> {
    let Value { value, signed } = value;
    let observer = |divisor| Reading { kind: EventKind::Observer, raw: value, divisor, times: times(rates) };
    let reading = match kind {
        SampleType::Counter => {
            let (&divisor, earlier) = rates.split_last().unwrap_or((&1.0, &[]));
            let raw = earlier.iter().fold(value, |raw, rate| raw / rate);
            Reading { kind: EventKind::Counter, raw, divisor, times: 1 }
        }
        SampleType::Gauge => {
            Reading { kind: EventKind::Gauge { relative: signed }, raw: value, divisor: 1.0, times: 1 }
        }
        SampleType::Timer => observer(1000.0),
        SampleType::Observation => observer(1.0),
        SampleType::Set | SampleType::Unknown => {
            tally.refuse(LineError::IllegalEvent);
            return None;
        }
    };
    if reading.times == 0 {
        tally.vanished += 1;
        return None;
    }
    Some(reading)
}

/// How often an observation counts under its last sample rate: one over it, rounded towards zero,
/// and not at all where that is negative or beyond a 64-bit integer, as statsd_exporter has it.
fn times(rates: &[f64]) -> u64 {
    let Some(&rate) = rates.last() else { return 1 };
    let times = 1.0 / rate;
    if times >= 1.0 && times < i64::MAX as f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range, checked above; towards zero is what is wanted"
        )]
        let times = times as u64;
        return times;
    }
    0
}
