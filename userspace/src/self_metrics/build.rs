//! Version, revision -> what this binary is.

use super::ProfileReading;
use super::families::{Families, label};
use crate::{registry::FamilyKind, version};

pub(super) fn build(out: &mut Families) {
    out.add(
        FamilyKind::Gauge,
        "rotameter_build_info",
        "A metric with a constant '1' value labeled by the version of this binary.",
        vec![(label("version", version::VERSION), 1.0)],
    );
    out.add(
        FamilyKind::Gauge,
        "statsd_exporter_build_info",
        "A metric with a constant '1' value labeled by version, revision, branch, goversion from which \
         statsd_exporter was built, and the goos and goarch for the build.",
        vec![(build_labels(), 1.0)],
    );
}

/// The profile in force, if there is one.
pub(super) fn profile(profile: Option<ProfileReading>, out: &mut Families) {
    if let Some(ProfileReading { profile, airflow_version, version_from, client }) = profile {
        let labels = [
            ("airflow_version", airflow_version),
            ("client", client),
            ("profile", profile),
            ("version_from", version_from),
        ];
        let labels = labels.map(|(key, value)| label(key, value)).join(",");
        out.add(
            FamilyKind::Gauge,
            "rotameter_profile_info",
            "A metric with a constant '1' value labeled by the profile and by what it takes for the sender.",
            vec![(labels, 1.0)],
        );
    }
}

/// The labels that a program in Go has; of Go itself there is nothing to say.
fn build_labels() -> String {
    [
        ("branch", ""),
        ("goarch", version::go_architecture()),
        ("goos", std::env::consts::OS),
        ("goversion", ""),
        ("revision", version::REVISION),
        ("tags", ""),
        ("version", version::VERSION),
    ]
    .map(|(name, value)| label(name, value))
    .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_has_the_labels_of_a_go_program() {
        let labels = build_labels();
        let names: Vec<&str> =
            labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name).collect();
        assert_eq!(names, ["branch", "goarch", "goos", "goversion", "revision", "tags", "version"]);
    }
}
