//! Lines that arrive at a daemon -> standard output.

use std::io::Write as _;
use std::ops::ControlFlow;

use super::client::Client;
use super::follow::{Event, FollowFlags, follow, unseen};
use crate::live::tail::{Line, Status};

/// Shows the lines that arrive at a running daemon, as they came, each with its sender.
///
/// Lines that the kernel counts do not come whole and are not shown; their number is told, and --whole
/// lets them come. The daemon lets programs of its own machine or pod follow, unless --web.tail says
/// otherwise.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter tail", bin_name = "rotameter tail")]
pub struct TailFlags {
    #[command(flatten)]
    follow: FollowFlags,
    /// End after so many lines.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Show the series that each line goes to, or why it is refused.
    #[arg(long)]
    mapped: bool,
    /// Print each line as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints lines until the limit, or the daemon's end.
///
/// # Errors
///
/// The daemon does not answer, or lets nobody follow.
pub fn tail(flags: &TailFlags) -> anyhow::Result<()> {
    let client = Client::new(&flags.follow.connect)?;
    let path = flags.follow.path(if flags.mapped { &["mapped"] } else { &[] })?;
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut shown, mut last) = (0_u64, Status::default());
    let mut told = false;
    let followed = follow(&client, &path, |event| {
        match event {
            Event::Line(line) => {
                let written = if flags.json {
                    output.write_all(line).and_then(|()| output.write_all(b"\n"))
                } else {
                    let line: Line = serde_json::from_slice(line)?;
                    writeln!(output, "{}", text(&line))
                };
                shown += 1;
                // Whoever closed standard output, as `| head` does, has read enough.
                if written.is_err() || flags.limit.is_some_and(|limit| shown >= limit) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Event::Status(status) => {
                if status.in_kernel > 0 && !told {
                    told = true;
                    eprintln!("# some lines are counted in the kernel and not shown; --whole shows them");
                }
                last = status;
            }
        }
        Ok(if output.flush().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    let _ = output.flush();
    if let Some(unseen) = unseen(&last) {
        eprintln!("# {shown} shown; {unseen}");
    }
    followed
}

fn text(line: &Line) -> String {
    let from = if line.from.is_empty() { &line.via } else { &line.from };
    let mut text = format!("{from}  {}", printable(&line.line));
    for series in line.series.iter().flatten() {
        text += &format!("\n    -> {}", printable(series));
    }
    text
}

/// What came from the network must not move somebody's cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_with_its_sender_and_its_series() {
        let mut line = Line {
            t: 1.0,
            from: "10.0.0.1:77".to_owned(),
            via: "udp".to_owned(),
            line: "a\u{1b}:1|c".to_owned(),
            series: None,
        };
        assert_eq!(text(&line), "10.0.0.1:77  a\u{fffd}:1|c");
        line.from.clear();
        line.series = Some(vec!["counter a".to_owned()]);
        assert_eq!(text(&line), "udp  a\u{fffd}:1|c\n    -> counter a");
    }
}
