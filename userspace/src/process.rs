//! `/proc` -> what this process takes.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// CPU and memory since the start of the process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_bytes: f64,
    pub virtual_bytes: f64,
}

/// CPU and memory from `/proc/self/stat` (proc(5)).
#[must_use]
pub fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name may hold anything, but it ends with the last parenthesis.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let cpu_seconds = (number(11)? + number(12)?) / float(rustix::param::clock_ticks_per_second());
    let resident_bytes = number(21)? * float(rustix::param::page_size() as u64);
    Some(Usage { cpu_seconds, resident_bytes, virtual_bytes: number(20)? })
}

/// File descriptors that are open.
#[must_use]
pub fn open_fds() -> Option<f64> {
    // One of them is the directory itself.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(float(open as u64))
}

/// File descriptors that may be open.
#[must_use]
pub fn fds_max() -> f64 {
    limit(Resource::Nofile)
}

/// Bytes of address space that may be taken.
#[must_use]
pub fn virtual_bytes_max() -> f64 {
    limit(Resource::As)
}

/// Where there is no limit, the largest number there is, as every Prometheus client shows it.
fn limit(resource: Resource) -> f64 {
    float(getrlimit(resource).current.unwrap_or(u64::MAX))
}

/// Bytes that IP has received and sent, of all processes in our network namespace.
#[must_use]
pub fn network_bytes() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
    Some((ip_extension(&text, "InOctets")?, ip_extension(&text, "OutOctets")?))
}

/// The value of `name` in the pair of lines that begin with `IpExt:`, names above numbers.
fn ip_extension(netstat: &str, name: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    numbers.split(' ').nth(at)?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "an exposition holds floats; exact below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_numbers() {
        let usage = usage().expect("proc is mounted");
        assert!(usage.cpu_seconds >= 0.0 && usage.resident_bytes > 100_000.0);
        assert!(usage.virtual_bytes >= usage.resident_bytes && usage.virtual_bytes <= virtual_bytes_max());
        assert!(open_fds().expect("proc is mounted") >= 3.0);
        assert!(open_fds().expect("proc is mounted") <= fds_max());
    }

    #[test]
    fn bytes_of_the_network_stand_below_their_names() {
        let text = "TcpExt: InOctets B\nTcpExt: 1 2\nIpExt: A InOctets OutOctets\nIpExt: 3 4 5\n";
        assert_eq!(ip_extension(text, "InOctets"), Some(4.0));
        assert_eq!(ip_extension(text, "OutOctets"), Some(5.0));
        assert_eq!(ip_extension(text, "Other"), None);
        assert!(network_bytes().is_some());
    }
}
