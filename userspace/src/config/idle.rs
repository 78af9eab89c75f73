//! Flags that only `statsd_exporter` needs -> which of them were set.
//!
//! They are checked as it checks them, so that a typing error does not wait for the way back. Values
//! that end `statsd_exporter` in a panic are errors.

use super::{ConfigError, flag, units};
use crate::cli::IdleFlags;

pub(super) fn load(flags: &IdleFlags) -> Result<Vec<&'static str>, ConfigError> {
    let IdleFlags { event_queue_size, event_flush_threshold, event_flush_interval, udp_packet_queue_size } =
        flags;
    flag("statsd.event-queue-size", event_queue_size, units::parse_unsigned)?;
    flag("statsd.event-flush-threshold", event_flush_threshold, not_negative)?;
    flag("statsd.event-flush-interval", event_flush_interval, |text| match units::parse_duration(text) {
        Ok(interval) if interval.is_zero() => Err(units::UnitError::Zero),
        parsed => parsed,
    })?;
    flag("statsd.udp-packet-queue-size", udp_packet_queue_size, not_negative)?;
    let set = [
        ("statsd.event-queue-size", event_queue_size, "10000"),
        ("statsd.event-flush-threshold", event_flush_threshold, "1000"),
        ("statsd.event-flush-interval", event_flush_interval, "200ms"),
        ("statsd.udp-packet-queue-size", udp_packet_queue_size, "10000"),
    ];
    Ok(set.into_iter().filter(|(_, value, default)| value != default).map(|(flag, ..)| flag).collect())
}

fn not_negative(text: &str) -> Result<i64, units::UnitError> {
    match units::parse_integer(text)? {
        number if number < 0 => Err(units::UnitError::Negative),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use crate::cli::Cli;

    fn load(arguments: &[&str]) -> Result<Vec<&'static str>, String> {
        let arguments = std::iter::once(&"rotameter").chain(arguments);
        Config::load(&Cli::from_arguments(arguments).expect("the arguments parse"))
            .map(|config| config.idle_flags)
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    #[test]
    fn what_is_set_is_named_and_the_default_is_not() {
        assert_eq!(load(&["--statsd.event-queue-size=10000"]), Ok(vec![]));
        assert_eq!(
            load(&["--statsd.event-queue-size=0x10", "--statsd.udp-packet-queue-size=1e3"]),
            Ok(vec!["statsd.event-queue-size", "statsd.udp-packet-queue-size"])
        );
        assert!(load(&["--statsd.event-flush-threshold=0", "--statsd.event-flush-interval=1d"]).is_ok());
    }

    #[test]
    fn values_that_end_statsd_exporter_are_errors() {
        for (argument, word) in [
            ("--statsd.event-queue-size=-1", "not a whole number"),
            ("--statsd.event-queue-size=1e3", "not a whole number"),
            ("--statsd.event-flush-threshold=-1", "below 0"),
            ("--statsd.event-flush-threshold=many", "not a number"),
            ("--statsd.event-flush-interval=0", "above 0"),
            ("--statsd.event-flush-interval=-1s", "not a duration"),
            ("--statsd.event-flush-interval=5", "not a duration"),
            ("--statsd.udp-packet-queue-size=-1", "below 0"),
        ] {
            let error = load(&[argument]).expect_err(argument);
            assert!(error.contains(word), "{error}");
        }
    }
}
