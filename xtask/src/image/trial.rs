//! The root file system -> run as a container runtime would, in namespaces of its own.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::USER;
use crate::{command, host};

/// Starts the daemon in the root file system as the user $2, with the flags from $3 on; sends a line, asks for its health and
/// for the series. What it leaves behind ends with the namespaces.
const TRIAL: &str = r#"
root=$1 user=$2; shift 2
ip link set lo up
mount -t proc proc "$root/proc"
mount --bind /sys "$root/sys"
chroot --userspec="$user" "$root" /usr/bin/rotameter "$@" 2> >(sed 's/^/  /' >&2) &
daemon=$!
for _ in $(seq 100); do
    chroot --userspec="$user" "$root" /usr/bin/rotameter healthcheck --ready 2>/dev/null && break
    kill -0 $daemon 2>/dev/null || { echo "the daemon ended" >&2; exit 1; }
    sleep 0.1
done
chroot --userspec="$user" "$root" /usr/bin/rotameter healthcheck
echo 'image.trial:3|c' > /dev/udp/127.0.0.1/9125
exec 3<>/dev/tcp/127.0.0.1/9102
printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
cat <&3
kill -TERM $daemon
wait $daemon
"#;

/// As the image's user by sockets; and as root with the socket filter, where this machine may load it.
pub(super) fn run(root: &Path) -> Result<()> {
    if !host::is_root() {
        bail!(
            "--check needs root, to change into the root file system: sudo -E env PATH=$PATH cargo xtask image --check"
        );
    }
    let user = format!("{USER}:{USER}");
    let metrics = trial(root, &user, &["--ebpf=off"]).context("running the image as its user")?;
    expect(&metrics, "image_trial 3")?;
    println!("the image runs as {user}, without a capability");
    if !host::may_load_bpf() {
        println!("not tried: counting in the kernel, for which rights are missing here");
        return Ok(());
    }
    let metrics =
        trial(root, "0:0", &["--ebpf=required"]).context("running the image with its doors open")?;
    expect(&metrics, "image_trial 3")?;
    expect(&metrics, "rotameter_door_open{door=\"socket_filter\"} 1")?;
    println!("the image counts in the kernel");
    Ok(())
}

fn trial(root: &Path, user: &str, flags: &[&str]) -> Result<String> {
    let mut trial = Command::new("unshare");
    trial.args([
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "timeout",
        "60",
        "bash",
        "-euc",
        TRIAL,
        "trial",
    ]);
    command::output(trial.arg(root).arg(user).args(flags))
}

fn expect(metrics: &str, line: &str) -> Result<()> {
    if metrics.lines().any(|found| found == line) {
        return Ok(());
    }
    bail!("the metrics lack the line {line}")
}
