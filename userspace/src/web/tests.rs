//! Requests over real sockets -> answers.

mod formats;
mod secured;

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::shutdown;
use crate::startup::Row;

#[derive(Default)]
struct Stub {
    reloads: AtomicU32,
    quits: AtomicU32,
    panics: AtomicBool,
    /// Times that [`PART`] comes before everything else.
    parts: AtomicU32,
    not_ready: AtomicBool,
    at_once: AtomicU32,
    at_once_max: AtomicU32,
    /// Keeps streams open.
    followed: parking_lot::Mutex<Vec<tokio::sync::mpsc::Sender<Bytes>>>,
}

const PART: &[u8] = &[b'#'; 100_000];

impl Pages for Stub {
    fn exposition(&self, _format: Format, sink: &mut dyn Sink) {
        for _ in 0..self.parts.load(Ordering::SeqCst) {
            if sink.take(&mut PART.to_vec()).is_break() {
                return;
            }
        }
        assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once_max.fetch_max(now, Ordering::SeqCst);
        let _ = sink.take(&mut b"# TYPE a counter\na 1\n".to_vec());
        std::thread::yield_now();
        self.at_once.fetch_sub(1, Ordering::SeqCst);
    }

    fn promoted_json(&self) -> String {
        "[]".to_owned()
    }

    fn cardinality_json(&self) -> String {
        "{}".to_owned()
    }

    fn live_json(&self, history: bool) -> String {
        format!("{{\"history\":{history}}}")
    }

    fn follow(&self, _request: Following) -> Result<Receiver<Bytes>, Refused> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let sent = sender.try_send(Bytes::from_static(b"{}\n"));
        self.followed.lock().push(sender);
        sent.map(|()| receiver).map_err(|_| Refused::Closed)
    }

    fn status(&self) -> Vec<Row> {
        vec![("udp".to_owned(), "on".to_owned(), ":9125".to_owned())]
    }

    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![("lines received", 12_345.0)]
    }

    fn ready(&self) -> bool {
        !self.not_ready.load(Ordering::SeqCst)
    }

    fn reload(&self) {
        assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
        self.reloads.fetch_add(1, Ordering::SeqCst);
    }

    fn quit(&self) {
        self.quits.fetch_add(1, Ordering::SeqCst);
    }
}

fn options(telemetry_path: &str) -> SiteOptions {
    SiteOptions { telemetry_path: telemetry_path.to_owned(), ..SiteOptions::default() }
}

/// Serves `stub` on a port of its own while the future that `test` gives runs.
async fn with_server<F: Future>(
    stub: &Arc<Stub>,
    telemetry_path: &str,
    test: impl FnOnce(SocketAddr) -> F,
) -> F::Output {
    serving(stub, options(telemetry_path), None, |address, _| test(address)).await
}

/// The same with a web configuration file, and with the server's counters for the test.
async fn serving<F: Future>(
    stub: &Arc<Stub>,
    options: SiteOptions,
    file: Option<&Path>,
    test: impl FnOnce(SocketAddr, Arc<Counters>) -> F,
) -> F::Output {
    let settings = LiveSettings::load(file).unwrap();
    let server = WebServer::bind(&["127.0.0.1:0".parse().unwrap()], settings).unwrap();
    let (address, counters) = (server.local_addresses()[0], Arc::clone(server.counters()));
    let (trigger, stop) = shutdown::channel();
    let pages = Arc::clone(stub) as Arc<dyn Pages>;
    let task = tokio::spawn(server.serve(pages, options, stop));
    let output = test(address, counters).await;
    trigger.stop();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    output
}

/// Sends one request; the head of the answer in lower case, and the body.
async fn ask(address: SocketAddr, head: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
    (String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase(), answer[end + 4..].to_vec())
}

/// Asks for `path`; expects this status and a body that contains `expected`.
async fn check(stub: &Arc<Stub>, telemetry_path: &str, request: &str, status: u16, expected: &str) {
    let (head, body) =
        with_server(stub, telemetry_path, |a| async move { ask(a, &format!("{request} HTTP/1.1")).await })
            .await;
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with(&format!("http/1.1 {status} ")), "{request}: {head}");
    assert!(body.contains(expected), "{request}: {body}");
    assert_eq!(body.is_empty(), expected.is_empty(), "{request}: {body}");
}

