//! [`Cli`] -> [`Config`], checked values that the rest of the daemon can trust.

pub mod address;
pub mod cidr;
pub mod idle;
pub mod mapping;
pub mod profile;
pub mod sender;
pub mod statsd;
pub mod units;
pub mod unix;

use std::path::PathBuf;
use std::time::Duration;

pub use address::HostPort;
pub use cidr::Cidr;
pub use mapping::Mapping;
pub use sender::Sender;
pub use statsd::{Relay, SocketMode, Statsd};
pub use unix::UnixAddress;

use crate::cli::Cli;
use crate::kernel::interfaces::InterfaceGlob;
use crate::registry::RegistryConfig;
use crate::web::TailAccess;

/// Sources that XDP may take datagrams from unless told otherwise: what a site gives its own.
const ALLOW_SOURCE_DEFAULT: [&str; 6] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"];

/// A ring must at least hold the largest datagram twice; the kernel takes up to 2 GiB.
const RING_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
/// A million hot identities is far beyond what any cache of a CPU holds.
const SLOTS_MAX: u32 = 1 << 20;
/// A hundred million series are some 20 GB.
const SERIES_MAX: std::ops::RangeInclusive<u32> = 1..=100_000_000;
/// Of each address family: the kernel compares sources one after the other.
pub const ALLOW_SOURCES_MAX: usize = ingest_ebpf::layout::ALLOWED_NETWORKS_MAX;
pub const INTERFACE_GLOBS_MAX: usize = 64;
const WEB_ADDRESSES_MAX: usize = 16;

/// Everything that can be set, checked. Addresses are not bound yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub statsd: Statsd,
    pub web: Web,
    pub mapping: Mapping,
    pub dialects: Dialects,
    pub ebpf: Ebpf,
    pub xdp: Xdp,
    pub promotion: Promotion,
    pub registry: RegistryConfig,
    /// `None`: series say nothing about who sent them.
    pub sender: Option<Sender>,
    pub log: Log,
    /// Only check: open no port, and end.
    pub check_only: bool,
    /// Flags that were set, and set nothing here.
    pub idle_flags: Vec<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// At least one.
    pub addresses: Vec<HostPort>,
    /// Begins with `/` and is none of the other pages.
    pub telemetry_path: String,
    /// Whether `/-/reload` and `/-/quit` are served.
    pub lifecycle: bool,
    pub config_file: Option<PathBuf>,
    /// Whether OpenMetrics is written for who asks for it.
    pub openmetrics: bool,
    /// Who may follow what arrives.
    pub tail: TailAccess,
}

/// Tag dialects that the parser reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects {
    pub dogstatsd: bool,
    pub influxdb: bool,
    pub librato: bool,
    pub signalfx: bool,
    pub graphite: bool,
    pub packing: bool,
}

/// Whether to count in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EbpfMode {
    /// Where it can be had.
    Auto,
    /// A start without it is an error.
    Required,
    Off,
}

