//! A few BPF instructions -> a loaded XDP program that always answers the same.
//!
//! Assembled by hand, so that what is compared with (an empty program, a bare `XDP_DROP`) holds
//! nothing of ours and of no compiler. aya loads objects only, hence bpf(2) itself.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;

/// What the program returns: `enum xdp_action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Action {
    Drop = 1,
    Pass = 2,
    /// Out of the interface that the frame seems to have come in on.
    Transmit = 3,
}

/// A loaded program.
#[derive(Debug)]
pub struct RawProgram {
    fd: OwnedFd,
}

/// A program on an interface; dropping it takes the program off, as does the end of the process.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

// From `include/uapi/linux/bpf.h` and `if_link.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// `struct bpf_insn`: opcode, registers, offset, immediate.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction(u8, u8, i16, u32);

impl Instruction {
    #[must_use]
    pub const fn new(opcode: u8, registers: u8, offset: i16, immediate: u32) -> Self {
        Self(opcode, registers, offset, immediate)
    }

    /// How far it jumps, if it is a jump.
    #[must_use]
    pub const fn jump(&self) -> Option<i16> {
        const CALL: u8 = 0x85;
        const EXIT: u8 = 0x95;
        let jumps = self.0 & 7 == 5 && self.0 != CALL && self.0 != EXIT;
        if jumps { Some(self.2) } else { None }
    }
}

/// The part of `union bpf_attr` that loading reads.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

/// The part of `union bpf_attr` that a test run reads and writes.
#[repr(C)]
#[derive(Default)]
struct TestRunAttributes {
    program: u32,
    return_value: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_bytes: u32,
    context_out_bytes: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// `struct xdp_md`.
#[repr(C)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_interface: u32,
    receive_queue: u32,
    egress_interface: u32,
}

/// The part of `union bpf_attr` that a link is made from.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

impl RawProgram {
    /// Loads a program that returns `action` for every frame.
    ///
    /// # Errors
    ///
    /// What the kernel says; CAP_BPF and CAP_NET_ADMIN are needed.
    pub fn load(action: Action) -> anyhow::Result<Self> {
        // r0 = action; exit
        Self::from_instructions(&[Instruction(0xb7, 0, 0, action as u32), Instruction(0x95, 0, 0, 0)])
    }

    /// Loads a program of these instructions.
    ///
    /// # Errors
    ///
    /// What the kernel says; CAP_BPF and CAP_NET_ADMIN are needed.
    pub fn from_instructions(instructions: &[Instruction]) -> anyhow::Result<Self> {
        let license = c"GPL";
        let attributes = LoadAttributes {
            program_type: BPF_PROG_TYPE_XDP,
            instruction_count: u32::try_from(instructions.len())?,
            instructions: instructions.as_ptr().addr() as u64,
            license: license.as_ptr().addr() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *b"rotameter_bench\0",
            interface: 0,
            expected_attach_type: BPF_XDP,
        };
        // SAFETY: the attributes are those of this command, with their true size; instructions and
        // license live until the call returns, and the kernel copies both.
        let fd = unsafe { bpf(BPF_PROG_LOAD, &mut { attributes }) }
            .context("loading an XDP program; CAP_BPF and CAP_NET_ADMIN are needed")?;
        Ok(Self { fd: own(fd)? })
    }

    /// Attaches the program to an interface of the calling thread's network namespace, native mode.
    ///
    /// # Errors
    ///
    /// What the kernel says, with the interface's index.
    pub fn attach(&self, interface: u32) -> anyhow::Result<Attached> {
        let attributes = LinkAttributes {
            program: self.number()?,
            interface,
            attach_type: BPF_XDP,
            flags: XDP_FLAGS_DRV_MODE,
        };
        // SAFETY: the attributes are those of this command, with their true size; no pointers in them.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &mut { attributes }) }
            .with_context(|| format!("attaching XDP to the interface {interface} in native mode"))?;
        Ok(Attached { _link: own(fd)? })
    }

    /// Runs the program `repeat` times over `frame`, which goes nowhere; returns the time of one run
    /// in nanoseconds, as the kernel takes it: time for which others had the CPU is not in it.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> anyhow::Result<u32> {
        self.run(frame, TestRunAttributes { repeat, ..TestRunAttributes::default() })
            .context("running an empty XDP program")
    }

    /// Runs the program `count` times over `frame` as if it had come in on `interface`, and does to
    /// real frames what it returns, `batch` at a time, on the calling thread's CPU.
    ///
    /// # Errors
    ///
    /// What the kernel says. Both ends of a veth need an XDP program for this.
    pub fn run_live(&self, frame: &[u8], interface: u32, count: u32, batch: u32) -> anyhow::Result<()> {
        let context = XdpContext {
            data: 0,
            data_end: u32::try_from(frame.len())?,
            data_meta: 0,
            ingress_interface: interface,
            receive_queue: 0,
            egress_interface: 0,
        };
        let attributes = TestRunAttributes {
            repeat: count,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            batch,
            context_in: (&raw const context).addr() as u64,
            context_in_bytes: u32::try_from(size_of::<XdpContext>())?,
            ..TestRunAttributes::default()
        };
        self.run(frame, attributes).context(
            "sending live frames by BPF_PROG_TEST_RUN; Linux 5.18 and later have BPF_F_TEST_XDP_LIVE_FRAMES",
        )?;
        Ok(())
    }

    fn run(&self, frame: &[u8], attributes: TestRunAttributes) -> anyhow::Result<u32> {
        let mut attributes = TestRunAttributes {
            program: self.number()?,
            data_in: frame.as_ptr().addr() as u64,
            data_in_bytes: u32::try_from(frame.len())?,
            ..attributes
        };
        loop {
            // SAFETY: the attributes are those of this command, with their true size; the frame and
            // the context, if there is one, outlive the call and have the lengths given; no output
            // buffer is named, so the kernel writes to the attributes only.
            match unsafe { bpf(BPF_PROG_TEST_RUN, &mut attributes) } {
                Ok(_) => return Ok(attributes.duration),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn number(&self) -> anyhow::Result<u32> {
        Ok(u32::try_from(self.fd.as_raw_fd())?)
    }
}

/// bpf(2).
///
/// # Safety
///
/// `attributes` has the layout that `command` reads, and every address in it is valid for the kernel
/// to read, or write where the command does, until the call returns.
pub(crate) unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: as the caller says; the kernel reads and writes no more than the size that it is given.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub(crate) fn own(fd: libc::c_long) -> anyhow::Result<OwnedFd> {
    let fd = i32::try_from(fd)?;
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