#[tokio::test]
async fn only_who_follows_keeps_an_old_connection() {
    let settings = LiveSettings::load(None).unwrap();
    let server = WebServer::bind(&["127.0.0.1:0".parse().unwrap()], settings).unwrap();
    let server = server.with_connection_age_max(Duration::from_millis(50));
    let address = server.local_addresses()[0];
    let (trigger, stop) = shutdown::channel();
    let stub = Arc::new(Stub::default());
    let task = tokio::spawn(server.serve(Arc::clone(&stub) as Arc<dyn Pages>, options("/metrics"), stop));
    let open = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let end = async |stream: &mut TcpStream, wait| {
        let all = async { while stream.read(&mut [0; 1024]).await.unwrap() > 0 {} };
        tokio::time::timeout(wait, all).await.is_ok()
    };
    let mut idle = open("/-/healthy").await;
    let mut follows = open("/live/tail").await;
    assert!(end(&mut idle, Duration::from_secs(10)).await, "an old connection ends");
    // Twenty times the age.
    assert!(!end(&mut follows, Duration::from_secs(1)).await, "who follows was cut off");
    stub.followed.lock().clear();
    assert!(end(&mut follows, Duration::from_secs(10)).await, "once it ends the connection does");
    trigger.stop();
    tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
}

#[tokio::test]
async fn each_path_has_its_page() {
    let stub = Arc::new(Stub::default());
    check(&stub, "/metrics", "GET /metrics", 200, "a 1\n").await;
    check(&stub, "/metrics", "GET /metrics?x=y", 200, "a 1\n").await;
    check(&stub, "/metrics", "POST /metrics", 200, "a 1\n").await;
    check(&stub, "/metrics", "HEAD /metrics", 200, "").await;
    check(&stub, "/metrics", "GET /", 200, "<td>udp</td>").await;
    check(&stub, "/metrics", "GET /promoted", 200, "[]").await;
    check(&stub, "/metrics", "GET /cardinality", 200, "{}").await;
    check(&stub, "/cardinality", "GET /cardinality", 200, "a 1\n").await;
    check(&stub, "/metrics", "GET /live", 200, "{\"history\":false}").await;
    check(&stub, "/metrics", "GET /live?history", 200, "{\"history\":true}").await;
    check(&stub, "/metrics", "GET /status", 200, "<td>udp</td>").await;
    check(&stub, "/metrics", "GET /live/tail", 403, "ask by http://localhost:PORT").await;
    check(&stub, "/live", "GET /live", 200, "a 1\n").await;
    check(&stub, "/metrics", "GET /-/healthy", 200, "Statsd Exporter is Healthy.\n").await;
    check(&stub, "/metrics", "GET /-/ready", 200, "Statsd Exporter is Ready.\n").await;
    check(&stub, "/metrics", "POST /-/healthy", 200, "").await;
    check(&stub, "/metrics", "GET /", 200, "<td>lines received</td>").await;
    check(&stub, "/metrics", "GET /health", 200, "Statsd Exporter is Healthy.\n").await;
    check(&stub, "/metrics", "GET /-/reload", 404, "404").await;
    check(&stub, "/metrics", "POST /-/quit", 404, "404").await;
    check(&stub, "/metrics", "GET /debug/pprof/", 404, "404").await;
    check(&stub, "/metrics", "GET /metrics/", 404, "404").await;
    check(&stub, "/metrics", "GET /other", 404, "404").await;
}

#[tokio::test]
async fn a_slash_as_telemetry_path_takes_every_other_path() {
    let stub = Arc::new(Stub::default());
    check(&stub, "/", "GET /", 200, "a 1\n").await;
    check(&stub, "/", "GET /anything", 200, "a 1\n").await;
    check(&stub, "/", "GET /-/healthy", 200, "Healthy").await;
}

#[tokio::test]
async fn not_ready_is_503() {
    let stub = Arc::new(Stub::default());
    stub.not_ready.store(true, Ordering::SeqCst);
    check(&stub, "/metrics", "GET /-/ready", 503, "not Ready").await;
}

#[tokio::test]
async fn the_exposition_is_compressed_for_those_who_take_it() {
    let stub = Arc::new(Stub::default());
    with_server(&stub, "/metrics", |address| async move {
        let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip").await;
        assert!(head.contains("content-encoding: gzip"), "{head}");
        assert!(
            head.contains("content-type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
        );
        let mut text = String::new();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "# TYPE a counter\na 1\n");
        let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip;q=0").await;
        assert!(!head.contains("content-encoding"), "{head}");
        assert_eq!(body, text.as_bytes());
    })
    .await;
}

