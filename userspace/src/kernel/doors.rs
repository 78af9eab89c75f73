//! Loaded programs + interfaces and sockets -> open doors.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    net::SocketAddr,
    os::fd::AsFd,
};

use aya::{
    maps::MapError,
    programs::{
        LinkOrder, ProgramError, SocketFilter, TcAttachType, XdpMode,
        links::{FdLink, LinkError},
        tc::TcAttachOptions,
    },
};
use ingest_ebpf::layout::{ListenEntry, ListenKey};

use super::{
    interfaces::{Interface, InterfaceGlob},
    listen_set,
    object::{Object, ObjectError, Shared},
};

/// Why a door stays shut.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("attaching the socket filter to the UDP socket {address}")]
    SocketFilter { address: SocketAddr, source: ProgramError },
    #[error("--xdp.interface={0}: no such interface; `ip link` lists what there is")]
    NoInterface(String),
    #[error("attaching to {interface}: {reason}")]
    Interface { interface: String, reason: String },
    #[error("attaching XDP: {0}")]
    NoXdp(String),
    #[error(
        "this kernel runs softirqs preemptibly (PREEMPT_RT), where two doors could count into one row at once"
    )]
    RealTime,
}

/// The doors of one daemon. Dropping it shuts them; so does the end of the process, however it ends,
/// for all that is attached hangs on file descriptors.
pub struct Doors {
    object: Object,
    globs: Vec<InterfaceGlob>,
    /// Whether door 3 is wanted.
    loopback: bool,
    /// Addresses of the UDP sockets.
    sockets: Vec<SocketAddr>,
    attached: BTreeMap<u32, Attached>,
    /// Interfaces that match and could not be had, with the reason, so that each is reported once.
    refused: BTreeMap<u32, Refusal>,
    listen: HashSet<ListenKey>,
    filtered: Vec<std::os::fd::OwnedFd>,
    /// Listen entries that the kernel's map had no room for.
    pub listen_refused: u64,
}

/// One interface with door 1, or the loopback device with door 3.
struct Attached {
    name: String,
    loopback: bool,
    link: FdLink,
}

/// An interface on which a door could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub interface: String,
    pub loopback: bool,
    pub reason: String,
}

/// What a look at the interfaces changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Attached { interface: String, loopback: bool },
    Detached { interface: String, loopback: bool },
    Refused(Refusal),
}

