//! What the kernel says of its CPUs -> how many rows its tables need.

use std::{fs, io};

/// Where the kernel says which CPUs there may ever be.
pub const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// CPUs that this machine may ever have, up to the highest number: a program finds its row by the number of its CPU.
///
/// # Errors
///
/// `/sys` is not there, or holds something else.
pub fn possible_cpus() -> io::Result<usize> {
    let list = fs::read_to_string(POSSIBLE_CPUS)?;
    rows_for(list.trim()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is no list of CPUs"))
}

/// Rows that a list of CPUs such as `0-3,8` takes, numbers that are left out included.
fn rows_for(list: &str) -> Option<usize> {
    let highest = list.split([',', '-']).map(|number| number.parse::<usize>().ok());
    highest.collect::<Option<Vec<_>>>()?.into_iter().max()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_has_a_row_by_its_number() {
        for (list, rows) in [("0", 1), ("0-1", 2), ("0-3,8", 9), ("0,2-5", 6)] {
            assert_eq!(rows_for(list), Some(rows), "{list}");
        }
        for list in ["", "x", "0-", "0-18446744073709551615"] {
            assert_eq!(rows_for(list), None, "{list}");
        }
    }
}
