//! A frame -> out of an interface, one system call each: for rates at which a test run's set-up
//! would cost more than what is measured.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;

/// A packet socket that only sends.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket that sends out of `interface`.
    ///
    /// # Errors
    ///
    /// What the kernel says; CAP_NET_RAW is needed.
    pub fn new(interface: u32) -> anyhow::Result<Self> {
        // Protocol 0: nothing is received.
        // SAFETY: socket takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("opening a packet socket; CAP_NET_RAW is needed");
        }
        // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows of it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a `sockaddr_ll` is plain numbers; all zero is a valid one.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET)?;
        address.sll_ifindex = i32::try_from(interface)?;
        let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>())?;
        // SAFETY: the address is of the family that it names, with its true length, and outlives the call.
        let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        if result < 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("binding a packet socket to the interface {interface}"));
        }
        // No queueing discipline in between, which could hold frames back.
        let on: libc::c_int = 1;
        // SAFETY: the option is an int, with its true size, and outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                libc::socklen_t::try_from(size_of::<libc::c_int>())?,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error()).context("PACKET_QDISC_BYPASS");
        }
        Ok(Self(socket))
    }

    /// Sends one frame.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        // SAFETY: the frame is readable for its length until the call returns.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error()).context("sending a frame by a packet socket");
        }
        Ok(())
    }
}