/// Doors that may be opened; at least one is among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DoorSet {
    pub xdp: bool,
    pub socket_filter: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ebpf {
    pub mode: EbpfMode,
    pub doors: DoorSet,
    /// Whether to open the door on the loopback device, too.
    pub loopback: bool,
    /// Of one CPU's ring; a power of two.
    pub ring_bytes: u32,
    /// At least one.
    pub slots: u32,
    /// Places in the table of identities, at least one for each slot.
    pub identities: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xdp {
    /// Empty: no interface is touched.
    pub interfaces: Vec<InterfaceGlob>,
    /// Never empty.
    pub allow_sources: Vec<Cidr>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Promotion {
    /// From 100 ms to an hour.
    pub interval: Duration,
    /// Finite and not negative; `None`: what pays on this machine.
    pub lines_per_second_min: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: tracing::Level,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Logfmt,
    Json,
}

/// A flag whose value does not do; the source says why, and what would.
#[derive(Debug, thiserror::Error)]
#[error("--{flag}={value:?}")]
pub struct ConfigError {
    pub flag: &'static str,
    pub value: String,
    #[source]
    problem: Box<dyn std::error::Error + Send + Sync>,
}

impl Config {
    /// Checks what was typed. Opens no socket and asks no resolver.
    ///
    /// # Errors
    ///
    /// The first flag whose value does not do.
    pub fn load(cli: &Cli) -> Result<Self, ConfigError> {
        Ok(Self {
            statsd: statsd::load(cli)?,
            web: web(cli)?,
            mapping: mapping::load(&cli.mapping)?,
            dialects: Dialects {
                dogstatsd: !cli.dialects.no_dogstatsd,
                influxdb: !cli.dialects.no_influxdb,
                librato: !cli.dialects.no_librato,
                signalfx: !cli.dialects.no_signalfx,
                graphite: cli.dialects.graphite,
                packing: cli.dialects.packing,
            },
            ebpf: ebpf(cli)?,
            xdp: xdp(cli)?,
            promotion: Promotion {
                interval: flag("promotion.interval", &cli.promotion_interval, promotion_interval)?,
                lines_per_second_min: flag("promotion.min-rate", &cli.promotion_min_rate, rate)?,
            },
            registry: registry(cli)?,
            sender: sender::load(&cli.sender, |name| std::env::var(name).ok())?,
            log: log(cli)?,
            check_only: cli.mapping.check_config,
            idle_flags: idle::load(&cli.idle)?,
        })
    }
}

/// The value of a flag by `parse`, or the error that names both.
fn flag<T, E>(
    flag: &'static str,
    value: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, ConfigError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    parse(value).map_err(|problem| ConfigError { flag, value: value.to_owned(), problem: problem.into() })
}

fn web(cli: &Cli) -> Result<Web, ConfigError> {
    if cli.web_listen_address.len() > WEB_ADDRESSES_MAX {
        return flag("web.listen-address", "", |_| Err("at most 16 of them"));
    }
    let addresses = cli
        .web_listen_address
        .iter()
        .map(|text| flag("web.listen-address", text, str::parse::<HostPort>))
        .collect::<Result<_, _>>()?;
    Ok(Web {
        addresses,
        telemetry_path: flag("web.telemetry-path", &cli.telemetry_path, telemetry_path)?,
        lifecycle: cli.web_enable_lifecycle,
        openmetrics: cli.web_enable_openmetrics,
        tail: flag("web.tail", &cli.web_tail, |text| match text {
            "local" => Ok(TailAccess::Local),
            "on" => Ok(TailAccess::On),
            "off" => Ok(TailAccess::Off),
            _ => Err("write local, on or off"),
        })?,
        config_file: cli.web_config_file.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from),
    })
}

fn telemetry_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err("a path begins with /, for example /metrics".to_owned());
    }
    if text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'?' || b == b'#') {
        return Err("a path holds no space, no control character, no ? and no #".to_owned());
    }
    if crate::web::PAGES.contains(&text) {
        return Err(format!("another page is served there; the others are {}", crate::web::PAGES.join(", ")));
    }
    Ok(text.to_owned())
}

fn ebpf(cli: &Cli) -> Result<Ebpf, ConfigError> {
    let mode = flag("ebpf", &cli.ebpf, |text| match text {
        "auto" => Ok(EbpfMode::Auto),
        "required" => Ok(EbpfMode::Required),
        "off" => Ok(EbpfMode::Off),
        _ => Err("write auto, required or off"),
    })?;
    let doors = flag("ebpf.doors", &cli.ebpf_doors, |text| {
        text.split(',').try_fold(DoorSet::default(), |doors, name| match name {
            "xdp" => Ok(DoorSet { xdp: true, ..doors }),
            "socket-filter" => Ok(DoorSet { socket_filter: true, ..doors }),
            _ => Err("write xdp, socket-filter or xdp,socket-filter; --ebpf=off shuts both"),
        })
    })?;
    let ring_bytes = flag("ebpf.ring-bytes", &cli.ebpf_ring_bytes, |text| {
        let bytes = units::parse_size(text).map_err(|e| e.to_string())?;
        if !RING_BYTES.contains(&bytes) {
            return Err("a ring has 64Ki to 1Gi".to_owned());
        }
        if !bytes.is_power_of_two() {
            let (below, above) = (bytes.next_power_of_two() / 2, bytes.next_power_of_two());
            return Err(format!("the kernel takes powers of two only; {below} or {above} would do"));
        }
        u32::try_from(bytes).map_err(|e| e.to_string())
    })?;
    let count = |text: &str| match units::parse_count(text) {
        Ok(n) if (1..=SLOTS_MAX).contains(&n) => Ok(n),
        Ok(_) => Err(format!("from 1 to {SLOTS_MAX}")),
        Err(error) => Err(error.to_string()),
    };
    let slots = flag("ebpf.slots", &cli.ebpf_slots, count)?;
    let identities = flag("ebpf.identities", &cli.ebpf_identities, |text| match count(text)? {
        n if n >= slots => Ok(n),
        _ => Err(format!(
            "each slot takes a place in the table, and --ebpf.slots is {slots}; lower that as well"
        )),
    })?;
    Ok(Ebpf { mode, doors, loopback: cli.ebpf_loopback, ring_bytes, slots, identities })
}

