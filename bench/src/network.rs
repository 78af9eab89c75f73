//! A thread -> a network namespace of its own with a veth pair.
//!
//! The namespace has no name and belongs to the thread: with the last thread and process in it the
//! kernel removes it, the pair and all that is attached, also after a Ctrl-C or `kill -9`. Both ends
//! lie in the one namespace: a frame that is put in at one end reaches the other as from a wire.

use std::{fs, io, process::Command, thread};

use anyhow::Context as _;

/// The end from which frames are sent, address 10.77.0.2 by its frames only.
pub const SENDING: &str = "rmsend";
/// The end that receives: 10.77.0.1, MAC 02::1, as `frame()` addresses it.
pub const RECEIVING: &str = "rmdoor";

/// The receiving end of the second pair, and its address; the MAC is the same.
pub const SECOND_RECEIVING: &str = "rmdoor2";
pub const SECOND_ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 78, 0, 1);

/// The veth pair of the calling thread's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Index of the sending end.
    pub sending: u32,
    /// Index of the receiving end.
    pub receiving: u32,
}

/// What the receiving end has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    pub frames: u64,
    /// Frames for which the pair itself had no room.
    pub dropped: u64,
}

/// Runs `work` on a thread in a namespace of its own with a veth pair; threads and processes that it
/// starts live there, too.
///
/// # Errors
///
/// The pair cannot be had, or `work` fails.
pub fn within<T: Send>(work: impl FnOnce(Pair) -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(move || {
            unshare().context("making a network namespace; CAP_SYS_ADMIN is needed")?;
            work(pair()?)
        });
        thread.join().unwrap_or_else(|_| anyhow::bail!("a scenario panicked"))
    })
}

/// Keeps the calling thread, and threads that it starts from now on, on one CPU.
///
/// # Errors
///
/// There is no such CPU, or not for us.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    // SAFETY: a `cpu_set_t` is a bit mask; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    anyhow::ensure!(cpu < 8 * size_of::<libc::cpu_set_t>(), "CPU {cpu}: too high a number");
    // SAFETY: the index is inside the set, checked above.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is initialised and has the size given; 0 means the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    anyhow::ensure!(result == 0, "pinning a thread to CPU {cpu}: {}", io::Error::last_os_error());
    Ok(())
}

/// Lets the calling thread run on every CPU again.
pub fn unpin() {
    let set = all_cpus();
    // SAFETY: the set is initialised and has the size given; 0 means the calling thread.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
}

/// Every CPU that a set can name; the kernel leaves out what is not there.
pub(crate) fn all_cpus() -> libc::cpu_set_t {
    // SAFETY: a `cpu_set_t` is a bit mask; all zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for cpu in 0..8 * size_of::<libc::cpu_set_t>() {
        // SAFETY: the index is inside the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    set
}

/// Reads what a receiving end has counted.
///
/// # Errors
///
/// `/proc` is not mounted, or the interface is gone.
pub fn received(interface: &str) -> anyhow::Result<Received> {
    let text =
        fs::read_to_string("/proc/thread-self/net/dev").context("reading /proc/thread-self/net/dev")?;
    let row = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))
        .with_context(|| format!("{interface}: no such interface"))?;
    let mut fields = row.split_whitespace().map(str::parse::<u64>);
    // bytes packets errs drop ...
    let mut field = |at| fields.nth(at).and_then(Result::ok).context("/proc/thread-self/net/dev: odd row");
    Ok(Received { frames: field(1)?, dropped: field(1)? })
}

fn unshare() -> io::Result<()> {
    // SAFETY: unshare takes a number and touches no memory of ours.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn pair() -> anyhow::Result<Pair> {
    ip(&["link", "set", "lo", "up"])?;
    lay(SENDING, RECEIVING, "10.77.0.1/16")
}

/// Another pair in the calling thread's namespace: for a second generator, or something to compare with.
///
/// # Errors
///
/// It cannot be had.
pub fn second_pair() -> anyhow::Result<Pair> {
    lay("rmsend2", SECOND_RECEIVING, &format!("{SECOND_ADDRESS}/16"))
}

/// A device in the calling thread's namespace that throws away what is sent, for its other end is down, and
/// an address behind it.
///
/// # Errors
///
/// It cannot be had.
pub fn void() -> anyhow::Result<std::net::Ipv4Addr> {
    ip(&["link", "add", "rmvoid", "type", "veth", "peer", "name", "rmvoid2"])?;
    ip(&["address", "add", "10.79.0.1/24", "dev", "rmvoid"])?;
    ip(&["link", "set", "rmvoid", "up"])?;
    ip(&[
        "neighbour",
        "add",
        "10.79.0.2",
        "lladdr",
        "02:00:00:00:00:03",
        "dev",
        "rmvoid",
        "nud",
        "permanent",
    ])?;
    Ok(std::net::Ipv4Addr::new(10, 79, 0, 2))
}

fn lay(sending: &str, receiving: &str, address: &str) -> anyhow::Result<Pair> {
    ip(&[
        "link",
        "add",
        sending,
        "address",
        "02:00:00:00:00:02",
        "type",
        "veth",
        "peer",
        "name",
        receiving,
        "address",
        "02:00:00:00:00:01",
    ])?;
    ip(&["address", "add", address, "dev", receiving])?;
    ip(&["link", "set", sending, "up"])?;
    ip(&["link", "set", receiving, "up"])?;
    Ok(Pair { sending: index(sending)?, receiving: index(receiving)? })
}

/// iproute2, in the calling thread's namespace.
fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output =
        Command::new("ip").args(arguments).output().context("starting `ip`; the package iproute2 has it")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

fn index(name: &str) -> anyhow::Result<u32> {
    let name = std::ffi::CString::new(name)?;
    // SAFETY: a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    anyhow::ensure!(index != 0, "{}: {}", name.to_string_lossy(), io::Error::last_os_error());
    Ok(index)
}
