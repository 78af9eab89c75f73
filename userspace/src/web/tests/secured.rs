//! The same requests, with a web configuration file in the way.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::web::test_pki::Pki;

const TLS: &str = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";

/// Serves by a file that holds `text`.
async fn secured<F: Future>(
    pki: &Pki,
    text: &str,
    test: impl FnOnce(SocketAddr, Arc<Counters>) -> F,
) -> F::Output {
    let path = pki.write("web.yml", text);
    serving(&Arc::new(Stub::default()), options("/metrics"), Some(&path), test).await
}

/// Connects as a client that trusts `trusted`'s authority, and shows the pair of `shown`.
async fn connect(
    address: SocketAddr,
    trusted: &Pki,
    shown: Option<(&Pki, &str)>,
    protocols: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some((pki, name)) => {
            let chain = vec![CertificateDer::from_pem_file(pki.path(&format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(pki.path(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await
}

/// Status of one request over TLS; an error where client or server breaks the handshake off.
async fn status(address: SocketAddr, trusted: &Pki, shown: Option<(&Pki, &str)>) -> io::Result<String> {
    let mut stream = connect(address, trusted, shown, &[]).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[9..]).into_owned())
}

#[tokio::test]
async fn tls_serves_whoever_trusts_the_certificate() {
    let (pki, stranger) = (&Pki::new(), &Pki::new());
    secured(pki, TLS, |address, counters| async move {
        assert_eq!(status(address, pki, None).await.unwrap(), "200");
        assert!(status(address, stranger, None).await.is_err());
        let start = std::time::Instant::now();
        while counters.handshake_errors.load(Ordering::SeqCst) == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "not counted");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn plain_http_is_told_where_it_is() {
    let pki = &Pki::new();
    secured(pki, TLS, |address, counters| async move {
        let (head, body) = ask(address, "GET /metrics HTTP/1.1").await;
        assert_eq!(head, "http/1.0 400 bad request");
        assert_eq!(body, b"Client sent an HTTP request to an HTTPS server.\n");
        assert_eq!(counters.scrapes_200.load(Ordering::SeqCst), 0);
        // What is neither is cut off.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"\x80\x00").await.unwrap();
        let mut nothing = Vec::new();
        let _ = stream.read_to_end(&mut nothing).await;
        assert!(nothing.is_empty());
    })
    .await;
}

/// Status and body by HTTP/2.
async fn ask_http2(address: SocketAddr, pki: &Pki) -> (StatusCode, Bytes) {
    let stream = connect(address, pki, None, &["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("https://localhost/metrics").body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    let _ = connection.await;
    (status, body)
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_negotiated() {
    let pki = &Pki::new();
    secured(pki, TLS, |address, _| async move {
        let (status, body) = ask_http2(address, pki).await;
        assert_eq!((status, body.as_ref()), (StatusCode::OK, b"# TYPE a counter\na 1\n".as_slice()));
    })
    .await;
    secured(pki, &format!("{TLS}http_server_config: {{http2: false}}\n"), |address, _| async move {
        let stream = connect(address, pki, None, &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    })
    .await;
}

/// What becomes of clients that show no certificate, one of our authority, and one of another.
async fn check_clients(rest: &str, none: bool, ours: bool, strangers: bool) {
    let (pki, stranger) = (&Pki::new(), &Pki::new());
    pki.sign("client", &["prometheus.example", "10.1.2.3"]);
    stranger.sign("client", &["prometheus.example"]);
    secured(pki, &format!("{TLS}  {rest}\n"), |address, _| async move {
        let shown = [None, Some((pki, "client")), Some((stranger, "client"))];
        for (shown, expected, who) in shown
            .into_iter()
            .zip([none, ours, strangers])
            .zip(["none", "ours", "a stranger's"])
            .map(|((a, b), c)| (a, b, c))
        {
            let answer = status(address, pki, shown).await;
            assert_eq!(answer.is_ok_and(|status| status == "200"), expected, "{rest}: {who}");
        }
    })
    .await;
}

#[tokio::test]
async fn client_certificates_are_asked_for_as_the_file_says() {
    let with_ca = |kind: &str| format!("client_auth_type: {kind}\n  client_ca_file: ca.pem");
    check_clients("client_auth_type: NoClientCert", true, true, true).await;
    check_clients("client_auth_type: RequestClientCert", true, true, true).await;
    check_clients("client_auth_type: RequireAnyClientCert", false, true, true).await;
    check_clients(&with_ca("VerifyClientCertIfGiven"), true, true, false).await;
    check_clients(&with_ca("RequireAndVerifyClientCert"), false, true, false).await;
    for old in ["TLS12", "TLS13"] {
        let rest = format!("{}\n  max_version: {old}", with_ca("RequireAndVerifyClientCert"));
        check_clients(&rest.replace("max_version: TLS13", "min_version: TLS13"), false, true, false).await;
    }
}

#[tokio::test]
async fn a_client_certificate_must_have_an_allowed_name() {
    let rest =
        "client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: ";
    for (names, taken) in [
        ("[prometheus.example]", true),
        ("[other, 10.1.2.3]", true),
        ("[example, \"*.example\", prometheus.exampl, 10.1.2.4]", false),
        ("[]", false),
    ] {
        check_clients(&format!("{rest}{names}"), false, taken, false).await;
    }
}

fn authorization(text: &str) -> String {
    format!("\r\nAuthorization: Basic {}", BASE64_STANDARD.encode(text))
}

#[tokio::test]
async fn every_page_asks_for_the_password() {
    let pki = &Pki::new();
    let hash = bcrypt::hash("secret", 4).unwrap();
    let text = format!(
        "basic_auth_users: {{alice: \"{hash}\"}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    );
    secured(pki, &text, |address, counters| async move {
        for path in ["/metrics", "/", "/-/healthy", "/-/ready", "/health", "/none"] {
            for wrong in [String::new(), authorization("alice:wrong"), authorization("bob:secret")] {
                let (head, body) = ask(address, &format!("GET {path} HTTP/1.1{wrong}")).await;
                assert!(head.starts_with("http/1.1 401 "), "{path}: {head}");
                assert!(head.contains("www-authenticate: basic") && head.contains("x-frame-options: deny"));
                assert_eq!(body, b"Unauthorized\n");
            }
            let right = authorization("alice:secret");
            let (head, _) = ask(address, &format!("GET {path} HTTP/1.1{right}")).await;
            assert!(!head.starts_with("http/1.1 401 "), "{path}: {head}");
            assert!(head.contains("x-frame-options: deny"), "{head}");
        }
        assert_eq!(counters.unauthorized.load(Ordering::SeqCst), 18);
    })
    .await;
}

#[tokio::test]
async fn requests_beyond_the_rate_limit_are_refused() {
    let pki = &Pki::new();
    secured(pki, "rate_limit: {interval: 1h, burst: 2}\n", |address, counters| async move {
        for expected in ["200", "200", "429", "429"] {
            let (head, _) = ask(address, "GET /metrics HTTP/1.1").await;
            assert_eq!(head[9..12], *expected);
        }
        assert_eq!(counters.rate_limited.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test]
async fn changes_of_the_file_hold_for_the_next_request() {
    let pki = &Pki::new();
    let users =
        |password: &str| format!("basic_auth_users: {{a: \"{}\"}}\n", bcrypt::hash(password, 4).unwrap());
    secured(pki, &users("one"), |address, _| async move {
        let status = |password: &'static str| async move {
            let head = ask(address, &format!("GET /metrics HTTP/1.1{}", authorization(password))).await.0;
            head[9..12].to_owned()
        };
        assert_eq!((status("a:one").await, status("a:two").await), ("200".to_owned(), "401".to_owned()));
        pki.write("web.yml", &users("two"));
        assert_eq!((status("a:one").await, status("a:two").await), ("401".to_owned(), "200".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_renewed_certificate_holds_for_the_next_connection() {
    let pki = &Pki::new();
    secured(pki, TLS, |address, _| async move {
        let shown = || async move {
            let stream = connect(address, pki, None, &[]).await.unwrap();
            stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
        };
        let before = shown().await;
        assert_eq!(before, shown().await);
        pki.sign("server", &["localhost"]);
        assert_ne!(before, shown().await);
    })
    .await;
}

#[tokio::test]
async fn each_address_is_served() {
    let settings = LiveSettings::load(None).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let server =
        WebServer::bind(&[any, "127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()], settings)
            .unwrap();
    let addresses = server.local_addresses().to_vec();
    let (trigger, stop) = shutdown::channel();
    let pages = Arc::new(Stub::default()) as Arc<dyn Pages>;
    let task = tokio::spawn(server.serve(pages, options("/metrics"), stop));
    for _ in 0..3 {
        for address in &addresses {
            let (head, _) = ask(*address, "GET /-/healthy HTTP/1.1").await;
            assert!(head.starts_with("http/1.1 200 "), "{address}: {head}");
        }
    }
    trigger.stop();
    task.await.unwrap();
}
