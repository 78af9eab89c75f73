//! Kernel object -> loaded programs and maps.

#![expect(unsafe_code, reason = "aya asks for `unsafe impl Pod` on the layouts that kernel and daemon share")]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{ArrayOfMaps, HashMap, Map, MapData, MapError, ProgramArray},
    programs::{Program, ProgramError, SchedClassifier, SocketFilter, Xdp},
};
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_RINGBUF;
use ingest_ebpf::{
    layout::{
        ALLOWED_NETWORKS_MAX, Bucket, IdentityEntry, LISTEN_PORTS_MAX, ListenEntry, ListenKey, NetworkV4,
        NetworkV6, RINGS_MAX, RingPositions, SEGMENT_BYTES, SETTINGS_SYMBOL, Segment, Settings,
    },
    verdict::COUNTERS_PER_CPU,
};
use tracing::debug;

use super::{
    counters::Counters,
    cpus::{POSSIBLE_CPUS, possible_cpus},
    doorbell::{self, Doorbell},
    grace::Grace,
    identities::IdentityTable,
    memory_map::{MemoryMap, page_bytes},
    permission::{self, Refused},
    ring::{Ring, RingMemory},
    slots::MappedSlots,
};

/// The object that this binary carries, if it was built with the feature `kernel`.
#[cfg(feature = "kernel")]
pub const EMBEDDED: Option<&[u8]> =
    Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/rotameter-ebpf")));
/// The object that this binary carries, if it was built with the feature `kernel`.
#[cfg(not(feature = "kernel"))]
pub const EMBEDDED: Option<&[u8]> = None;

/// A value that aya copies into maps and globals byte by byte.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shared<T>(pub T);

// SAFETY: `repr(C)` over integers and byte arrays with no padding (sizes asserted in `layout.rs`):
// every bit pattern is a value.
unsafe impl Pod for Shared<Settings> {}
// SAFETY: as above.
unsafe impl Pod for Shared<ListenKey> {}
// SAFETY: as above.
unsafe impl Pod for Shared<ListenEntry> {}

/// Sizes of the kernel's tables; checked by `config.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Identities that may be promoted at once, and slots of each CPU.
    pub slots: u32,
    /// Buckets of the identity table, four places each; a power of two.
    pub buckets: u32,
    /// Bytes of each CPU's ring, a power of two, at least two segments.
    pub ring_bytes: u32,
}

