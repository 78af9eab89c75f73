//! A root file system -> an OCI image layout as one tar, which Docker loads too.
//!
//! Source: opencontainers/image-spec `image-layout.md`, `config.md`, `manifest.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::USER;
use crate::command;

/// Writes `rotameter.tar` into `folder`; the same root gives the same bytes.
pub(super) fn write(root: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let layout = folder.join("layout");
    if layout.exists() {
        fs::remove_dir_all(&layout).with_context(|| format!("removing {}", layout.display()))?;
    }
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("creating {}", blobs.display()))?;

    let layer = folder.join("layer.tar");
    tar(root, &layer)?;
    let layer = keep(&blobs, &layer, "application/vnd.oci.image.layer.v1.tar")?;
    let config = add(&blobs, &config(&layer), "application/vnd.oci.image.config.v1+json")?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let mut manifest = add(&blobs, &manifest, "application/vnd.oci.image.manifest.v1+json")?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": format!("docker.io/library/{name}")});
    let path = |blob: &Value| format!("blobs/sha256/{}", digits(blob));
    for (file, content) in [
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ("index.json", json!({"schemaVersion": 2, "manifests": [manifest]})),
        // Docker's own index, by which versions before 25 load.
        ("manifest.json", json!([{"Config": path(&config), "RepoTags": [name], "Layers": [path(&layer)]}])),
    ] {
        let file = layout.join(file);
        fs::write(&file, content.to_string()).with_context(|| format!("writing {}", file.display()))?;
    }
    let image = folder.join("rotameter.tar");
    tar(&layout, &image)?;
    fs::remove_dir_all(&layout).with_context(|| format!("removing {}", layout.display()))?;
    Ok(image)
}

fn config(layer: &Value) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Entrypoint": ["/usr/bin/rotameter"],
            "ExposedPorts": {"9102/tcp": {}, "9125/tcp": {}, "9125/udp": {}, "8125/udp": {}},
            "Healthcheck": {
                "Test": ["CMD", "/usr/bin/rotameter", "healthcheck"],
                "Interval": 10_000_000_000_u64,
                "Timeout": 6_000_000_000_u64,
            },
            "Labels": {
                "org.opencontainers.image.title": "rotameter",
                "org.opencontainers.image.description": "StatsD in, Prometheus out, for large Apache Airflow fleets",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created_by": "cargo xtask image"}],
    })
}

/// Packs what is in the folder; order, owners and times do not depend on the machine.
fn tar(folder: &Path, into: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=ustar", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args(["--mtime=@0", "--file"]).arg(into).arg("--directory").arg(folder).arg(".");
    command::run_silently(&mut tar)
}

fn add(blobs: &Path, content: &Value, media_type: &str) -> Result<Value> {
    let file = blobs.join("new");
    fs::write(&file, content.to_string()).with_context(|| format!("writing {}", file.display()))?;
    keep(blobs, &file, media_type)
}

/// Moves a file to where its digest says, and returns its descriptor.
fn keep(blobs: &Path, file: &Path, media_type: &str) -> Result<Value> {
    let digest = command::output(Command::new("sha256sum").arg(file))?;
    let digest = digest.split(' ').next().context("sha256sum printed nothing")?.to_owned();
    let size = fs::metadata(file).with_context(|| format!("reading {}", file.display()))?.len();
    let blob = blobs.join(&digest);
    fs::rename(file, &blob).with_context(|| format!("renaming {} into place", file.display()))?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
}

fn digits(blob: &Value) -> &str {
    blob["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_is_where_its_digest_says() {
        let folder = std::env::temp_dir().join(format!("rotameter-layout-{}", std::process::id()));
        let root = folder.join("root");
        fs::create_dir_all(root.join("etc")).expect("room for a folder");
        fs::write(root.join("etc/passwd"), "root:x:0:0").expect("room for a file");
        let image = write(&root, &folder, "rotameter:1.2").expect("an image");
        let once = fs::read(&image).expect("the image is there");
        let unpacked = folder.join("unpacked");
        fs::create_dir(&unpacked).expect("room for a folder");
        command::run_silently(Command::new("tar").arg("-xf").arg(&image).arg("-C").arg(&unpacked))
            .expect("a tar");
        let json = |file: &str| -> Value {
            serde_json::from_slice(&fs::read(unpacked.join(file)).expect("the file is there")).expect("JSON")
        };
        let manifest = json(&format!("blobs/sha256/{}", digits(&json("index.json")["manifests"][0])));
        let config = json(&format!("blobs/sha256/{}", digits(&manifest["config"])));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        for blob in fs::read_dir(unpacked.join("blobs/sha256")).expect("blobs").flatten() {
            let sum = command::output(Command::new("sha256sum").arg(blob.path())).expect("sha256sum runs");
            assert!(sum.starts_with(&*blob.file_name().to_string_lossy()), "{sum}");
        }
        assert_eq!(json("manifest.json")[0]["RepoTags"][0], "rotameter:1.2");
        assert_eq!(
            fs::read(write(&root, &folder, "rotameter:1.2").expect("an image")).expect("it is there"),
            once
        );
        fs::remove_dir_all(&folder).expect("the folder is ours");
    }
}
