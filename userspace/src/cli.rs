//! Command line -> [`Cli`], text as typed.
//!
//! Flags that `statsd_exporter` has keep its names, its defaults and its rules: a usage error ends
//! with exit code 1, switches take no value and are negated by `--no-...`, nothing is abbreviated.

mod kingpin;
mod pages;

use clap::{CommandFactory as _, Parser};

pub use kingpin::UsageError;

/// StatsD in, Prometheus out, with the hottest counters counted inside the Linux kernel.
///
/// Sizes are bytes and take the suffixes Ki, Mi and Gi (4Mi). Durations are written as 200ms, 1s,
/// 2m. Addresses are host:port; without a host (:9125) every address of the machine, IPv4 and IPv6.
#[derive(Clone, Debug, Parser)]
#[command(name = "rotameter", version, about, long_about)]
#[command(disable_help_flag = true, disable_version_flag = true)]
#[command(
    override_usage = "rotameter [FLAGS]\n       rotameter check FILE\n       rotameter profile list\n       \
    rotameter explain --mapping-config FILE LINE\n       rotameter diff OLD NEW CAPTURE\n       \
    rotameter top [--url URL]\n       \
    rotameter doctor [--url URL]\n       \
    rotameter tail [--filter GLOB]\n       \
    rotameter capture --out FILE\n       rotameter replay FILE --to HOST:PORT\n       \
    rotameter healthcheck [--url URL] [--ready]"
)]
pub struct Cli {
    #[command(flatten)]
    pub listeners: ListenerFlags,

    /// Serves the exposition, the landing page and the health checks on this address. Repeat it for
    /// several.
    #[arg(long = "web.listen-address", value_name = "HOST:PORT", default_value = ":9102")]
    pub web_listen_address: Vec<String>,

    /// YAML file with TLS, client certificates, basic auth, headers and a rate limit for HTTP, in the
    /// format of Prometheus' exporters. It and what it names are read anew when they change.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<String>,

    /// Serve /-/reload and /-/quit, which act on PUT and POST. [default: off]
    #[arg(long = "web.enable-lifecycle", overrides_with = "no_web_enable_lifecycle")]
    pub web_enable_lifecycle: bool,
    /// Serve neither of them.
    #[arg(long = "no-web.enable-lifecycle", overrides_with = "web_enable_lifecycle")]
    pub no_web_enable_lifecycle: bool,

    /// Who may follow the lines that arrive (rotameter tail and capture): local: programs of this
    /// machine or pod; on: whoever may read the other pages; off: nobody.
    #[arg(long = "web.tail", value_name = "local|on|off", default_value = "local")]
    pub web_tail: String,

    /// Path of the exposition. "/" answers every otherwise unknown path with it, and there is no
    /// landing page then.
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    pub telemetry_path: String,

    /// Write OpenMetrics for scrapers that prefer it, as Prometheus does, with the times when series
    /// were made. Counters whose names do not end in _total have no type there. [default: off]
    #[arg(long = "web.enable-openmetrics", overrides_with = "no_web_enable_openmetrics")]
    pub web_enable_openmetrics: bool,
    /// Write text where OpenMetrics is asked for, as statsd_exporter does.
    #[arg(long = "no-web.enable-openmetrics", overrides_with = "web_enable_openmetrics")]
    pub no_web_enable_openmetrics: bool,

    #[command(flatten)]
    pub mapping: MappingFlags,

    #[command(flatten)]
    pub dialects: DialectFlags,

    #[command(flatten)]
    pub sender: SenderFlags,

    #[command(flatten)]
    pub idle: IdleFlags,

    /// Whether to count in the kernel. auto: where kernel and rights allow it, otherwise say why not
    /// and go on; required: end with an error instead; off: load nothing.
    #[arg(long = "ebpf", value_name = "auto|required|off", default_value = "auto")]
    pub ebpf: String,

    /// Doors to open, of those that there are. For tests and measurements: to shut one is never
    /// better for anything else.
    #[arg(long = "ebpf.doors", value_name = "LIST", default_value = "xdp,socket-filter", hide = true)]
    pub ebpf_doors: String,

