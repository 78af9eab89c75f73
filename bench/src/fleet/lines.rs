//! One measurement -> its line, in the dialect of the fleet.

use std::io::Write as _;

use super::settings::{Dialect, Settings, Version};

/// A value with its type.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Count(i64),
    /// An absolute gauge; not below zero, for a sign would make it relative.
    Gauge(u64),
    /// A gauge as Python prints a float.
    Decimal(f64),
    /// The open slots of a pool without a limit.
    Infinite,
    /// A gauge sent one time in ten.
    Sampled(u64),
    /// The number as it is sent, whatever its unit.
    Timer(f64),
}

/// Key and value of a tag.
pub(super) type Tag<'a> = (&'a str, &'a str);

/// What all Datadog lines of one installation carry.
const CONSTANT_TAGS: [Tag<'static>; 2] = [("env", "prod"), ("cluster", "emea-1")];

/// How this fleet writes lines.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    dialect: Dialect,
    version: Version,
    prefix: String,
}

impl Lines {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { dialect: settings.dialect, version: settings.version, prefix: settings.prefix.clone() }
    }

    /// Appends the line of `name`, which has no prefix yet.
    pub(super) fn write(&self, name: &str, tags: &[Tag<'_>], value: Value, out: &mut Vec<u8>) {
        if !self.prefix.is_empty() {
            out.extend_from_slice(self.prefix.as_bytes());
            out.push(b'.');
        }
        self.write_bare(name, tags, value, out);
    }

    /// Appends the line of a name that takes no prefix: the Datadog client's own.
    pub(super) fn write_bare(&self, name: &str, tags: &[Tag<'_>], value: Value, out: &mut Vec<u8>) {
        out.extend_from_slice(name.as_bytes());
        if self.dialect == Dialect::Influx {
            for (key, value) in tags {
                put(out, format_args!(",{key}={value}"));
            }
        }
        self.value(value, out);
        if self.dialect == Dialect::Datadog {
            for (place, (key, value)) in tags.iter().chain(&CONSTANT_TAGS).enumerate() {
                let separator = if place == 0 { "|#" } else { "," };
                put(out, format_args!("{separator}{key}:{value}"));
            }
            out.push(b'\n');
        }
    }

    fn value(&self, value: Value, out: &mut Vec<u8>) {
        match value {
            Value::Count(count) => put(out, format_args!(":{count}|c")),
            Value::Gauge(gauge) => put(out, format_args!(":{gauge}|g")),
            // {:?} keeps the ".0" of a whole number, as Python does.
            Value::Decimal(gauge) => put(out, format_args!(":{gauge:?}|g")),
            Value::Infinite => put(out, format_args!(":inf|g")),
            Value::Sampled(gauge) => put(out, format_args!(":{gauge}|g|@0.1")),
            Value::Timer(time) if self.dialect == Dialect::Datadog => put(out, format_args!(":{time}|ms")),
            Value::Timer(time) => put(out, format_args!(":{time:.6}|ms")),
        }
    }

    /// The number that is sent for a time that the code takes around a block.
    pub(super) fn block_time(&self, milliseconds: f64) -> Value {
        self.unit(milliseconds, self.dialect == Dialect::Datadog)
    }

    /// The number for `task.duration`, `dagrun.duration` and their kin.
    pub(super) fn run_time(&self, milliseconds: f64) -> Value {
        self.unit(milliseconds, self.dialect == Dialect::Datadog && self.version == Version::V2_11)
    }

    /// The number for `task.queued_duration` and `task.scheduled_duration`.
    pub(super) fn wait_time(&self, milliseconds: f64) -> Value {
        self.unit(milliseconds, self.version == Version::V2_11)
    }

    /// The number for `dag_processing.last_duration`.
    pub(super) fn parse_time(&self, milliseconds: f64) -> Value {
        self.unit(milliseconds, self.dialect == Dialect::Datadog || self.version == Version::V3_3)
    }

    /// A time that has the type of milliseconds may well be in seconds.
    fn unit(&self, milliseconds: f64, in_seconds: bool) -> Value {
        Value::Timer(if in_seconds { milliseconds / 1e3 } else { milliseconds })
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::settings::Preset;

    #[track_caller]
    fn check(dialect: Dialect, name: &str, tags: &[Tag<'_>], value: Value, expected: &str) {
        let lines = Lines::new(&Settings { dialect, ..Settings::preset(Preset::Small) });
        let mut out = Vec::new();
        lines.write(name, tags, value, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn each_dialect_is_written_as_recorded() {
        let tags = [("dag_id", "a.b"), ("task_id", "t")];
        check(Dialect::Plain, "ti.start", &tags, Value::Count(1), "airflow.ti.start:1|c");
        check(
            Dialect::Influx,
            "ti.start",
            &tags,
            Value::Count(0),
            "airflow.ti.start,dag_id=a.b,task_id=t:0|c",
        );
        check(
            Dialect::Datadog,
            "ti.start",
            &tags,
            Value::Timer(1.5),
            "airflow.ti.start:1.5|ms|#dag_id:a.b,task_id:t,env:prod,cluster:emea-1\n",
        );
    }

    #[test]
    fn values_are_printed_as_python_prints_them() {
        check(Dialect::Plain, "x", &[], Value::Timer(1.5), "airflow.x:1.500000|ms");
        check(Dialect::Plain, "x", &[], Value::Decimal(3.0), "airflow.x:3.0|g");
        check(Dialect::Plain, "x", &[], Value::Infinite, "airflow.x:inf|g");
        check(Dialect::Plain, "x", &[], Value::Sampled(7), "airflow.x:7|g|@0.1");
        check(Dialect::Plain, "x", &[], Value::Count(-1), "airflow.x:-1|c");
    }
}
