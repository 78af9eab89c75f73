//! Web configuration file -> who is let in, and how.
//!
//! The file has the format of Prometheus' exporter toolkit. What it says that is not served here is
//! an error, never silence.

mod client_certificates;
mod files;
mod live;
mod schema;
mod tls;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use rustls::ServerConfig;

pub use live::Live;

use super::rate_limit::Limiter;
use files::Files;

/// A hash that takes longer than this to check is no use: 2^16 rounds are some 5 s of a core.
const BCRYPT_COST_MAX: u32 = 16;
/// The YAML reader takes time by the square of how deep brackets nest; honest files have a dozen.
const BRACKETS_MAX: usize = 4096;
const RATE_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// What the file says, checked and loaded. The default: plain HTTP, for everyone.
#[derive(Default)]
pub(in crate::web) struct Settings {
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Name and bcrypt hash; empty: nobody is asked for a password.
    pub(super) users: Vec<(String, String)>,
    /// Added to every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) limiter: Option<Limiter>,
}

/// A web configuration that does not do, and the way out.
#[derive(Debug, thiserror::Error)]
#[error("web configuration {}{}: {what}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct SettingsError {
    path: PathBuf,
    line: Option<usize>,
    what: String,
}

/// Something about one key of the file.
struct Problem {
    key: String,
    what: String,
}

fn problem(key: &str, what: impl fmt::Display) -> Problem {
    Problem { key: key.to_owned(), what: format!("{key}: {what}") }
}

/// Reads and checks the file, and each that it names, as the daemon would at start.
///
/// # Errors
///
/// The first thing that does not do.
pub fn check(path: &Path) -> Result<(), SettingsError> {
    read(path, &mut Files::default()).map(drop)
}

/// Reads the file, and those that it names; `files` has them all, also after an error.
fn read(path: &Path, files: &mut Files) -> Result<Settings, SettingsError> {
    let error = |line, what| SettingsError { path: path.to_owned(), line, what };
    let bytes = files
        .read(path)
        .map_err(|cause| error(None, format!("reading it: {cause}; --web.config.file names it")))?;
    let text = String::from_utf8(bytes).map_err(|_| error(None, "it is not UTF-8".to_owned()))?;
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > BRACKETS_MAX {
        return Err(error(None, format!("more than {BRACKETS_MAX} brackets; no setting needs so many")));
    }
    let file = parse(&text).map_err(|cause| {
        error(
            cause.location().map(|location| location.line()),
            format!("{cause}; docs/operating.md has every key"),
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    settings(file, folder, files).map_err(|problem| error(line_of(&text, &problem.key), problem.what))
}

fn parse(text: &str) -> Result<schema::File, yaml_serde::Error> {
    // An empty file, or one of comments only, says nothing, which is fine.
    yaml_serde::from_str::<Option<schema::File>>(text).map(Option::unwrap_or_default)
}

/// Line of the first `key:`, counted from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let is_it = |line: &str| {
        line.match_indices(key).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
            before.is_none_or(|c| " {,\"'\t".contains(c)) && after.starts_with(':')
        })
    };
    text.lines().position(is_it).map(|line| line + 1)
}

fn settings(file: schema::File, folder: &Path, files: &mut Files) -> Result<Settings, Problem> {
    let http = file.http_server_config.unwrap_or_default();
    let tls = file.tls_server_config.unwrap_or_default();
    Ok(Settings {
        tls: tls::server_config(&tls, http.http2.unwrap_or(true), folder, files)?,
        users: users(file.basic_auth_users.unwrap_or_default())?,
        headers: headers(http.headers.unwrap_or_default())?,
        limiter: limiter(&file.rate_limit.unwrap_or_default())?,
    })
}

fn users(users: schema::Users) -> Result<Vec<(String, String)>, Problem> {
    for (name, hash) in &users.0 {
        let cost = hash.parse::<bcrypt::HashParts>().map(|parts| parts.get_cost());
        match cost {
            Ok(cost) if cost > BCRYPT_COST_MAX => {
                return Err(problem(
                    name,
                    format!(
                        "its bcrypt hash has cost {cost}, which takes too long to check; at most {BCRYPT_COST_MAX}"
                    ),
                ));
            }
            Ok(_) if !name.contains(':') => {}
            Ok(_) => return Err(problem(name, "a user name holds no colon")),
            Err(_) => {
                return Err(problem(
                    name,
                    "this is no bcrypt hash; `htpasswd -nBC 10 \"\" | tr -d ':\\n'` makes one",
                ));
            }
        }
    }
    Ok(users.0)
}

fn headers(headers: schema::Headers) -> Result<Vec<(HeaderName, HeaderValue)>, Problem> {
    let all: [(&str, HeaderName, Option<String>, &[&str]); 5] = [
        ("Content-Security-Policy", CONTENT_SECURITY_POLICY, headers.content_security_policy, &[]),
        ("Strict-Transport-Security", STRICT_TRANSPORT_SECURITY, headers.strict_transport_security, &[]),
        ("X-Content-Type-Options", X_CONTENT_TYPE_OPTIONS, headers.x_content_type_options, &["nosniff"]),
        ("X-Frame-Options", X_FRAME_OPTIONS, headers.x_frame_options, &["deny", "sameorigin"]),
        ("X-XSS-Protection", X_XSS_PROTECTION, headers.x_xss_protection, &[]),
    ];
    let mut set = Vec::new();
    for (key, name, text, choices) in all {
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        if !choices.is_empty() && !choices.contains(&text.as_str()) {
            return Err(problem(key, format!("{text:?} is not one of: {}", choices.join(", "))));
        }
        let value = HeaderValue::from_str(&text)
            .map_err(|_| problem(key, "the value holds a character that no header may have"))?;
        set.push((name, value));
    }
    Ok(set)
}

fn limiter(rate_limit: &schema::RateLimit) -> Result<Option<Limiter>, Problem> {
    let interval = match rate_limit.interval.as_deref() {
        None | Some("0") => Duration::ZERO,
        Some(text) => crate::config::units::parse_duration(text)
            .map_err(|error| problem("interval", format!("{text:?}: {error}")))?,
    };
    if interval > RATE_INTERVAL_MAX {
        return Err(problem("interval", "at most 1h; longer, nothing could be scraped"));
    }
    if interval.is_zero() {
        return Ok(None);
    }
    match rate_limit.burst {
        Some(burst) if burst > 0 => Ok(Some(Limiter::new(interval, burst))),
        _ => Err(problem(
            "rate_limit",
            "with a burst of 0 every request would be refused; set burst to 1 or more",
        )),
    }
}
