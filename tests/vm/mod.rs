//! Files, a command -> what it prints on an older kernel, in a virtual machine without KVM.
//!
//! The machine is a kernel image and a memory image that we write ourselves: busybox, the files
//! given with the libraries they need, and an init that runs one command and powers off.

mod cpio;
mod files;

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use cpio::Archive;

/// Beyond this the machine is stopped: a program that prints without end must not fill our memory.
const LOG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Stands before the exit code on the console, where nothing else prints it.
const EXIT_MARK: &str = "rotameter-vm-exit:";

/// Kernel modules that are loaded before the command, each after what it depends on.
const MODULES: &[&str] = &["veth", "dummy"];

/// Enough for the memory image twice (packed and unpacked), the maps, and the daemon.
const MEMORY: &str = "1024M";

/// What the command did.
#[derive(Debug)]
pub(crate) struct VmOutput {
    /// Exit code of the command.
    pub(crate) exit: i32,
    /// Everything that appeared on the serial console, the kernel's own messages included.
    pub(crate) log: String,
}

/// Boots the older kernel, runs `command` by a shell as root, and powers off.
///
/// Each of `files` is put at the path beside it, with its mode; of a dynamically linked program
/// the shared libraries come along. The command finds `/proc`, `/sys`, `/sys/fs/bpf`, `/dev`, a
/// writable `/tmp`, `lo` up, and busybox' tools in `PATH`.
///
/// # Errors
///
/// A tool that is missing, with the command that installs it; a file that cannot be read; a
/// machine that did not power off within `timeout`, or ended without running the command, both
/// with the end of its log.
pub(crate) fn run_in_vm(files: &[(PathBuf, &str)], command: &str, timeout: Duration) -> Result<VmOutput> {
    let kernel = tool("ROTAMETER_VM_KERNEL")?;
    let folder = tempfile::tempdir().context("creating a folder for the memory image")?;
    let image = folder.path().join("initramfs.cpio");
    let archive = memory_image(files, command, &kernel)?;
    std::fs::write(&image, archive).context("writing the memory image")?;

    let mut machine = Machine::start(&tool("ROTAMETER_QEMU")?, &kernel, &image)?;
    let log = machine.console(Instant::now() + timeout)?;
    match exit_code(&log) {
        Some(exit) => Ok(VmOutput { exit, log }),
        None => bail!("the machine ended without running the command; its log ends with:\n{}", tail(&log)),
    }
}

/// A path that `cargo xtask test` hands in by a variable.
fn tool(variable: &str) -> Result<PathBuf> {
    let path = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
    path.with_context(|| format!("{variable} names no file; `cargo xtask test` installs it and sets this"))
}

fn memory_image(files: &[(PathBuf, &str)], command: &str, kernel: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "tmp", "run", "root"] {
        archive.folder(folder);
    }
    archive.file_from("bin/busybox", &tool("ROTAMETER_VM_BUSYBOX")?)?;
    archive.link("bin/sh", "busybox");
    let modules = files::modules(kernel, MODULES)?;
    let mut load = String::new();
    for module in &modules {
        let name = module.file_name().context("a module without a name")?.to_string_lossy();
        archive.file_from(&format!("modules/{name}"), module)?;
        load.push_str(&format!("insmod /modules/{name}\n"));
    }
    for (from, to) in files {
        archive.file_from(to, from)?;
        for library in files::libraries(from)? {
            archive.file_from(&library.to_string_lossy(), &library)?;
        }
    }
    archive.file("command", 0o755, command.as_bytes());
    archive.file("init", 0o755, init(&load).as_bytes());
    Ok(archive.finish())
}

/// The whole life of the machine.
fn init(load_modules: &str) -> String {
    format!(
        "#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
/bin/busybox mkdir -p /sbin /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
{load_modules}sh /command </dev/null 2>&1
echo \"{EXIT_MARK}$?\"
poweroff -f
"
    )
}

fn exit_code(log: &str) -> Option<i32> {
    let (_, after) = log.rsplit_once(EXIT_MARK)?;
    after.lines().next()?.trim().parse().ok()
}

/// The end of a log, for an error message.
fn tail(log: &str) -> &str {
    let start = log.len().saturating_sub(4_000);
    let start = (start..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(log.len());
    &log[start..]
}

/// A running qemu; dropped, it is killed and reaped.
struct Machine(Child);

impl Machine {
    fn start(qemu: &Path, kernel: &Path, image: &Path) -> Result<Self> {
        let mut command = Command::new(qemu);
        // Software emulation on purpose: it works in every container and on every CI machine.
        command.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]);
        // A kernel that panics reboots at once, and qemu ends instead of rebooting.
        // No check of the timer: on a busy machine the emulated one comes too late to pass it.
        let kernel_options = "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init";
        command.args(["-no-reboot", "-append", kernel_options]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(image);
        let machine = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        machine.map(Self).with_context(|| format!("starting {}", qemu.display()))
    }

    /// Everything on the console until the machine ends.
    fn console(&mut self, deadline: Instant) -> Result<String> {
        let mut serial = self.0.stdout.take().context("the console was read already")?;
        let (to_us, pieces) = mpsc::sync_channel::<Vec<u8>>(16);
        // A thread, because a pipe has no read with a deadline. It ends when qemu does.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = serial.read(&mut buffer) {
                if to_us.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut log = Vec::new();
        loop {
            match pieces.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(piece) => log.extend_from_slice(&piece),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let log = text(&log);
                    bail!("the machine did not power off in time; its log ends with:\n{}", tail(&log));
                }
            }
            if log.len() > LOG_BYTES_MAX {
                bail!(
                    "the machine printed more than {LOG_BYTES_MAX} bytes; it ends with:\n{}",
                    tail(&text(&log))
                );
            }
        }
        Ok(text(&log))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A serial console ends its lines with carriage return and line feed.
fn text(log: &[u8]) -> String {
    String::from_utf8_lossy(log).replace('\r', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A boot takes about ten seconds; a busy machine may take several times that.
    const BOOT_MAX: Duration = Duration::from_secs(180);

    #[test]
    #[ignore = "needs qemu and a 6.1 kernel image"]
    fn the_virtual_machine_runs_linux_6_1() {
        let output = run_in_vm(&[], "uname -r; ip link add v0 type veth peer name v1", BOOT_MAX)
            .expect("the machine boots");
        assert_eq!(output.exit, 0, "{}", output.log);
        assert!(output.log.lines().any(|line| line.starts_with("6.1.")), "{}", output.log);
    }

    #[test]
    #[ignore = "needs qemu and a 6.1 kernel image"]
    fn a_dynamically_linked_program_runs_and_its_exit_code_comes_back() {
        let program = PathBuf::from("/bin/bash");
        let output =
            run_in_vm(&[(program, "/bin/bash")], "/bin/bash -c 'echo $BASH_VERSION; exit 7'", BOOT_MAX)
                .expect("the machine boots");
        assert_eq!(output.exit, 7, "{}", output.log);
    }

    #[test]
    fn the_exit_code_is_the_last_one_on_the_console() {
        assert_eq!(exit_code("x\nrotameter-vm-exit:0\nrotameter-vm-exit:3\n[  1.0] reboot"), Some(3));
        assert_eq!(exit_code("Kernel panic"), None);
    }

    #[test]
    fn the_tail_of_a_log_keeps_characters_whole() {
        let log = "ä".repeat(3_000);
        assert!(tail(&log).len() <= 4_000 && tail(&log).starts_with('ä'));
    }
}