fn xdp(cli: &Cli) -> Result<Xdp, ConfigError> {
    if cli.xdp_interface.len() > INTERFACE_GLOBS_MAX {
        return flag("xdp.interface", "", |_| Err("at most 64 of them; a glob (eth*) stands for many"));
    }
    let interfaces = cli
        .xdp_interface
        .iter()
        .map(|text| flag("xdp.interface", text, str::parse::<InterfaceGlob>))
        .collect::<Result<_, _>>()?;
    let allow_sources: Vec<Cidr> = if cli.xdp_allow_source.is_empty() {
        ALLOW_SOURCE_DEFAULT.iter().map(|text| text.parse().expect("the constant holds ranges")).collect()
    } else {
        cli.xdp_allow_source
            .iter()
            .map(|text| flag("xdp.allow-source", text, str::parse::<Cidr>))
            .collect::<Result<_, _>>()?
    };
    let v4 = allow_sources.iter().filter(|source| source.network().is_ipv4()).count();
    if v4.max(allow_sources.len() - v4) > ALLOW_SOURCES_MAX {
        return flag("xdp.allow-source", "", |_| {
            Err("at most 16 ranges of each address family; join neighbouring ones")
        });
    }
    Ok(Xdp { interfaces, allow_sources })
}

fn promotion_interval(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text) {
        Ok(d) if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&d) => Ok(d),
        Ok(_) => Err("from 100ms to 1h".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn rate(text: &str) -> Result<Option<f64>, &'static str> {
    match text.parse::<f64>() {
        _ if text == "auto" => Ok(None),
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(Some(rate)),
        _ => Err("write lines per second, 0 or more, or auto"),
    }
}

fn registry(cli: &Cli) -> Result<RegistryConfig, ConfigError> {
    let series_max =
        flag("registry.max-series", &cli.registry_max_series, |text| match units::parse_count(text) {
            Ok(count) if SERIES_MAX.contains(&count) => Ok(count),
            Ok(_) => Err(format!("from {} to {}", SERIES_MAX.start(), SERIES_MAX.end())),
            Err(error) => Err(error.to_string()),
        })?;
    let series_per_family_max =
        flag("registry.max-series-per-family", &cli.registry_max_series_per_family, units::parse_count)?;
    Ok(RegistryConfig::new(series_max, series_per_family_max))
}

