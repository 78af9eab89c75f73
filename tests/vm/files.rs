//! A program or a kernel module -> the files that it needs beside itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Shared libraries of a program with the dynamic linker; none for a static one or another file.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("starting ldd")?;
    // It fails for whatever is not dynamically linked, such as a script or the kernel object.
    if !output.status.success() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{} needs a library that is not here: {}", program.display(), line.trim());
    }
    Ok(text.lines().filter_map(library).collect())
}

/// The path in `libc.so.6 => /lib/libc.so.6 (0x...)` or `/lib64/ld-linux-x86-64.so.2 (0x...)`.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_once("=>").map_or(line, |(_, path)| path);
    let path = path.split_whitespace().next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

/// Files of the named modules in an order in which they can be loaded. A name without a file is
/// built into the kernel.
pub(super) fn modules(kernel: &Path, names: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = kernel
        .parent()
        .and_then(Path::parent)
        .map(|root| root.join("lib/modules"))
        .with_context(|| format!("{} does not lie in a boot folder", kernel.display()))?;
    let mut files = Vec::new();
    collect(&folder, &mut files)?;
    let mut order = Vec::new();
    for name in names {
        add_module(name, &files, &mut order)?;
    }
    Ok(order)
}

/// Adds what the module depends on, then the module. The kernel's build refuses circles.
fn add_module(name: &str, files: &[PathBuf], order: &mut Vec<PathBuf>) -> Result<()> {
    let wanted = name.replace('-', "_");
    let is_wanted = |file: &&PathBuf| {
        file.file_stem().is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == wanted)
    };
    let Some(file) = files.iter().find(is_wanted) else { return Ok(()) };
    if order.contains(file) {
        return Ok(());
    }
    let content = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    for dependency in dependencies(&content) {
        add_module(&dependency, files, order)?;
    }
    order.push(file.clone());
    Ok(())
}

/// Names behind `depends=` in the module's information section.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else { return Vec::new() };
    let list = module[at + KEY.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let list = String::from_utf8_lossy(list);
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?.flatten() {
        // Not following links: a package's tree has none that matter, and no circle then either.
        let kind = entry.file_type().with_context(|| format!("looking at {}", entry.path().display()))?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if entry.path().extension().is_some_and(|end| end == "ko") {
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<&str>) {
        assert_eq!(library(line), expected.map(PathBuf::from));
    }

    #[test]
    fn libraries_are_read_from_both_forms_of_line() {
        check("\tlibc.so.6 => /lib/libc.so.6 (0x00007f)", Some("/lib/libc.so.6"));
        check("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)", Some("/lib64/ld-linux-x86-64.so.2"));
    }

    #[test]
    fn the_kernels_own_library_has_no_file() {
        check("\tlinux-vdso.so.1 (0x00007f)", None);
    }

    #[test]
    fn dependencies_of_a_module_are_a_list_that_may_be_empty() {
        assert_eq!(dependencies(b"x\0license=GPL\0depends=garp,mrp\0name=8021q\0"), ["garp", "mrp"]);
        assert!(dependencies(b"x\0depends=\0name=veth\0").is_empty());
    }
}
