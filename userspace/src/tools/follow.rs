//! Flags -> what `/live/tail` is asked for, and the lines of its answer.

use std::ops::ControlFlow;

use super::client::{Client, ConnectFlags};
use crate::live::filter::Filter;
use crate::live::tail::{Status, Told};

/// Which lines, and from which daemon.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FollowFlags {
    #[command(flatten)]
    pub(super) connect: ConnectFlags,
    /// Only lines whose name, up to the first colon, matches; * stands for any characters, ? for one.
    #[arg(long, value_name = "GLOB", conflicts_with = "regex")]
    pub(super) filter: Option<String>,
    /// Only lines in which the regular expression matches, anywhere.
    #[arg(long, value_name = "REGEX")]
    pub(super) regex: Option<String>,
    /// Let nothing be counted in the kernel meanwhile, so that hot lines come whole and are seen, too.
    /// Costs the daemon CPU.
    #[arg(long)]
    pub(super) whole: bool,
}

/// Longest piece without a line feed that is kept; a datagram of 64 KiB in base64 fits.
const LINE_BYTES_MAX: usize = 1 << 20;

impl FollowFlags {
    /// The path that asks for it, with further keys.
    ///
    /// # Errors
    ///
    /// A pattern is none.
    pub(super) fn path(&self, keys: &[&str]) -> anyhow::Result<String> {
        let mut query: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        if let Some(glob) = &self.filter {
            Filter::glob(glob)?;
            query.push(format!("filter={}", escaped(glob)));
        }
        if let Some(regex) = &self.regex {
            Filter::regex(regex)?;
            query.push(format!("regex={}", escaped(regex)));
        }
        if self.whole {
            query.push("whole".to_owned());
        }
        let query = query.join("&");
        Ok(if query.is_empty() { "/live/tail".to_owned() } else { format!("/live/tail?{query}") })
    }

    /// The same as a filter of our own.
    pub(super) fn own(&self) -> anyhow::Result<Filter> {
        Ok(match (&self.filter, &self.regex) {
            (Some(glob), _) => Filter::glob(glob)?,
            (_, Some(regex)) => Filter::regex(regex)?,
            _ => Filter::All,
        })
    }
}

/// `text` as a value of a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Hands each line of the stream to `take`, statuses apart. Says so if it ends because the daemon does.
///
/// # Errors
///
/// What the client or `take` says.
pub(super) fn follow(
    client: &Client,
    path: &str,
    mut take: impl FnMut(Event<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    let mut rest = Vec::new();
    let ended = client.follow(path, |piece| {
        rest.extend_from_slice(piece);
        let mut done = 0;
        while let Some(end) = rest.get(done..).and_then(|bytes| memchr::memchr(b'\n', bytes)) {
            let line = &rest[done..done + end];
            done += end + 1;
            let told = line.starts_with(b"{\"status\"").then(|| serde_json::from_slice::<Told>(line));
            let event = match told {
                Some(Ok(told)) => Event::Status(told.status),
                _ => Event::Line(line),
            };
            if take(event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        rest.drain(..done);
        if rest.len() > LINE_BYTES_MAX {
            anyhow::bail!("{}: a line of the answer is longer than {LINE_BYTES_MAX} bytes", client.url());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if ended {
        eprintln!("# the daemon has ended, and with it what was followed");
    }
    Ok(())
}

/// A line of the stream.
pub(super) enum Event<'a> {
    Line(&'a [u8]),
    Status(Status),
}

/// What was not seen, for people.
pub(super) fn unseen(status: &Status) -> Option<String> {
    let mut parts = Vec::new();
    if status.skipped > 0 {
        parts.push(format!("{} left out, because there were too many at a time", status.skipped));
    }
    if status.in_kernel > 0 {
        parts.push(format!(
            "{} lines counted in the kernel and not seen; --whole lets them come whole",
            status.in_kernel
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_travel_escaped() {
        assert_eq!(escaped("a.*&b=c%"), "a.%2A%26b%3Dc%25");
    }

    #[test]
    fn what_is_not_seen_is_said() {
        assert_eq!(unseen(&Status::default()), None);
        let said = unseen(&Status { shown: 1, skipped: 2, in_kernel: 3 }).unwrap();
        assert!(said.contains("2 left out") && said.contains("--whole"), "{said}");
    }
}