fn log(cli: &Cli) -> Result<Log, ConfigError> {
    let level = flag("log.level", &cli.log_level, |text| match text.to_ascii_lowercase().as_str() {
        "debug" => Ok(tracing::Level::DEBUG),
        "info" => Ok(tracing::Level::INFO),
        "warn" => Ok(tracing::Level::WARN),
        "error" => Ok(tracing::Level::ERROR),
        _ => Err("write debug, info, warn or error"),
    })?;
    let format = flag("log.format", &cli.log_format, |text| match text {
        "logfmt" => Ok(LogFormat::Logfmt),
        "json" => Ok(LogFormat::Json),
        _ => Err("write logfmt or json"),
    })?;
    Ok(Log { level, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str]) -> Result<Config, ConfigError> {
        let arguments = std::iter::once(&"rotameter").chain(arguments);
        Config::load(&Cli::from_arguments(arguments).expect("the arguments parse"))
    }

    /// The error is `expected`, with its cause as `main` prints it.
    #[track_caller]
    fn check(arguments: &[&str], expected: &str) {
        let error = anyhow::Error::from(load(arguments).expect_err("the value does not do"));
        assert_eq!(format!("{error:#}"), expected);
    }

    #[test]
    fn the_defaults_are_good() {
        let config = load(&[]).unwrap();
        assert_eq!(config.statsd.udp, [":9125".parse().unwrap()]);
        assert_eq!(config.statsd.tcp.as_ref(), config.statsd.udp.first());
        assert_eq!(config.statsd.receive_buffer_bytes, None);
        assert_eq!(config.web.addresses, [":9102".parse().unwrap()]);
        assert_eq!(config.web.telemetry_path, "/metrics");
        assert!(!config.web.lifecycle && config.web.config_file.is_none());
        assert!(config.dialects.dogstatsd && config.dialects.signalfx);
        assert_eq!(config.ebpf.mode, EbpfMode::Auto);
        assert!(config.xdp.interfaces.is_empty());
        assert_eq!(config.xdp.allow_sources.len(), ALLOW_SOURCE_DEFAULT.len());
    }

    #[test]
    fn an_error_names_flag_value_and_way_out() {
        check(
            &["--statsd.listen-udp=9125"],
            "--statsd.listen-udp=\"9125\": no port; write host:port, or :port for every address of the machine",
        );
        check(
            &["--web.telemetry-path=metrics"],
            "--web.telemetry-path=\"metrics\": a path begins with /, for example /metrics",
        );
        check(
            &["--web.telemetry-path="],
            "--web.telemetry-path=\"\": a path begins with /, for example /metrics",
        );
        check(
            &["--ebpf.ring-bytes=3Mi"],
            "--ebpf.ring-bytes=\"3Mi\": the kernel takes powers of two only; 2097152 or 4194304 would do",
        );
        check(
            &["--ebpf.slots=10", "--ebpf.identities=9"],
            "--ebpf.identities=\"9\": each slot takes a place in the table, and --ebpf.slots is 10; \
             lower that as well",
        );
        check(&["--log.level=trace"], "--log.level=\"trace\": write debug, info, warn or error");
        check(&["--ebpf=on"], "--ebpf=\"on\": write auto, required or off");
        check(&["--promotion.interval=1ms"], "--promotion.interval=\"1ms\": from 100ms to 1h");
        check(
            &["--xdp.allow-source=10.0.0.1/8"],
            "--xdp.allow-source=\"10.0.0.1/8\": bits are set behind the prefix; did you mean 10.0.0.0/8?",
        );
    }

    #[test]
    fn the_telemetry_path_cannot_hide_another_page() {
        assert_eq!(load(&["--web.telemetry-path=/"]).unwrap().web.telemetry_path, "/");
        for path in ["/-/healthy", "/-/ready", "/-/quit", "/promoted", "/a b", "/m?x"] {
            assert!(load(&[&format!("--web.telemetry-path={path}")]).is_err(), "{path}");
        }
    }

    #[test]
    fn http_may_have_several_addresses() {
        let web = load(&["--web.listen-address=:1", "--web.listen-address=[::1]:2"]).unwrap().web;
        assert_eq!(web.addresses, [":1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
        assert!(load(&vec!["--web.listen-address=:0"; 17]).is_err());
    }

    #[test]
    fn doors_can_be_shut_one_by_one() {
        assert_eq!(load(&[]).unwrap().ebpf.doors, DoorSet { xdp: true, socket_filter: true });
        let config = load(&["--ebpf.doors=xdp"]).unwrap();
        assert_eq!(config.ebpf.doors, DoorSet { xdp: true, socket_filter: false });
        check(
            &["--ebpf.doors="],
            "--ebpf.doors=\"\": write xdp, socket-filter or xdp,socket-filter; --ebpf=off shuts both",
        );
    }

    #[test]
    fn an_allowed_source_replaces_the_default() {
        let config = load(&["--xdp.allow-source=203.0.113.0/24"]).unwrap();
        assert_eq!(config.xdp.allow_sources, ["203.0.113.0/24".parse().unwrap()]);
    }

    #[test]
    fn allowed_sources_are_bounded_for_each_address_family() {
        let flags = |range: &str| {
            (0..16)
                .map(|n| format!("--xdp.allow-source={}", range.replace('N', &n.to_string())))
                .collect::<Vec<_>>()
        };
        let load_all = |flags: Vec<String>| load(&flags.iter().map(String::as_str).collect::<Vec<_>>());
        let both: Vec<String> = [flags("10.N.0.0/16"), flags("fd00:N::/32")].concat();
        assert_eq!(load_all(both.clone()).unwrap().xdp.allow_sources.len(), 32);
        for one_more in ["192.0.2.0/24", "2001:db8::/32"] {
            let mut flags = both.clone();
            flags.push(format!("--xdp.allow-source={one_more}"));
            assert!(load_all(flags).is_err(), "{one_more}");
        }
    }

    #[test]
    fn levels_are_case_insensitive() {
        assert_eq!(load(&["--log.level=WARN"]).unwrap().log.level, tracing::Level::WARN);
    }
}
