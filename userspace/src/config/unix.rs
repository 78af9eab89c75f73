//! Text -> [`UnixAddress`], where a listener binds.

use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

/// `sun_path` of `sockaddr_un` has 108 bytes, one of which is a NUL.
const NAME_BYTES_MAX: usize = 107;

/// A Unix socket's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixAddress {
    Path(PathBuf),
    /// A name without a file, written with an `@` in front; never empty.
    Abstract(String),
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnixAddressError {
    #[error("write a path, or @name for a socket without a file")]
    Empty,
    #[error("the kernel takes 107 bytes at most")]
    TooLong,
    #[error("it holds a NUL byte")]
    Nul,
}

impl FromStr for UnixAddress {
    type Err = UnixAddressError;

    fn from_str(text: &str) -> Result<Self, UnixAddressError> {
        let (address, name) = match text.strip_prefix('@') {
            Some(name) => (Self::Abstract(name.to_owned()), name),
            None => (Self::Path(PathBuf::from(text)), text),
        };
        if name.is_empty() {
            return Err(UnixAddressError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(UnixAddressError::TooLong);
        }
        if name.as_bytes().contains(&0) {
            return Err(UnixAddressError::Nul);
        }
        Ok(address)
    }
}

impl fmt::Display for UnixAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.as_os_str().as_bytes().escape_ascii()),
            Self::Abstract(name) => write!(f, "@{}", name.as_bytes().escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_told_apart() {
        assert_eq!("/run/s".parse(), Ok(UnixAddress::Path("/run/s".into())));
        assert_eq!("@s".parse(), Ok(UnixAddress::Abstract("s".to_owned())));
        assert_eq!("@s".parse::<UnixAddress>().unwrap().to_string(), "@s");
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused() {
        let error = |text: &str| text.parse::<UnixAddress>().unwrap_err();
        assert_eq!((error(""), error("@")), (UnixAddressError::Empty, UnixAddressError::Empty));
        assert_eq!(error("a\0b"), UnixAddressError::Nul);
        assert_eq!(error(&"x".repeat(108)), UnixAddressError::TooLong);
        assert!("x".repeat(107).parse::<UnixAddress>().is_ok());
    }
}
