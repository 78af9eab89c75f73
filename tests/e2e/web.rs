//! HTTP's own side of the daemon: protected scrapes, and the pages that end it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::daemon::{Daemon, PATIENCE, binary};
use super::prometheus::Prometheus;
use super::world::{PORT, World};

/// bcrypt of `open sesame`, at the least cost.
const HASH: &str = "$2b$04$N9qo8uLOickgx2ZMRZoMyeD6cuue4VdM9VS1cJ/wwOaQJuY83FyIy";

/// An authority's certificate, and a pair each for `localhost` and for a client, in `folder`.
fn write_certificates(folder: &Path) {
    let write =
        |name: &str, text: String| std::fs::write(folder.join(name), text).expect("the folder is ours");
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("no name is no bad name");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", authority.self_signed(&key).expect("a signature").pem());
    let issuer = Issuer::new(authority, key);
    for name in ["localhost", "prometheus.example"] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        write(&format!("{name}.pem"), params.signed_by(&key, &issuer).expect("a signature").pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
}

/// Waits for the start-up table, which comes once everything is up.
#[track_caller]
fn start(world: &World, flags: &[&str]) -> Daemon {
    let mut command = world.ours.command(binary());
    command.args(flags);
    let mut daemon = Daemon::spawn(&world.ours, command, flags);
    assert!(daemon.wait_for(|daemon| daemon.log().contains("\nhttp ")), "no start-up table");
    daemon
}

#[test]
#[ignore = "needs root: network namespaces"]
fn prometheus_scrapes_by_client_certificate_and_password() {
    let world = World::without_cable();
    let folder = tempfile::tempdir().expect("room for a folder");
    write_certificates(folder.path());
    let config = folder.path().join("web.yml");
    let text = format!(
        "tls_server_config:\n  cert_file: localhost.pem\n  key_file: localhost.key\n  \
         client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  \
         client_allowed_sans: [prometheus.example]\nbasic_auth_users: {{scraper: {HASH}}}\n"
    );
    std::fs::write(&config, text).expect("the folder is ours");
    let daemon = start(&world, &["--ebpf=off", &format!("--web.config.file={}", config.display())]);
    let sender = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    sender.send_to(b"sent:42|c", (Ipv4Addr::LOCALHOST, PORT)).expect("the loopback is up");

    let path = |name: &str| folder.path().join(name).display().to_string();
    let tls = |pair: &str| {
        let shown = format!(
            ", cert_file: {}, key_file: {}",
            path(&format!("{pair}.pem")),
            path(&format!("{pair}.key"))
        );
        let shown = if pair.is_empty() { String::new() } else { shown };
        format!(", scheme: https, tls_config: {{ca_file: {}, server_name: localhost{shown}}}", path("ca.pem"))
    };
    let password = |text: &str| format!(", basic_auth: {{username: scraper, password: {text}}}");
    let jobs = [
        ("right", tls("prometheus.example") + &password("open sesame")),
        ("no_certificate", tls("") + &password("open sesame")),
        ("other_name", tls("localhost") + &password("open sesame")),
        ("no_password", tls("prometheus.example")),
        ("wrong_password", tls("prometheus.example") + &password("shut sesame")),
        ("plain", password("open sesame")),
    ];
    let jobs: Vec<(&str, &str)> = jobs.iter().map(|(name, rest)| (*name, rest.as_str())).collect();
    let prometheus = Prometheus::with_jobs(&world.ours, &jobs);
    prometheus.next_scrape();
    let value = |query: &str| prometheus.query(query, None).first().map(|series| series["value"][1].clone());
    assert_eq!(value("sent"), Some("42".into()));
    let start = Instant::now();
    while prometheus.query("up", None).len() < jobs.len() {
        assert!(start.elapsed() < PATIENCE, "not all jobs have scraped");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    for (job, _) in jobs {
        let up = if job == "right" { "1" } else { "0" };
        assert_eq!(value(&format!("up{{job=\"{job}\"}}")), Some(up.into()), "{job}");
    }
    assert_eq!(value("count(sent)"), Some("1".into()));
    daemon.stop();
}

/// Sends a request without a body; the whole answer.
fn request(world: &World, head: &str) -> String {
    let mut stream =
        world.ours.inside(|| TcpStream::connect((Ipv4Addr::LOCALHOST, 9102)).expect("it listens"));
    stream.set_read_timeout(Some(PATIENCE)).expect("an open socket");
    write!(stream, "{head} HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
#[ignore = "needs root: network namespaces"]
fn quit_drains_and_ends_as_a_signal_does() {
    let world = World::without_cable();
    let mut daemon = start(&world, &["--ebpf=off", "--web.enable-lifecycle"]);
    let sender = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    for _ in 0..1000 {
        sender.send_to(b"a:1|c\nb:2|ms", (Ipv4Addr::LOCALHOST, PORT)).expect("the loopback is up");
    }
    assert!(request(&world, "GET /-/quit").starts_with("HTTP/1.0 200 "));
    let answer = request(&world, "POST /-/quit");
    assert!(answer.ends_with("\r\n\r\nRequesting termination... Goodbye!"), "{answer}");
    assert_eq!(daemon.ended().code(), Some(0));
    let log = daemon.log();
    assert!(log.contains("datagrams=1000 lines=2000 events=2000"), "{log}");
}

#[test]
#[ignore = "needs root: network namespaces"]
fn without_the_flag_nobody_can_end_it() {
    let world = World::without_cable();
    let daemon = start(&world, &["--ebpf=off"]);
    for page in ["/-/quit", "/-/reload"] {
        assert!(request(&world, &format!("POST {page}")).starts_with("HTTP/1.0 404 "), "{page}");
    }
    daemon.stop();
}