    /// Take what programs of this machine send to it where the loopback device begins (Linux 6.6):
    /// half of what sending costs them falls away. All that goes over the loopback device passes the
    /// program, and a capture there does not show what it took. [default: off]
    #[arg(long = "ebpf.loopback", overrides_with = "no_ebpf_loopback")]
    pub ebpf_loopback: bool,
    /// Leave the loopback device alone.
    #[arg(long = "no-ebpf.loopback", overrides_with = "ebpf_loopback")]
    pub no_ebpf_loopback: bool,

    /// Size of each ring that carries whole datagrams out of the kernel; there is one per CPU. A
    /// power of two, at least 64Ki. A full ring is no loss: the datagram takes the socket.
    #[arg(long = "ebpf.ring-bytes", value_name = "BYTES", default_value = "1Mi")]
    pub ebpf_ring_bytes: String,

    /// Cells to count in, 48 bytes per CPU each. One identity takes one, so this bounds how many
    /// are promoted at a time.
    #[arg(long = "ebpf.slots", value_name = "COUNT", default_value = "16384")]
    pub ebpf_slots: String,

    /// Places in the kernel's table of identities, 8 bytes each. With fewer than twice the slots,
    /// identities begin to find no place and stay with userspace.
    #[arg(long = "ebpf.identities", value_name = "COUNT", default_value = "65536")]
    pub ebpf_identities: String,

    /// Interface to attach XDP to; * and ? match, and interfaces that come later are taken too.
    /// Repeat it for several. Without it no interface is touched: the socket filter serves alone.
    #[arg(long = "xdp.interface", value_name = "NAME")]
    pub xdp_interface: Vec<String>,

    /// Sources whose datagrams XDP may take before the firewall sees them. Repeat it for several;
    /// the first one replaces the default, which is the private, unique-local and link-local
    /// ranges. Others are not refused: they take the ordinary way through the stack.
    #[arg(long = "xdp.allow-source", value_name = "CIDR")]
    pub xdp_allow_source: Vec<String>,

    /// How often the hottest identities are chosen anew.
    #[arg(long = "promotion.interval", value_name = "DURATION", default_value = "1s")]
    pub promotion_interval: String,

    /// Lines per second from which an identity is worth a slot. `auto`: 0.01 for each possible
    /// CPU, for a slot is read on each of them, and at least 0.02, three lines in a minute and a
    /// half.
    #[arg(long = "promotion.min-rate", value_name = "LINES/S", default_value = "auto")]
    pub promotion_min_rate: String,

    /// Series that may live at a time, at 200 bytes (counter, gauge) to several thousand (summary)
    /// each. Beyond it, counters and observers of a name add up in one series whose labels all say
    /// __overflow__, and new names in rotameter_overflow_counter_total and
    /// rotameter_overflow_observations; gauges are refused.
    #[arg(long = "registry.max-series", value_name = "COUNT", default_value = "2000000")]
    pub registry_max_series: String,

    /// The same for the series of one name. 0 leaves it to the bound for all. A mapping rule may set
    /// a smaller one (max_series).
    #[arg(long = "registry.max-series-per-family", value_name = "COUNT", default_value = "0")]
    pub registry_max_series_per_family: String,

    /// Least serious events to log: debug, info, warn or error.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub log_level: String,

    /// How a log event is written to standard error: logfmt or json.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub log_format: String,
}

/// Where lines come from, and where else they go.
#[derive(Clone, Debug, clap::Args)]
pub struct ListenerFlags {
    /// UDP address to receive StatsD lines on. Repeat it for several; the first one replaces the
    /// default. Empty ("") switches UDP off.
    #[arg(long = "statsd.listen-udp", value_name = "HOST:PORT", default_value = ":9125")]
    pub listen_udp: Vec<String>,

    /// TCP address to receive StatsD lines on. Empty ("") switches TCP off.
    #[arg(long = "statsd.listen-tcp", value_name = "HOST:PORT", default_value = ":9125")]
    pub listen_tcp: String,

    /// Unix datagram socket to receive StatsD lines on; @name for one without a file. Empty: none.
    #[arg(long = "statsd.listen-unixgram", value_name = "PATH")]
    pub listen_unixgram: Option<String>,

    /// Unix stream socket to receive StatsD lines on, each ended by a newline; @name for one without
    /// a file. Empty: none.
    #[arg(long = "statsd.listen-unix", value_name = "PATH")]
    pub listen_unix: Option<String>,

