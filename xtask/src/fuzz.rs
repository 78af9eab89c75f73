//! Fuzz targets and recorded traffic -> inputs that break a promise, if there are any.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::command::{self, cargo};
use crate::setup::{self, Purpose};
use crate::{capture, host, paths};

/// Seeds beyond this many distinct payloads only repeat shapes that are already there.
const SEEDS_MAX: usize = 2_000;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// One fuzz target; without it, each in turn
    target: Option<String>,
    /// How long to fuzz each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

pub(crate) fn main(options: &Options) -> Result<()> {
    let folder = paths::root().join("tests/fuzz");
    if !folder.join("Cargo.toml").is_file() {
        bail!("there are no fuzz targets: {} is missing", folder.join("Cargo.toml").display());
    }
    setup::ensure(&[Purpose::Fuzz])?;
    let targets = match &options.target {
        Some(target) => vec![target.clone()],
        None => list(&folder)?,
    };
    for target in targets {
        let corpus = paths::target().join("fuzz/corpus").join(&target);
        let seeds = seed(&corpus)?;
        eprintln!("fuzz: {target} for {} s, from {seeds} recorded payloads", options.seconds);
        // Where the recordings are the wrong kind of input, files beside the target are the right one.
        let seeds = Some(folder.join("seeds").join(&target)).filter(|folder| folder.is_dir());
        command::run(
            fuzz(&folder)?
                .arg("run")
                .arg("--fuzz-dir")
                .arg(&folder)
                .arg(&target)
                .arg(&corpus)
                .args(seeds)
                .args([
                    "--",
                    &format!("-max_total_time={}", options.seconds),
                    "-print_final_stats=1",
                    "-timeout=10",
                ]),
        )
        .with_context(|| {
            format!("fuzz target {target}; the input that failed lies in tests/fuzz/artifacts")
        })?;
    }
    Ok(())
}

fn fuzz(folder: &Path) -> Result<std::process::Command> {
    let program = host::find_program("cargo-fuzz").context("cargo-fuzz is gone; `cargo xtask setup`")?;
    let mut command = std::process::Command::new(program);
    // Sanitizer coverage is a compiler flag that stable hides.
    command.arg("fuzz").env("RUSTC_BOOTSTRAP", "1").current_dir(folder);
    Ok(command)
}

/// Names of the fuzz crate's binaries.
fn list(folder: &Path) -> Result<Vec<String>> {
    let mut metadata = cargo();
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(folder);
    let metadata: serde_json::Value =
        serde_json::from_str(&command::output(&mut metadata)?).context("reading cargo metadata")?;
    let targets = metadata["packages"].as_array().into_iter().flatten();
    let targets = targets.filter_map(|package| package["targets"].as_array()).flatten();
    let binaries = targets.filter(|target| target["kind"][0] == "bin");
    Ok(binaries.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect())
}

/// Writes distinct payloads of the recordings into the folder; returns how many.
fn seed(corpus: &Path) -> Result<usize> {
    fs::create_dir_all(corpus).with_context(|| format!("creating {}", corpus.display()))?;
    let captures = capture::list()?;
    let share = SEEDS_MAX / captures.len().max(1);
    let mut seen = HashSet::new();
    for file in &captures {
        let mut left = share;
        for datagram in capture::read(file)? {
            if left == 0 {
                break;
            }
            if seen.insert(datagram.payload.clone()) {
                left -= 1;
                let seed = corpus.join(format!("recorded-{:04}", seen.len()));
                fs::write(&seed, &datagram.payload).with_context(|| format!("writing {}", seed.display()))?;
            }
        }
    }
    Ok(seen.len())
}
