//! File with ids of DAGs -> the ids.

use std::path::Path;

use super::DagId;

/// Ids beyond these are refused: each adds rules.
pub(crate) const DAG_IDS_MAX: usize = 10_000;
/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why the ids cannot be had, and the way out.
#[derive(Debug, thiserror::Error)]
pub enum DagIdsError {
    #[error("reading it")]
    Read(#[from] std::io::Error),
    #[error("{bytes} bytes; at most {FILE_BYTES_MAX}")]
    TooLong { bytes: u64 },
    #[error("line {line}: {why}")]
    Line { line: usize, why: super::settings::SettingsError },
    #[error("{count} ids; at most {DAG_IDS_MAX}, and only ids with dots are needed")]
    TooMany { count: usize },
}

/// Reads the file, one id a line, and joins it to the ids of flags. Sorted, each id once.
///
/// # Errors
///
/// The file cannot be read, a line is no id, or there are too many.
pub fn all(flags: &[DagId], file: Option<&Path>) -> Result<Vec<DagId>, DagIdsError> {
    let mut ids = flags.to_vec();
    if let Some(path) = file {
        let bytes = std::fs::metadata(path)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(DagIdsError::TooLong { bytes });
        }
        for (number, line) in std::fs::read_to_string(path)?.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                ids.push(line.parse().map_err(|why| DagIdsError::Line { line: number + 1, why })?);
            }
        }
    }
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > DAG_IDS_MAX {
        return Err(DagIdsError::TooMany { count: ids.len() });
    }
    Ok(ids)
}