    /// Permissions of the Unix sockets' files, octal. Whoever sends needs the right to write.
    #[arg(long = "statsd.unixsocket-mode", value_name = "MODE", default_value = "755")]
    pub unixsocket_mode: String,

    /// Receive buffer of each UDP socket. 0 asks for 16Mi, which holds some 40,000 datagrams, 0.3 s of
    /// the fastest burst one client sends; what the kernel grants stands in the start-up table. Above
    /// net.core.rmem_max it needs CAP_NET_ADMIN.
    #[arg(long = "statsd.read-buffer", value_name = "BYTES", default_value = "0")]
    pub read_buffer: String,

    /// StatsD server to send every received line to as well, over UDP. Repeat it for several. With a
    /// relay nothing is counted in the kernel's slots, where a line has no bytes left.
    #[arg(long = "statsd.relay.address", value_name = "HOST:PORT")]
    pub relay_address: Vec<String>,

    /// Bytes of a relayed packet at most. A line that is longer is not relayed. 0 sends each line
    /// alone.
    #[arg(long = "statsd.relay.packet-length", value_name = "BYTES", default_value = "1400")]
    pub relay_packet_length: String,
}

/// What is made of a line.
#[derive(Clone, Debug, clap::Args)]
pub struct MappingFlags {
    #[command(flatten)]
    pub profile: ProfileFlags,

    /// YAML file with the rules that map StatsD names to metrics and labels. Read anew on SIGHUP.
    #[arg(long = "statsd.mapping-config", value_name = "FILE")]
    pub file: Option<String>,

    /// Take keys of the mapping file that statsd_exporter 0.30 still knew and its successor refuses
    /// (timer_type, match_metric_type: timer) for errors. Without it they are warnings.
    #[arg(long = "statsd.mapping-strict")]
    pub strict: bool,

    /// Names for which the matching rule is remembered. 0 remembers none, and the three metrics of
    /// the cache are not there then.
    #[arg(long = "statsd.cache-size", value_name = "COUNT", default_value = "1000")]
    pub cache_size: String,

    /// What a full cache gives up: the name that was used longest ago (lru), or any (random).
    #[arg(long = "statsd.cache-type", value_name = "lru|random", default_value = "lru")]
    pub cache_type: String,

    /// Write the automaton that matches the globs to this file, as a dot graph of Graphviz.
    #[arg(long = "debug.dump-fsm", value_name = "FILE")]
    pub dump_fsm: Option<String>,

    /// Check flags and mapping file, print what is found and end: with 0, or with 1 if the daemon
    /// would not start. Opens no port.
    #[arg(long = "check-config")]
    pub check_config: bool,
}

/// Who sent it, as Kubernetes knows.
#[derive(Clone, Debug, clap::Args)]
pub struct SenderFlags {
    /// Labels that each series gets from the pod that sent it, by its address: any of pod, namespace,
    /// node and component, separated by commas. Empty: none, and nobody is asked. With any of them
    /// nothing is counted in the kernel's slots, which do not know senders.
    #[arg(long = "sender.labels", value_name = "LIST", default_value = "")]
    pub labels: String,

    /// Where the list of pods comes from: the API server (api), by a watch, or the kubelet, asked
    /// every 10 s.
    #[arg(long = "sender.pods", value_name = "api|kubelet", default_value = "api")]
    pub pods: String,

    /// URL of the API server or kubelet. [default: what KUBERNETES_SERVICE_HOST and _PORT say; for a
    /// kubelet https://127.0.0.1:10250]
    #[arg(long = "sender.url", value_name = "URL")]
    pub url: Option<String>,

    /// Asks the API server for the pods of this node only; * for those of all nodes, as a central
    /// daemon needs. [default: $NODE_NAME]
    #[arg(long = "sender.node", value_name = "NAME")]
    pub node: Option<String>,

    /// Asks for the pods of this namespace only; then a Role does in place of a ClusterRole.
    #[arg(long = "sender.namespace", value_name = "NAME")]
    pub namespace: Option<String>,

