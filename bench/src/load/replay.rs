//! A recording -> datagrams, and a fleet out of a small one.
//!
//! Each copy has DAGs, files and hosts of its own, senders of its own, and another phase, as other
//! installations have. An id gets the copy's number behind its first part, which is the same place in
//! a tag and in a name that holds the id: `a.b` becomes `a_7.b`, and `ti.start.a.b.t` becomes
//! `ti.start.a_7.b.t`. Tasks are multiplied with their DAGs.

use std::{path::Path, time::Duration};

use anyhow::Context as _;

use crate::{
    corpus::{self, Recorded},
    fleet::{Datagram, Sender, family::family},
};

/// Tags whose values differ from copy to copy.
const MULTIPLIED_TAGS: [&str; 4] = ["dag_id", "file_name", "file_path", "hostname"];

/// The datagrams of a recording, multiplied `copies` times, in order of time.
///
/// # Errors
///
/// The file cannot be read, is no recording, or is empty.
pub fn read(file: &Path, copies: usize, prefix: &str) -> anyhow::Result<Vec<Datagram>> {
    let recorded = corpus::read(file)?;
    anyhow::ensure!(!recorded.is_empty(), "{}: holds no datagram", file.display());
    let total = recorded.len().saturating_mul(copies);
    anyhow::ensure!(
        total <= DATAGRAMS_MAX,
        "{} datagrams times {copies}: more than {DATAGRAMS_MAX}; make fewer copies",
        recorded.len()
    );
    multiply(&recorded, copies.max(1), prefix).context("multiplying the recording")
}

/// Bounds the memory: some gigabyte.
const DATAGRAMS_MAX: usize = 8_000_000;

fn multiply(recorded: &[Recorded], copies: usize, prefix: &str) -> anyhow::Result<Vec<Datagram>> {
    let first = recorded.first().map_or(Duration::ZERO, |datagram| datagram.at);
    let last = recorded.last().map_or(Duration::ZERO, |datagram| datagram.at);
    // Beyond the last, so that the first of a round does not fall together with it.
    let span = last.saturating_sub(first) + Duration::from_millis(1);
    let mut datagrams = Vec::with_capacity(recorded.len() * copies);
    for copy in 0..copies {
        let phase = span.mul_f64(fraction(copy, copies));
        for datagram in recorded {
            let mut at = datagram.at.saturating_sub(first) + phase;
            if at >= span {
                at -= span;
            }
            let bytes =
                if copy == 0 { datagram.payload.clone() } else { renamed(&datagram.payload, copy, prefix) };
            datagrams.push(Datagram {
                sender: Sender { host: u32::try_from(copy)?, port: datagram.port },
                at,
                bytes,
            });
        }
    }
    // Stable: what one sender sent at one time stays in order.
    datagrams.sort_by_key(|datagram| datagram.at);
    Ok(datagrams)
}

fn fraction(copy: usize, copies: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a number of copies")]
    let (copy, copies) = (copy as f64, copies as f64);
    copy / copies
}

/// The payload with the copy's number in every id. What is not UTF-8 stays as it is.
fn renamed(payload: &[u8], copy: usize, prefix: &str) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(payload) else { return payload.to_vec() };
    let lines: Vec<String> = text.split('\n').map(|line| renamed_line(line, copy, prefix)).collect();
    lines.join("\n").into_bytes()
}

fn renamed_line(line: &str, copy: usize, prefix: &str) -> String {
    let Some((head, sample)) = line.split_once(':') else { return line.to_owned() };
    // Influx tags stand behind the name.
    let (name, tags) = head.split_once(',').map_or((head, None), |(name, tags)| (name, Some(tags)));
    let own = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
    let mut out = match family(own).id_at {
        Some(at) => numbered(name, name.len() - own.len() + at, copy),
        None => name.to_owned(),
    };
    if let Some(tags) = tags {
        out.push(',');
        out.push_str(&renamed_tags(tags, '=', copy));
    }
    out.push(':');
    match sample.split_once("|#") {
        Some((sample, tags)) => {
            out.push_str(sample);
            out.push_str("|#");
            out.push_str(&renamed_tags(tags, ':', copy));
        }
        None => out.push_str(sample),
    }
    out
}

fn renamed_tags(tags: &str, separator: char, copy: usize) -> String {
    let renamed: Vec<String> = tags
        .split(',')
        .map(|tag| match tag.split_once(separator) {
            Some((key, value)) if MULTIPLIED_TAGS.contains(&key) => {
                format!("{key}{separator}{}", numbered(value, 0, copy))
            }
            _ => tag.to_owned(),
        })
        .collect();
    renamed.join(",")
}

/// Puts the number behind the first part of the id that begins at `at`. From 3.2 on a dot in an id is
/// spelt as two underscores in a name, so both end a part.
fn numbered(text: &str, at: usize, copy: usize) -> String {
    let Some(id) = text.get(at..) else { return text.to_owned() };
    let ends = [id.find('.'), id.get(1..).and_then(|rest| rest.find("__")).map(|place| place + 1)];
    let end = at + ends.into_iter().flatten().min().unwrap_or(id.len());
    format!("{}_{copy}{}", &text[..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(String::from_utf8_lossy(&renamed(line.as_bytes(), 7, "airflow")), expected);
    }

    #[test]
    fn ids_are_numbered_alike_in_names_and_tags() {
        check("airflow.ti.start.a.b.t:1|c", "airflow.ti.start.a_7.b.t:1|c");
        check("airflow.ti.start.a__b.t:1|c", "airflow.ti.start.a_7__b.t:1|c");
        check(
            "airflow.ti.start:1|c|#dag_id:a.b,task_id:t,env:p\n",
            "airflow.ti.start:1|c|#dag_id:a_7.b,task_id:t,env:p\n",
        );
        check(
            "airflow.ti.finish.a.t.success,dag_id=a,task_id=t:0|c",
            "airflow.ti.finish.a_7.t.success,dag_id=a_7,task_id=t:0|c",
        );
        check(
            "airflow.dagrun.a.first_task_scheduling_delay:1.5|ms",
            "airflow.dagrun.a_7.first_task_scheduling_delay:1.5|ms",
        );
        check(
            "airflow.local_task_job.task_exit.5.a.t.0:1|c",
            "airflow.local_task_job.task_exit.5.a_7.t.0:1|c",
        );
    }

    #[test]
    fn what_has_no_id_stays() {
        for line in ["airflow.scheduler_heartbeat:1|c", "airflow.pool.open_slots.p:1|g", "no sample", ""] {
            check(line, line);
        }
        check("a:0|g\na:-4|g", "a:0|g\na:-4|g");
    }

    #[test]
    fn copies_are_other_senders_at_other_times() {
        let recorded: Vec<Recorded> = (0..10_u16)
            .map(|number| Recorded {
                at: Duration::from_secs(100 + u64::from(number)),
                port: number,
                payload: format!("airflow.ti.start.d.t{number}:1|c").into_bytes(),
            })
            .collect();
        let copied = multiply(&recorded, 3, "airflow").expect("three copies");
        assert_eq!(copied.len(), 30);
        assert!(copied.is_sorted_by_key(|datagram| datagram.at));
        assert!(copied.iter().all(|datagram| datagram.at < Duration::from_secs(10)));
        let names: std::collections::BTreeSet<_> = copied.iter().map(|datagram| &datagram.bytes).collect();
        assert_eq!(names.len(), 30);
        assert_eq!(copied[0].bytes, b"airflow.ti.start.d.t0:1|c");
    }
}