impl Doors {
    /// Doors of a loaded object, still shut.
    ///
    /// # Errors
    ///
    /// [`DoorError::RealTime`].
    pub fn new(
        object: Object,
        globs: Vec<InterfaceGlob>,
        loopback: bool,
        sockets: Vec<SocketAddr>,
    ) -> Result<Self, DoorError> {
        if fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1") {
            return Err(DoorError::RealTime);
        }
        Ok(Self {
            object,
            globs,
            loopback,
            sockets,
            attached: BTreeMap::new(),
            refused: BTreeMap::new(),
            listen: HashSet::new(),
            filtered: Vec::new(),
            listen_refused: 0,
        })
    }

    /// Opens door 2 on a socket.
    ///
    /// # Errors
    ///
    /// What the kernel says, with the socket's address.
    pub fn open_socket_filter(&mut self, socket: impl AsFd, address: SocketAddr) -> Result<(), DoorError> {
        let refused = |source| DoorError::SocketFilter { address, source };
        self.object.socket_entry()?.attach(socket.as_fd()).map_err(refused)?;
        let socket = socket.as_fd().try_clone_to_owned();
        let socket = socket.map_err(|error| refused(ProgramError::IOError(error)))?;
        self.filtered.push(socket);
        Ok(())
    }

    /// Shuts all doors. Programs that run now may still consume.
    pub fn shut(&mut self) {
        for socket in self.filtered.drain(..) {
            // Nothing is left to do about a socket that does not let go: it is closed next.
            let _ = SocketFilter::detach(socket);
        }
        self.attached.clear();
    }

    /// Why door 1 cannot open on this kernel at all, if so.
    #[must_use]
    pub fn xdp_refused(&self) -> Option<&str> {
        self.object.xdp_refused.as_deref()
    }

    /// Names of the interfaces with door 1 open.
    pub fn attached(&self) -> impl Iterator<Item = &str> {
        self.attached.values().filter(|attached| !attached.loopback).map(|attached| attached.name.as_str())
    }

    /// Whether door 3 is open.
    #[must_use]
    pub fn loopback_open(&self) -> bool {
        self.attached.values().any(|attached| attached.loopback)
    }

    /// Interfaces that were meant and could not be had, with the reason.
    pub fn refused(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.values()
    }

    /// Whether door 1 was asked for on any interface.
    #[must_use]
    pub fn names_interfaces(&self) -> bool {
        !self.globs.is_empty()
    }

    /// Named interfaces (not globs) that are not among `interfaces`.
    #[must_use]
    pub fn missing(&self, interfaces: &[Interface]) -> Vec<DoorError> {
        self.globs
            .iter()
            .filter(|glob| {
                !glob.is_pattern() && !interfaces.iter().any(|interface| glob.matches(&interface.name))
            })
            .map(|glob| DoorError::NoInterface(glob.as_str().to_owned()))
            .collect()
    }

    /// Follows the interfaces: opens door 1 on new ones that match, and door 3 if it is wanted, forgets
    /// those that went, and makes the listen set what it should be. Returns what changed.
    pub fn follow(&mut self, interfaces: &[Interface]) -> Vec<Change> {
        let mut changes = Vec::new();
        let loopback = self.loopback;
        let wanted = |interface: &Interface, globs: &[InterfaceGlob]| {
            (interface.loopback && loopback) || globs.iter().any(|glob| glob.matches(&interface.name))
        };
        let gone: Vec<u32> = self
            .attached
            .keys()
            .filter(|index| !interfaces.iter().any(|i| i.index == **index && wanted(i, &self.globs)))
            .copied()
            .collect();
        for index in gone {
            if let Some(attached) = self.attached.remove(&index) {
                changes.push(Change::Detached { interface: attached.name, loopback: attached.loopback });
            }
        }
        self.refused.retain(|index, _| interfaces.iter().any(|interface| interface.index == *index));
        for interface in interfaces {
            if self.attached.contains_key(&interface.index) {
                changes.extend(self.keep(interface));
                continue;
            }
            if !wanted(interface, &self.globs) {
                continue;
            }
            let name = interface.name.clone();
            match self.attach(interface) {
                Ok(link) => {
                    self.refused.remove(&interface.index);
                    let loopback = interface.loopback;
                    let attached = Attached { name: name.clone(), loopback, link };
                    self.attached.insert(interface.index, attached);
                    changes.push(Change::Attached { interface: name, loopback });
                }
                Err(reason) => {
                    // Tried again at each look, for what stood in the way may go; told once. The loopback device
                    // may have been named for door 1, and is then refused as such.
                    let loopback = interface.loopback && loopback;
                    let refused = Refusal { interface: name, loopback, reason };
                    if self.refused.insert(interface.index, refused.clone()).as_ref() != Some(&refused) {
                        changes.push(Change::Refused(refused));
                    }
                }
            }
        }
        self.update_listen_set(interfaces);
        changes
    }

    /// Goes on with an interface that is attached. Whoever deletes one and makes another may give it the same
    /// index, and then our link is on nothing.
    fn keep(&mut self, interface: &Interface) -> Option<Change> {
        // The look may be older than our link. Then the kernel refuses a second one.
        let link = (!interface.xdp && !interface.loopback).then(|| self.attach(interface).ok()).flatten();
        let attached = self.attached.get_mut(&interface.index)?;
        attached.name.clone_from(&interface.name);
        attached.link = link?;
        Some(Change::Attached { interface: attached.name.clone(), loopback: false })
    }

    /// Native mode only: generic mode can be handed several datagrams glued together.
    fn attach(&mut self, interface: &Interface) -> Result<FdLink, String> {
        if interface.loopback {
            return self.attach_loopback(interface);
        }
        if let Some(reason) = self.xdp_refused() {
            return Err(reason.to_owned());
        }
        if interface.mac.is_none() {
            return Err(
                "it has no Ethernet address, so its frames are not what the program expects".to_owned()
            );
        }
        let program = self.object.xdp().map_err(|error| error.to_string())?;
        let link = program
            .attach_to_if_index(interface.index, XdpMode::Driver)
            .and_then(|id| program.take_link(id))
            .map_err(|error| explain(&error, &interface.name))?;
        // Without a link of its own the program would outlive us; dropping the other kind detaches it.
        FdLink::try_from(link).map_err(|_: LinkError| {
            "this kernel has no BPF links for XDP (Linux 5.9 and later have)".to_owned()
        })
    }

    /// The loopback device has no native XDP; but what it sends is all that it receives.
    fn attach_loopback(&mut self, interface: &Interface) -> Result<FdLink, String> {
        if !self.loopback {
            return Err(
                "the loopback device has no native XDP; the socket filter serves it, or --ebpf.loopback"
                    .to_owned(),
            );
        }
        if self.object.loopback().is_ok_and(|program| program.fd().is_err()) {
            self.object.load_loopback().map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        }
        let program = self.object.loopback().map_err(|error| error.to_string())?;
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        let link = program
            .attach_with_options(&interface.name, TcAttachType::Egress, options)
            .and_then(|id| program.take_link(id))
            .map_err(|error| match syscall_code(&error) {
                Some(libc::EINVAL) => {
                    "this kernel has no BPF links for TC (Linux 6.6 and later have)".to_owned()
                }
                _ => explain(&error, &interface.name),
            })?;
        FdLink::try_from(link).map_err(|error: LinkError| error.to_string())
    }

    fn update_listen_set(&mut self, interfaces: &[Interface]) {
        let ways = listen_set::ways_in(interfaces, &self.sockets, |index| self.attached.contains_key(&index));
        let wanted: HashSet<ListenKey> = ways.iter().map(|(key, _)| *key).collect();
        let mut changed = false;
        for key in self.listen.difference(&wanted).copied().collect::<Vec<_>>() {
            if self.object.listen.remove(&Shared(key)).is_ok() {
                changed = true;
            }
            self.listen.remove(&key);
        }
        for (key, flags) in ways {
            if self.listen.contains(&key) {
                continue;
            }
            match self.object.listen.insert(Shared(key), Shared(ListenEntry { flags }), 0) {
                Ok(()) => {
                    self.listen.insert(key);
                    changed = true;
                }
                Err(MapError::SyscallError(_)) => self.listen_refused += 1,
                Err(_) => {}
            }
        }
        if changed {
            self.object.listen_changed();
        }
    }

    /// The loader's handle, for the log map.
    pub fn object(&mut self) -> &mut Object {
        &mut self.object
    }
}

impl std::fmt::Debug for Doors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doors")
            .field("attached", &self.attached().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// What stands in the way of attaching, and the way out.
fn explain(error: &ProgramError, interface: &str) -> String {
    match syscall_code(error) {
        Some(libc::EBUSY | libc::EEXIST) => format!(
            "another XDP program is there; end the program that holds it (`bpftool link` shows it) or remove it \
             (`ip link set dev {interface} xdp off`), or leave this interface to the socket filter"
        ),
        Some(libc::EOPNOTSUPP) => {
            "its driver has no native XDP; leave this interface to the socket filter".to_owned()
        }
        Some(libc::EPERM) => "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN are needed".to_owned(),
        Some(libc::ENODEV) => "it went away".to_owned(),
        Some(libc::ERANGE) => "its MTU is too large for native XDP; lower it to 3,498 or less".to_owned(),
        Some(code) => io::Error::from_raw_os_error(code).to_string(),
        None => error.to_string(),
    }
}

fn syscall_code(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::IOError(error) => error.raw_os_error(),
        _ => None,
    }
}
