//! The build -> what the binary says of itself.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit, where the build was told.
pub const REVISION: &str = match option_env!("ROTAMETER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// The release of `statsd_exporter` whose behaviour this is.
pub const STATSD_EXPORTER: &str = "0.30.0";

/// The architecture by the name that Go has for it, as Prometheus' programs show it.
#[must_use]
pub fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