#[tokio::test]
async fn a_panic_fails_one_scrape_only() {
    let stub = Arc::new(Stub::default());
    let pages = Arc::clone(&stub);
    with_server(&stub, "/metrics", |address| async move {
        for round in 0..2 * UNSENT_MAX {
            pages.panics.store(true, Ordering::SeqCst);
            let (head, _) = ask(address, "GET /metrics HTTP/1.1").await;
            assert!(head.starts_with("http/1.1 500 "), "round {round}: {head}");
        }
        pages.panics.store(false, Ordering::SeqCst);
        let (head, _) = ask(address, "GET /metrics HTTP/1.1").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
    })
    .await;
}

#[tokio::test]
async fn scrapes_at_the_same_time_queue_and_all_are_served() {
    let stub = Arc::new(Stub::default());
    with_server(&stub, "/metrics", |address| async move {
        let mut scrapes = JoinSet::new();
        for _ in 0..64 {
            scrapes.spawn(async move { ask(address, "GET /metrics HTTP/1.1").await });
        }
        while let Some(scrape) = scrapes.join_next().await {
            assert!(scrape.unwrap().0.starts_with("http/1.1 200 "));
        }
    })
    .await;
    assert!(stub.at_once_max.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_shutdown() {
    let stub = Arc::new(Stub::default());
    let idle = with_server(&stub, "/metrics", |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        stream
    })
    .await;
    drop(idle);
}

/// Answer of a site whose lifecycle is on: status and body.
async fn lifecycle(stub: &Arc<Stub>, request: &str) -> (String, String) {
    let options = SiteOptions { lifecycle: true, ..options("/metrics") };
    let (head, body) =
        serving(stub, options, None, |a, _| async move { ask(a, &format!("{request} HTTP/1.1")).await })
            .await;
    (head[9..12].to_owned(), String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn lifecycle_pages_act_on_put_and_post_only() {
    let stub = Arc::new(Stub::default());
    let goodbye = "Requesting termination... Goodbye!";
    for (method, reload, quit) in [
        ("GET", "", ""),
        ("HEAD", "", ""),
        ("PUT", "Requesting reload", goodbye),
        ("POST", "Requesting reload", goodbye),
    ] {
        let answer = |body: &str| ("200".to_owned(), body.to_owned());
        assert_eq!(lifecycle(&stub, &format!("{method} /-/reload")).await, answer(reload), "{method}");
        assert_eq!(lifecycle(&stub, &format!("{method} /-/quit")).await, answer(quit), "{method}");
    }
    assert_eq!(stub.reloads.load(Ordering::SeqCst), 2);
    assert_eq!(stub.quits.load(Ordering::SeqCst), 2);
    stub.panics.store(true, Ordering::SeqCst);
    assert_eq!(lifecycle(&stub, "POST /-/reload").await.0, "500");
}

#[tokio::test]
async fn scrapes_are_counted_by_status() {
    let stub = Arc::new(Stub::default());
    let pages = Arc::clone(&stub);
    serving(&stub, options("/metrics"), None, |address, counters| async move {
        ask(address, "GET /metrics HTTP/1.1").await;
        ask(address, "GET /-/healthy HTTP/1.1").await;
        pages.panics.store(true, Ordering::SeqCst);
        ask(address, "GET /metrics HTTP/1.1").await;
        let counts = [
            &counters.scrapes_200,
            &counters.scrapes_500,
            &counters.scrapes_503,
            &counters.scrapes_in_flight,
        ];
        assert_eq!(counts.map(|count| count.load(Ordering::SeqCst)), [1, 1, 0, 0]);
    })
    .await;
}

#[tokio::test]
async fn connections_that_ask_for_nothing_keep_nobody_out() {
    let stub = Arc::new(Stub::default());
    with_server(&stub, "/metrics", |address| async move {
        let mut silent = Vec::new();
        for _ in 0..400 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let answer =
            tokio::time::timeout(Duration::from_secs(10), ask(address, "GET /metrics HTTP/1.1")).await;
        assert!(answer.expect("there is room at once").0.starts_with("http/1.1 200 "));
    })
    .await;
}
