//! A size -> a BPF array map that the process and a program share.
//!
//! aya makes maps of an object only; the generator has none.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    ptr::NonNull,
};

use crate::raw_program::{bpf, own};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// The part of `union bpf_attr` that making a map reads.
#[repr(C)]
struct MapAttributes {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

/// An array of byte entries, each a multiple of eight long, in memory of the kernel.
#[derive(Debug)]
pub struct ArrayMap {
    fd: OwnedFd,
    memory: NonNull<u8>,
    memory_bytes: usize,
    entry_bytes: usize,
    entries: usize,
}

// SAFETY: the memory belongs to this value alone, like a boxed slice; the kernel's own writes are read
// by volatile loads only.
unsafe impl Send for ArrayMap {}

impl ArrayMap {
    /// An array of `entries` times `entry_bytes` zeros.
    ///
    /// # Errors
    ///
    /// What the kernel says; CAP_BPF is needed.
    pub fn create(entry_bytes: u32, entries: u32) -> anyhow::Result<Self> {
        anyhow::ensure!(
            entry_bytes.is_multiple_of(8),
            "an entry of {entry_bytes} bytes: not a multiple of eight"
        );
        let mut attributes = MapAttributes {
            map_type: BPF_MAP_TYPE_ARRAY,
            key_bytes: 4,
            value_bytes: entry_bytes,
            entries,
            flags: BPF_F_MMAPABLE,
        };
        // SAFETY: the attributes are those of this command, with their true size; no pointers in them.
        let fd = own(unsafe { bpf(BPF_MAP_CREATE, &mut attributes) }?)?;
        let (entry_bytes, entries) = (usize::try_from(entry_bytes)?, usize::try_from(entries)?);
        let page = 4096;
        let memory_bytes = (entry_bytes * entries).next_multiple_of(page);
        // SAFETY: a new mapping at an address that the kernel chooses, of a descriptor that is open.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                memory_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { fd, memory, memory_bytes, entry_bytes, entries })
    }

    /// For a program to refer to.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The bytes of one entry, while no program runs that could write there.
    pub fn entry_mut(&mut self, place: usize) -> &mut [u8] {
        assert!(place < self.entries, "entry {place} of {}", self.entries);
        // SAFETY: the entry lies inside the mapping, checked above, which lives as long as `self`; it is
        // borrowed mutably, and any bytes are valid.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory.as_ptr().add(place * self.entry_bytes),
                self.entry_bytes,
            )
        }
    }

    /// The word at `offset`, a multiple of eight, of an entry; programs may be writing it.
    #[must_use]
    pub fn word(&self, place: usize, offset: usize) -> u64 {
        assert!(place < self.entries && offset.is_multiple_of(8) && offset + 8 <= self.entry_bytes);
        // SAFETY: inside the mapping and aligned, checked above: entries are multiples of eight long.
        unsafe { self.memory.as_ptr().add(place * self.entry_bytes + offset).cast::<u64>().read_volatile() }
    }
}

impl Drop for ArrayMap {
    fn drop(&mut self) {
        // SAFETY: the mapping that `create` made, with its length; no borrow of it outlives `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.memory_bytes) };
    }
}
