//! Log events -> lines of logfmt or JSON on standard error.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Sends every event from `log.level` on to standard error. A second call changes nothing.
pub fn start(log: Log) {
    // Only a second call fails, and it would find the first one's subscriber at work. What crates
    // below us say through `log` (netlink) comes the same way.
    let levels = Targets::new().with_default(LevelFilter::from_level(log.level));
    // The loader tells every relocation at level debug, which helps nobody who runs a daemon.
    let levels = LOADER_TARGETS.iter().fold(levels, |levels, target| {
        levels.with_target(*target, LevelFilter::from_level(log.level).min(LevelFilter::INFO))
    });
    let _ = tracing_subscriber::registry()
        .with(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                // It would tell standard error that standard error does not work, and panic.
                .log_internal_errors(false)
                .event_format(Lines(log.format)),
        )
        .with(levels)
        .try_init();
}

const LOADER_TARGETS: [&str; 2] = ["aya", "aya_obj"];

/// Writes one event as one line.
struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        // Milliseconds are enough: 2026-01-01T00:00:00.000, without what follows.
        let time = time.get(..23).map_or(time.clone(), |start| format!("{start}Z"));
        let level = event.metadata().level().as_str();
        let source = event.metadata().file().zip(event.metadata().line());
        let source = source.map(|(path, line)| {
            let name = path.rsplit('/').next().unwrap_or(path);
            format!("{name}:{line}")
        });
        out.write_str(&line(self.0, &time, level, source.as_deref(), &fields))
    }
}

/// The fields of one event as text, in the order in which they stand in the code.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}").into());
    }
}

impl Fields {
    fn keep(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            self.message = text(&value);
        } else {
            self.others.push((field.name(), value));
        }
    }
}

/// One event as a line, with its `\n`.
///
/// Keys and levels are those of `statsd_exporter`, which logs by Go's `slog`.
fn line(format: LogFormat, time: &str, level: &str, source: Option<&str>, fields: &Fields) -> String {
    let message = Some(fields.message.as_str());
    let pairs = [("time", Some(time)), ("level", Some(level)), ("source", source), ("msg", message)];
    let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, Value::from(value?))));
    let pairs = pairs.chain(fields.others.iter().map(|(name, value)| (*name, value.clone())));
    let mut line = String::new();
    match format {
        LogFormat::Logfmt => {
            for (name, value) in pairs.map(|(name, value)| (name, text(&value))) {
                let space = if line.is_empty() { "" } else { " " };
                // Writing into a String cannot fail.
                let _ = if value.is_empty() || value.contains(|c: char| c <= ' ' || c == '"' || c == '=') {
                    write!(line, "{space}{name}={value:?}")
                } else {
                    write!(line, "{space}{name}={value}")
                };
            }
        }
        LogFormat::Json => {
            for (name, value) in pairs {
                line.push(if line.is_empty() { '{' } else { ',' });
                let _ = write!(line, "{}:{value}", Value::from(name));
            }
            line.push('}');
        }
    }
    line.push('\n');
    line
}

/// A value as it stands in text: a string without quotation marks.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: LogFormat, expected: &str) {
        let others = vec![("interface", "eth0".into()), ("why", "a \"b\"\n".into()), ("lines", 7.into())];
        let fields = Fields { message: "XDP attached".to_owned(), others };
        assert_eq!(line(format, "2026-01-01T00:00:00.000Z", "INFO", Some("doors.rs:7"), &fields), expected);
    }

    #[test]
    fn logfmt_quotes_only_what_needs_it() {
        check(
            LogFormat::Logfmt,
            "time=2026-01-01T00:00:00.000Z level=INFO source=doors.rs:7 msg=\"XDP attached\" interface=eth0 why=\"a \\\"b\\\"\\n\" lines=7\n",
        );
    }

    #[test]
    fn json_is_one_object_a_line() {
        check(
            LogFormat::Json,
            "{\"time\":\"2026-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"source\":\"doors.rs:7\",\"msg\":\"XDP attached\",\
             \"interface\":\"eth0\",\"why\":\"a \\\"b\\\"\\n\",\"lines\":7}\n",
        );
    }
}
