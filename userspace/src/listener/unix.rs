//! Unix address -> bound socket -> its file, taken away at the end.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use super::socket::BACKLOG;
use crate::config::UnixAddress;

/// A socket's file. Dropping it removes the file, unless another one stands there by now.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if ours {
            // If it cannot be removed, the next start finds it stale and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket that does not block; a stream socket listens already. A file that a daemon left
/// behind is replaced.
///
/// `mode` holds permission bits for the file; `None` leaves what the umask gives. At no moment does
/// the file grant more than `mode`.
pub(super) fn bind(
    address: &UnixAddress,
    kind: Type,
    mode: Option<u32>,
) -> io::Result<(Socket, Option<SocketFile>)> {
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    let file = match address {
        UnixAddress::Abstract(_) => {
            socket.bind(&socket_address(address)?)?;
            None
        }
        UnixAddress::Path(path) => {
            if let Some(mode) = mode {
                // The file is made with the socket's own mode less the umask.
                fchmod(&socket, Mode::from_raw_mode(mode))?;
            }
            match socket.bind(&socket_address(address)?) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    remove_stale(path, kind)?;
                    socket.bind(&socket_address(address)?)?;
                }
                bound => bound?,
            }
            Some(SocketFile::found(path, mode)?)
        }
    };
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok((socket, file))
}

fn socket_address(address: &UnixAddress) -> io::Result<SockAddr> {
    match address {
        UnixAddress::Path(path) => SockAddr::unix(path),
        UnixAddress::Abstract(name) => SockAddr::unix(format!("\0{name}")),
    }
}

/// Removes the file of a socket that nobody listens on any more.
fn remove_stale(path: &Path, kind: Type) -> io::Result<()> {
    let in_the_way = |why: &str| Err(io::Error::other(why.to_owned()));
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return in_the_way("a file that is no socket is in the way; remove it");
    }
    let probe = Socket::new(Domain::UNIX, kind, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            in_the_way("a socket is there that we may not connect to; if nobody uses it, remove it")
        }
        // Connected; or it is of the other kind, or its queue is full: somebody has it.
        _ => in_the_way("another process listens there; stop it"),
    }
}

impl SocketFile {
    /// The file that was just made at `path`, with exactly the bits of `mode`.
    fn found(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        // By a handle on the file itself: a link that takes its place meanwhile is not followed.
        let handle =
            OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
        let metadata = handle.metadata()?;
        if !metadata.file_type().is_socket() {
            return Err(io::Error::other("somebody replaced the socket that was just made"));
        }
        let file = Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() };
        if let Some(mode) = mode.filter(|mode| metadata.mode() & 0o7777 != *mode) {
            set_mode(&handle, mode)?;
        }
        Ok(file)
    }
}

/// Adds what the umask took off. A handle without the right to read knows no `fchmod` before Linux
/// 6.6, but its name in `/proc` does.
fn set_mode(handle: &File, mode: u32) -> io::Result<()> {
    fs::set_permissions(format!("/proc/self/fd/{}", handle.as_raw_fd()), Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    fn address(path: &Path) -> UnixAddress {
        path.to_str().unwrap().parse().unwrap()
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_socket_file_has_its_mode_and_goes_with_its_guard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for mode in [0o755, 0o777, 0o600, 0o000] {
            let (_socket, file) = bind(&address(&path), Type::DGRAM, Some(mode)).unwrap();
            assert_eq!(mode_of(&path), mode);
            drop(file);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_stale_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        for kind in [Type::DGRAM, Type::STREAM] {
            drop(UnixDatagram::bind(&path).unwrap());
            assert!(path.exists(), "closing a socket leaves its file");
            let (_socket, file) = bind(&address(&path), kind, Some(0o700)).unwrap();
            drop(file);
        }
    }

    #[test]
    fn what_is_not_stale_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let refused = |path: &Path, kind| bind(&address(path), kind, None).unwrap_err().to_string();
        for kind in [Type::DGRAM, Type::STREAM] {
            let datagram = UnixDatagram::bind(&path).unwrap();
            assert_eq!(refused(&path, kind), "another process listens there; stop it");
            drop(datagram);
            fs::remove_file(&path).unwrap();
            let stream = UnixListener::bind(&path).unwrap();
            assert_eq!(refused(&path, kind), "another process listens there; stop it");
            drop(stream);
            fs::remove_file(&path).unwrap();
            fs::write(&path, "precious").unwrap();
            assert!(refused(&path, kind).contains("no socket"));
            assert_eq!(fs::read(&path).unwrap(), b"precious");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_that_took_our_place_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (_socket, file) = bind(&address(&path), Type::DGRAM, None).unwrap();
        // Kept under another name, so that its inode is not given away again.
        fs::rename(&path, folder.path().join("old")).unwrap();
        let _other = UnixDatagram::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn an_abstract_name_has_no_file() {
        let name = format!("@rotameter-unix-{}", std::process::id());
        let (_socket, file) = bind(&name.parse().unwrap(), Type::STREAM, Some(0o700)).unwrap();
        assert!(file.is_none());
        assert!(bind(&name.parse().unwrap(), Type::STREAM, None).is_err());
    }
}
