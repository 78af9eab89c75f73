//! Map file descriptor -> memory that the kernel writes and we read.
//!
//! aya has no mmap-able arrays, and a system call for each look-up would cost more than the drain.

#![expect(
    unsafe_code,
    reason = "a memory map that the kernel writes to; each read is one aligned atomic load"
)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

/// A shared mapping, unmapped on drop.
#[derive(Debug)]
pub struct MemoryMap {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and all access goes through atomics or through
// methods whose callers vouch for exclusivity.
unsafe impl Send for MemoryMap {}
// SAFETY: as above; shared access is by atomic loads and stores only.
unsafe impl Sync for MemoryMap {}

impl MemoryMap {
    /// Maps `bytes` of `fd` from `offset`, which must be a multiple of the page size.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn new(fd: BorrowedFd<'_>, offset: usize, bytes: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours; the
        // descriptor is open for the call.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        Ok(Self { start, bytes })
    }

    /// The `index`-th 8-byte word as an atomic; `None` beyond the end.
    #[inline]
    #[must_use]
    pub fn word(&self, index: usize) -> Option<&AtomicU64> {
        if index >= self.bytes / 8 {
            return None;
        }
        // SAFETY: inside the mapping (checked), aligned because the mapping begins on a page, and
        // valid as long as `self`. The kernel writes it concurrently, which an atomic allows.
        Some(unsafe { &*self.start.as_ptr().cast::<AtomicU64>().add(index) })
    }

    /// Loads a word; 0 beyond the end.
    #[inline]
    #[must_use]
    pub fn load(&self, index: usize) -> u64 {
        self.word(index).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// The bytes `at..at + length`, or `None` where they are not inside.
    ///
    /// # Safety
    ///
    /// Nobody may write to them while the slice lives.
    #[inline]
    #[must_use]
    pub unsafe fn bytes(&self, at: usize, length: usize) -> Option<&[u8]> {
        if at.checked_add(length)? > self.bytes {
            return None;
        }
        // SAFETY: inside the mapping (checked); not written to, says the caller.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), length) })
    }
}

impl Drop for MemoryMap {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made; no borrow of it outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Size of a page, to which lengths of mappings round up.
#[must_use]
pub fn page_bytes() -> usize {
    // SAFETY: sysconf has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}