    /// File with the token to show, read at each request. Empty: none.
    #[arg(
        long = "sender.token-file",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    )]
    pub token_file: String,

    /// File with the authorities that the server's certificate is checked by.
    #[arg(
        long = "sender.ca-file",
        value_name = "FILE",
        default_value = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    )]
    pub ca_file: String,

    /// Believe any certificate, as a kubelet often has one that it signed itself. The token can be
    /// stolen by whoever answers in its place. [default: off]
    #[arg(long = "sender.insecure-skip-verify")]
    pub insecure_skip_verify: bool,
}

/// Which built-in rules map what Airflow sends.
#[derive(Clone, Debug, clap::Args)]
pub struct ProfileFlags {
    /// Built-in mapping for Airflow: airflow, or another one of `rotameter profile list`. Rules of a
    /// mapping file are asked first.
    #[arg(long = "profile", value_name = "NAME")]
    pub profile: Option<String>,

    /// Airflow's statsd_prefix; empty ("") if it has none. Repeat it for several deployments that send
    /// here: then each is the label deployment of its series. The first one replaces the default.
    #[arg(long = "profile.prefix", value_name = "PREFIX", default_value = "airflow")]
    pub prefix: Vec<String>,

    /// Release of Airflow, such as 2.11 or 3.1, for what differs between them. auto goes by what comes, and
    /// cannot always tell.
    #[arg(long = "profile.airflow-version", value_name = "auto|VERSION", default_value = "auto")]
    pub airflow_version: String,

    /// Library that Airflow sends with: the Datadog one sends seconds where the type says milliseconds.
    /// auto takes lines with tags of DogStatsD for the latter.
    #[arg(long = "profile.client", value_name = "auto|statsd|datadog", default_value = "auto")]
    pub client: String,

    /// Id of a DAG that has dots in it, where names alone cannot tell where it ends. Repeat it for several.
    #[arg(long = "profile.dag-id", value_name = "ID")]
    pub dag_id: Vec<String>,

    /// File with such ids, one a line; read again when it changes.
    #[arg(long = "profile.dag-id-file", value_name = "FILE")]
    pub dag_id_file: Option<String>,
}

/// Flags of `statsd_exporter` for parts that this daemon does not have: checked, then idle.
#[derive(Clone, Debug, clap::Args)]
pub struct IdleFlags {
    /// Idle: there is no queue of events.
    #[arg(long = "statsd.event-queue-size", value_name = "COUNT", default_value = "10000")]
    pub event_queue_size: String,

    /// Idle: events reach the registry with the datagram that held them.
    #[arg(long = "statsd.event-flush-threshold", value_name = "COUNT", default_value = "1000")]
    pub event_flush_threshold: String,

    /// Idle: events reach the registry with the datagram that held them.
    #[arg(long = "statsd.event-flush-interval", value_name = "DURATION", default_value = "200ms")]
    pub event_flush_interval: String,

    /// Idle: datagrams wait in the socket's own queue, see --statsd.read-buffer.
    #[arg(long = "statsd.udp-packet-queue-size", value_name = "COUNT", default_value = "10000")]
    pub udp_packet_queue_size: String,
}

/// Tag dialects, those of `statsd_exporter` on; `--no-...` switches one off, and of several the last
/// counts.
#[derive(Clone, Debug, clap::Args)]
pub struct DialectFlags {
    /// Parse DogStatsD tags (name:1|c|#tag:value). [default: on]
    #[arg(long = "statsd.parse-dogstatsd-tags", overrides_with = "no_dogstatsd")]
    pub dogstatsd: bool,
    /// Leave DogStatsD tags unparsed.
    #[arg(long = "no-statsd.parse-dogstatsd-tags", overrides_with = "dogstatsd")]
    pub no_dogstatsd: bool,
    /// Parse InfluxDB tags (name,tag=value:1|c). [default: on]
    #[arg(long = "statsd.parse-influxdb-tags", overrides_with = "no_influxdb")]
    pub influxdb: bool,
    /// Leave InfluxDB tags unparsed.
    #[arg(long = "no-statsd.parse-influxdb-tags", overrides_with = "influxdb")]
    pub no_influxdb: bool,
    /// Parse Librato tags (name#tag=value:1|c). [default: on]
    #[arg(long = "statsd.parse-librato-tags", overrides_with = "no_librato")]
    pub librato: bool,
    /// Leave Librato tags unparsed.
    #[arg(long = "no-statsd.parse-librato-tags", overrides_with = "librato")]
    pub no_librato: bool,
    /// Parse SignalFx tags (name[tag=value]:1|c). [default: on]
    #[arg(long = "statsd.parse-signalfx-tags", overrides_with = "no_signalfx")]
    pub signalfx: bool,
    /// Leave SignalFx tags unparsed.
    #[arg(long = "no-statsd.parse-signalfx-tags", overrides_with = "signalfx")]
    pub no_signalfx: bool,
    /// Parse Graphite tags (name;tag=value:1|c), which statsd_exporter leaves in the name. [default: off]
    #[arg(long = "statsd.parse-graphite-tags", overrides_with = "no_graphite")]
    pub graphite: bool,
    /// Leave Graphite tags unparsed.
    #[arg(long = "no-statsd.parse-graphite-tags", overrides_with = "graphite")]
    pub no_graphite: bool,
    /// Parse several values of a counter or gauge (name:1:2|c), which statsd_exporter takes for timers,
    /// histograms and distributions only. [default: off]
    #[arg(long = "statsd.parse-dogstatsd-packing", overrides_with = "no_packing")]
    pub packing: bool,
    /// Refuse several values of a counter or gauge.
    #[arg(long = "no-statsd.parse-dogstatsd-packing", overrides_with = "packing")]
    pub no_packing: bool,
}