/// What the programs are told before they are loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub sizes: Sizes,
    /// Seed of the identities' hash.
    pub seed: u64,
    /// UDP ports that the doors serve, host byte order.
    pub ports: Vec<u16>,
    pub allowed_v4: Vec<NetworkV4>,
    pub allowed_v6: Vec<NetworkV6>,
}

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("this binary carries no kernel object; build it with `cargo xtask build`")]
    NotBuiltIn,
    #[error("reading the kernel object")]
    Parse(#[source] aya::EbpfError),
    #[error("setting up the kernel's maps{}", map_rejection(.0))]
    Create(#[source] io::Error),
    #[error("the kernel object lacks {0}; build object and daemon together with `cargo xtask build`")]
    Missing(&'static str),
    #[error("loading the program {program}{}", rejection(.program, .source))]
    Load { program: &'static str, source: io::Error },
    #[error("setting up the map {map}")]
    Map { map: &'static str, source: MapError },
    #[error("mapping the map {map} into memory")]
    MemoryMap { map: &'static str, source: io::Error },
    #[error("listening on {given} UDP ports; the kernel program knows at most {LISTEN_PORTS_MAX}")]
    ManyPorts { given: usize },
    #[error(
        "--xdp.allow-source names {given} networks of one address family; at most {ALLOWED_NETWORKS_MAX} are possible"
    )]
    ManyNetworks { given: usize },
    #[error("counting the CPUs by {POSSIBLE_CPUS}; mount /sys, or leave the kernel out by --ebpf=off")]
    Cpus(#[source] io::Error),
    #[error("this machine has {0} possible CPUs, more than the kernel program provides for")]
    ManyCpus(usize),
}

impl ObjectError {
    /// What kept the object out. Its maps are made while it is read, and that is where a daemon
    /// without capabilities fails first.
    fn parse(error: aya::EbpfError) -> Self {
        match error {
            aya::EbpfError::MapError(MapError::CreateError { io_error, .. }) => Self::Create(io_error),
            error => Self::Parse(error),
        }
    }

    /// What kept a program out. The verifier's reasons may be megabytes, of which the end tells the
    /// most: the rest is for the debug log.
    fn load(program: &'static str, error: ProgramError) -> Self {
        let source = match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                debug!(program, log, "what the verifier said");
                let end: Vec<&str> = log.trim_end().lines().rev().take(VERIFIER_LINES_MAX).collect();
                let end: String = end.into_iter().rev().collect::<Vec<_>>().join("; ");
                let end: String = end.chars().take(VERIFIER_CHARACTERS_MAX).collect();
                if end.is_empty() {
                    io_error
                } else {
                    io::Error::new(io_error.kind(), Rejected { end, io_error })
                }
            }
            error => io::Error::other(error),
        };
        Self::Load { program, source }
    }
}

/// Loads programs, each on a thread of its own, and gives back what became of them in their order.
///
/// A signal makes the verifier give up, and the loader then tries again with a log of all that the verifier does,
/// which takes it seconds instead of tenths of one. The kernel hands a signal to the first thread that takes it, the
/// main one before all others, so a thread beside it is left alone.
fn load_beside<const N: usize>(
    programs: [&mut (dyn FnMut() -> Result<(), ProgramError> + Send); N],
) -> [Result<(), ProgramError>; N] {
    std::thread::scope(|scope| {
        let loads = programs.map(|load| scope.spawn(load));
        // A panic in there goes on here.
        loads.map(|load| load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// What an operator is shown of the verifier's log.
const VERIFIER_LINES_MAX: usize = 4;
const VERIFIER_CHARACTERS_MAX: usize = 400;

/// The kernel's error, and the end of the verifier's log.
#[derive(Debug, thiserror::Error)]
#[error("{io_error}; the verifier: {end}")]
struct Rejected {
    end: String,
    io_error: io::Error,
}

/// The way out, for the failures that an operator can do something about.
fn rejection(program: &str, error: &io::Error) -> &'static str {
    let refused = match program {
        XDP_PROGRAM | LOOPBACK_PROGRAM => Refused::Network,
        _ => Refused::Bpf,
    };
    match error.raw_os_error() {
        // Not EACCES, which is the verifier's.
        Some(libc::EPERM) => permission::way_out(refused),
        _ => ": the kernel's verifier refused it; the programs are tested on Linux 6.1 and 6.18",
    }
}

fn map_rejection(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => permission::way_out(Refused::Bpf),
        io::ErrorKind::OutOfMemory => ": lower --ebpf.ring-bytes, --ebpf.slots or --ebpf.identities",
        _ => "",
    }
}

/// The tables that drain and promotion read and write, by memory map.
#[derive(Debug)]
pub struct Tables {
    pub identities: IdentityTable,
    pub slots: MappedSlots,
    pub counters: Counters,
    pub grace: Grace,
    pub doorbell: Doorbell,
    /// Seed of the identities' hash.
    pub seed: u64,
    pub sizes: Sizes,
}

/// The loaded object: maps open, programs not attached to anything.
pub struct Object {
    ebpf: Ebpf,
    pub tables: Arc<Tables>,
    /// One per possible CPU; the pipeline takes them.
    pub rings: Vec<Ring>,
    pub listen: HashMap<MapData, Shared<ListenKey>, Shared<ListenEntry>>,
    listen_generation: MemoryMap,
    /// The only descriptor of the map by which sockets reach door 2's program: when it is closed, the kernel
    /// empties that.
    socket_door: Option<ProgramArray<MapData>>,
    /// Why door 1 cannot open on this kernel, if so.
    pub xdp_refused: Option<String>,
    pub cpus: usize,
}

/// Names of the three programs in the object.
const XDP_PROGRAM: &str = "door_xdp";
const LOOPBACK_PROGRAM: &str = "door_loopback";
const SOCKET_FILTER_PROGRAM: &str = "door_socket_filter";
/// The small program that stands on the sockets and goes on with the socket filter.
const SOCKET_ENTRY_PROGRAM: &str = "door_socket_entry";

impl Object {
    /// Loads `object` into the kernel: maps, the socket filter, and the XDP program where this kernel
    /// takes it.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]; nothing stays behind in the kernel.
    pub fn load(object: &[u8], options: &LoadOptions) -> Result<Self, ObjectError> {
        let cpus = possible_cpus().map_err(ObjectError::Cpus)?;
        if cpus > RINGS_MAX {
            return Err(ObjectError::ManyCpus(cpus));
        }
        let rows = u32::try_from(cpus).map_err(|_| ObjectError::ManyCpus(cpus))?;
        let ring_segments = ring_segments(options.sizes);
        let settings = Shared(settings(options, rows)?);
        // First of all a map of one page: without the rights for it nothing else has to be tried, and the
        // loader reads megabytes before it finds out.
        let bell = new_bell().map_err(|source| match source {
            MapError::CreateError { io_error, .. } => ObjectError::Create(io_error),
            source => ObjectError::Map { map: "DOORBELL", source },
        })?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("BUCKETS", options.sizes.buckets)
            .map_max_entries("IDENTITIES", options.sizes.slots)
            .map_max_entries("SLOTS", rows * options.sizes.slots)
            .map_max_entries("LASTS", rows * options.sizes.slots)
            .map_max_entries("COUNTERS", rows * COUNTERS_PER_CPU)
            .map_max_entries("RINGS", rows * ring_segments)
            .map_max_entries("RING_POSITIONS", rows)
            .override_global(SETTINGS_SYMBOL, &settings, true)
            .load(object)
            .map_err(ObjectError::parse)?;

        let mut outer: ArrayOfMaps<MapData, MapData> = typed(&mut ebpf, "DOORBELL")?;
        outer.set(0, &bell, 0).map_err(|source| ObjectError::Map { map: "DOORBELL", source })?;
        let doorbell = own_fd(bell.fd().as_fd(), "DOORBELL").and_then(|fd| {
            Doorbell::new(fd).map_err(|source| ObjectError::MemoryMap { map: "DOORBELL", source })
        })?;
        let segments = array_fd(&mut ebpf, "RINGS", |fd| {
            let bytes = mapped_bytes(rows * ring_segments, size_of::<Segment>());
            MemoryMap::new(fd, 0, bytes, false)
        })?;
        let positions = array_fd(&mut ebpf, "RING_POSITIONS", |fd| {
            MemoryMap::new(fd, 0, mapped_bytes(rows, size_of::<RingPositions>()), true)
        })?;
        let memory = Arc::new(RingMemory { segments, positions, segments_per_ring: ring_segments });
        let rings = (0..cpus).map(|cpu| Ring::new(Arc::clone(&memory), cpu)).collect();
        let lasts = array_fd(&mut ebpf, "LASTS", |fd| fd.try_clone_to_owned())?;
        let slots = array_fd(&mut ebpf, "SLOTS", |fd| {
            MappedSlots::new(fd, lasts.as_fd(), cpus, options.sizes.slots as usize)
        })?;
        let counters = array_fd(&mut ebpf, "COUNTERS", |fd| Counters::new(fd, cpus))?;
        let buckets = array_fd(&mut ebpf, "BUCKETS", |fd| {
            MemoryMap::new(fd, 0, mapped_bytes(options.sizes.buckets, size_of::<Bucket>()), true)
        })?;
        let entries = array_fd(&mut ebpf, "IDENTITIES", |fd| {
            MemoryMap::new(fd, 0, mapped_bytes(options.sizes.slots, size_of::<IdentityEntry>()), true)
        })?;
        let listen_generation =
            array_fd(&mut ebpf, "LISTEN_GENERATION", |fd| MemoryMap::new(fd, 0, page_bytes(), true))?;
        let tables = Tables {
            identities: IdentityTable::new(buckets, entries, options.sizes.buckets),
            slots,
            counters,
            grace: Grace::new(outer, bell),
            doorbell,
            seed: options.seed,
            sizes: options.sizes,
        };
        let listen = typed(&mut ebpf, "LISTEN")?;
        let mut loaded = Self {
            ebpf,
            tables: Arc::new(tables),
            rings,
            listen,
            listen_generation,
            socket_door: None,
            xdp_refused: None,
            cpus,
        };
        loaded.load_programs()?;
        Ok(loaded)
    }

    /// Loads doors 1 and 2 at a time, for the verifier takes longer than all the rest of a start. A kernel that
    /// refuses door 1 may still have door 2.
    fn load_programs(&mut self) -> Result<(), ObjectError> {
        let (mut xdp, mut socket_filter) = (None, None);
        for (name, program) in self.ebpf.programs_mut() {
            match (name, program) {
                (XDP_PROGRAM, Program::Xdp(program)) => xdp = Some(program),
                (SOCKET_FILTER_PROGRAM, Program::SocketFilter(program)) => socket_filter = Some(program),
                _ => {}
            }
        }
        let xdp = xdp.ok_or(ObjectError::Missing("the program door_xdp"))?;
        let socket_filter = socket_filter.ok_or(ObjectError::Missing("the program door_socket_filter"))?;
        let [xdp, socket_filter] = load_beside([&mut || xdp.load(), &mut || socket_filter.load()]);
        socket_filter.map_err(|error| ObjectError::load(SOCKET_FILTER_PROGRAM, error))?;
        self.load_socket_entry()?;
        if let Err(error) = xdp {
            let error = ObjectError::load(XDP_PROGRAM, error);
            self.xdp_refused = Some(format!("{:#}", anyhow::Error::from(error)));
        }
        Ok(())
    }

    /// Loads what is attached to sockets, and puts door 2's program behind it.
    fn load_socket_entry(&mut self) -> Result<(), ObjectError> {
        let entry = self.socket_entry()?;
        let [loaded] = load_beside([&mut || entry.load()]);
        loaded.map_err(|error| ObjectError::load(SOCKET_ENTRY_PROGRAM, error))?;
        let mut behind: ProgramArray<MapData> = typed(&mut self.ebpf, "SOCKET_DOOR")?;
        let program =
            self.socket_filter()?.fd().map_err(|error| ObjectError::load(SOCKET_FILTER_PROGRAM, error))?;
        behind.set(0, program, 0).map_err(|source| ObjectError::Map { map: "SOCKET_DOOR", source })?;
        self.socket_door = Some(behind);
        Ok(())
    }

    /// What is attached to sockets. It goes on with door 2's program while there is this object, and keeps every
    /// datagram in the socket once it is gone, however the process ended.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Missing`], if the object is not ours.
    pub fn socket_entry(&mut self) -> Result<&mut SocketFilter, ObjectError> {
        self.ebpf
            .program_mut(SOCKET_ENTRY_PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or(ObjectError::Missing("the program door_socket_entry"))
    }

    /// Door 2's program.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Missing`], if the object is not ours.
    pub fn socket_filter(&mut self) -> Result<&mut SocketFilter, ObjectError> {
        self.ebpf
            .program_mut(SOCKET_FILTER_PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or(ObjectError::Missing("the program door_socket_filter"))
    }

    /// Door 1's program; loaded only where `xdp_refused` is `None`.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Missing`], if the object is not ours.
    pub fn xdp(&mut self) -> Result<&mut Xdp, ObjectError> {
        self.ebpf
            .program_mut(XDP_PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or(ObjectError::Missing("the program door_xdp"))
    }

    /// Door 3's program; loaded by [`Self::load_loopback`].
    ///
    /// # Errors
    ///
    /// [`ObjectError::Missing`], if the object is not ours.
    pub fn loopback(&mut self) -> Result<&mut SchedClassifier, ObjectError> {
        self.ebpf
            .program_mut(LOOPBACK_PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or(ObjectError::Missing("the program door_loopback"))
    }

    /// Loads door 3, which not everybody wants, and which takes as long as the other two.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]: the kernel does not take it.
    pub fn load_loopback(&mut self) -> Result<(), ObjectError> {
        let program = self.loopback()?;
        let [loaded] = load_beside([&mut || program.load()]);
        loaded.map_err(|error| ObjectError::load(LOOPBACK_PROGRAM, error))
    }

    /// Makes the programs forget what they remember of the listen set; to be called after a change.
    pub fn listen_changed(&self) {
        if let Some(generation) = self.listen_generation.word(0) {
            generation.fetch_add(1, Ordering::Release);
        }
    }

    /// The loader's own handle, for the log map.
    pub fn ebpf(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("cpus", &self.cpus)
            .field("xdp_refused", &self.xdp_refused)
            .finish_non_exhaustive()
    }
}

fn settings(options: &LoadOptions, cpus: u32) -> Result<Settings, ObjectError> {
    let mut settings = Settings {
        slots_per_cpu: options.sizes.slots,
        bucket_mask: options.sizes.buckets - 1,
        cpus,
        ring_segments: ring_segments(options.sizes),
        ring_wake_segments: (ring_segments(options.sizes) / 8).max(1),
        seed: options.seed,
        ..Settings::NONE
    };
    let ports = settings
        .ports
        .get_mut(..options.ports.len())
        .ok_or(ObjectError::ManyPorts { given: options.ports.len() })?;
    for (to, from) in ports.iter_mut().zip(&options.ports) {
        *to = from.to_be();
    }
    settings.allowed_v4_count = copy_networks(&mut settings.allowed_v4, &options.allowed_v4)?;
    settings.allowed_v6_count = copy_networks(&mut settings.allowed_v6, &options.allowed_v6)?;
    Ok(settings)
}

fn copy_networks<T: Copy>(to: &mut [T], from: &[T]) -> Result<u32, ObjectError> {
    let given = from.len();
    to.get_mut(..given).ok_or(ObjectError::ManyNetworks { given })?.copy_from_slice(from);
    u32::try_from(given).map_err(|_| ObjectError::ManyNetworks { given })
}

/// At least two, because a segment is begun again only when its reader has left it.
fn ring_segments(sizes: Sizes) -> u32 {
    let segment_bytes = u32::try_from(SEGMENT_BYTES).unwrap_or(u32::MAX);
    (sizes.ring_bytes / segment_bytes).max(2)
}

fn new_bell() -> Result<MapData, MapError> {
    let map = aya_obj::Map::new_from_params(BPF_MAP_TYPE_RINGBUF as u32, 0, 0, doorbell::bytes(), 0);
    MapData::create(map, "rotameter_bell", None)
}

/// Takes a map out of the object as the type that it must have.
fn typed<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, ObjectError> {
    let map = ebpf.take_map(name).ok_or(ObjectError::Missing(name))?;
    T::try_from(map).map_err(|source| ObjectError::Map { map: name, source })
}

/// Maps an array into memory; the mapping keeps the map alive.
fn array_fd<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    map: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> Result<T, ObjectError> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => {
            map(data.fd().as_fd()).map_err(|source| ObjectError::MemoryMap { map: name, source })
        }
        _ => Err(ObjectError::Missing(name)),
    }
}

fn mapped_bytes(elements: u32, element_bytes: usize) -> usize {
    (elements as usize * element_bytes).next_multiple_of(page_bytes())
}

fn own_fd(fd: BorrowedFd<'_>, map: &'static str) -> Result<OwnedFd, ObjectError> {
    fd.try_clone_to_owned().map_err(|source| ObjectError::MemoryMap { map, source })
}