impl Cli {
    /// Parses arguments; the first one is the program's name.
    ///
    /// # Errors
    ///
    /// The usage error, or the page that `--help` and its like print.
    pub fn from_arguments<I, T>(arguments: I) -> Result<Self, NoRun>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let arguments = arguments.into_iter().skip(1).map(Into::into);
        match kingpin::read(&Self::command(), arguments)? {
            kingpin::Request::Print(page) => Err(NoRun::Print(pages::page(Self::command(), page))),
            kingpin::Request::Run(arguments) => {
                let name = std::iter::once("rotameter".to_owned());
                Ok(Self::try_parse_from(name.chain(arguments))?)
            }
        }
    }
}

/// Why a command line does not run the daemon.
#[derive(Debug, thiserror::Error)]
pub enum NoRun {
    #[error("a page was asked for")]
    Print(String),
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// What passed the first reading and the table refuses all the same.
    #[error(transparent)]
    Table(#[from] clap::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, NoRun> {
        Cli::from_arguments(std::iter::once(&"rotameter").chain(arguments))
    }

    #[test]
    fn the_definition_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn statsd_exporters_flags_are_taken_in_both_forms() {
        let cli =
            parse(&["--statsd.listen-udp=", "--web.telemetry-path", "/m", "--log.level=DEBUG"]).unwrap();
        assert_eq!(
            (cli.listeners.listen_udp.as_slice(), cli.telemetry_path.as_str()),
            (&[String::new()][..], "/m")
        );
        assert_eq!(cli.listeners.listen_tcp, ":9125");
    }

    #[test]
    fn switches_take_no_value_and_are_negated() {
        assert!(parse(&["--statsd.parse-librato-tags=true"]).is_err());
        assert!(parse(&["--no-statsd.parse-librato-tags"]).unwrap().dialects.no_librato);
        assert!(!parse(&["--statsd.parse-librato-tags"]).unwrap().dialects.no_librato);
        assert!(!parse(&["--no-check-config"]).unwrap().mapping.check_config);
    }

    #[test]
    fn usage_errors_and_pages_end_it() {
        for bad in ["--statsd.listen", "--unknown", "positional"] {
            assert!(matches!(parse(&[bad]), Err(NoRun::Usage(_))), "{bad}");
        }
        assert!(matches!(parse(&["--log.level=info", "--log.level=info"]), Err(NoRun::Usage(_))));
        for page in ["--help", "-h", "--version", "--help-long", "--help-man"] {
            assert!(matches!(parse(&[page]), Err(NoRun::Print(_))), "{page}");
        }
    }

    #[test]
    fn values_may_begin_with_a_dash_behind_an_equals_sign() {
        assert_eq!(parse(&["--statsd.cache-size=-1"]).unwrap().mapping.cache_size, "-1");
    }

    #[test]
    fn interfaces_and_sources_repeat() {
        let cli = parse(&["--xdp.interface=eth*", "--xdp.interface=bond0"]).unwrap();
        assert_eq!(cli.xdp_interface, ["eth*", "bond0"]);
    }
}
