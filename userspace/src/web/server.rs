//! TCP connections -> HTTP requests.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::warn;

use super::{Pages, Site};
use crate::config::HostPort;
use crate::listener::{self, ListenError};
use crate::shutdown::Stop;

/// Connections at a time; more wait in the kernel until one of these ends.
const CONNECTIONS_MAX: usize = 256;
/// For a request's head, and between two requests of one connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head; hyper's least is 8 KiB.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// A client that takes nothing of its answer for this long is cut off.
const SEND_STALL_MAX: Duration = Duration::from_secs(30);
/// A connection is asked to end after this, and cut after another [`FINISH_MAX`]: a client that reads
/// one byte a minute must not hold its place for ever. Prometheus just connects again.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
const FINISH_MAX: Duration = Duration::from_secs(30);
/// At shutdown, requests under way have this long to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A bound HTTP server.
#[derive(Debug)]
pub struct WebServer {
    listener: TcpListener,
    local_address: SocketAddr,
}

impl WebServer {
    /// Binds the socket; needs a runtime around it.
    ///
    /// # Errors
    ///
    /// The address cannot be had.
    pub fn bind(address: &HostPort) -> Result<Self, ListenError> {
        let bound = || {
            let listener = TcpListener::from_std(listener::bind(address, Type::STREAM)?.into())?;
            let local_address = listener.local_addr()?;
            Ok(Self { listener, local_address })
        };
        bound().map_err(|error: io::Error| ListenError {
            transport: "http",
            flag: "web.listen-address",
            address: address.to_string(),
            error,
        })
    }

    /// The address with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Serves `pages` until `stop`, then lets requests under way end, and returns.
    pub async fn serve(self, pages: Arc<dyn Pages>, telemetry_path: String, mut stop: Stop) {
        let site = Arc::new(Site::new(pages, telemetry_path));
        let mut connections = JoinSet::new();
        let mut backoff = BACKOFF;
        loop {
            tokio::select! {
                biased;
                () = stop.requested() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        backoff = BACKOFF;
                        connections.spawn(serve_connection(stream, Arc::clone(&site), stop.clone()));
                    }
                    Err(error) => {
                        if backoff == BACKOFF {
                            warn!(address = %self.local_address, %error, "accepting an HTTP connection failed; trying on");
                        }
                        tokio::time::sleep(backoff).await;
                        backoff = (backoff * 2).min(BACKOFF_MAX);
                    }
                },
            }
        }
        drop(self.listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        // Whoever is not done then is cut off when the set goes.
        let _ = tokio::time::timeout(SHUTDOWN_MAX, finished).await;
    }
}

async fn serve_connection(stream: TcpStream, site: Arc<Site>, mut stop: Stop) {
    let socket = SockRef::from(&stream);
    // Without these two options the server works, but waits longer for peers that are gone.
    let _ = socket.set_tcp_user_timeout(Some(SEND_STALL_MAX));
    let _ = socket.set_tcp_nodelay(true);
    let service = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Errors of a connection are the client's business: it went away, or spoke no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.requested() => {}
        () = tokio::time::sleep(CONNECTION_AGE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(FINISH_MAX, connection).await;
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::shutdown;
    use crate::startup::Row;

    #[derive(Default)]
    struct Stub {
        panics: AtomicBool,
        not_ready: AtomicBool,
        at_once: AtomicU32,
        at_once_max: AtomicU32,
    }

    impl Pages for Stub {
        fn exposition(&self, out: &mut Vec<u8>) {
            assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.at_once_max.fetch_max(now, Ordering::SeqCst);
            out.extend_from_slice(b"# TYPE a counter\na 1\n");
            std::thread::yield_now();
            self.at_once.fetch_sub(1, Ordering::SeqCst);
        }

        fn promoted_json(&self) -> String {
            "[]".to_owned()
        }

        fn status(&self) -> Vec<Row> {
            vec![("udp".to_owned(), "on".to_owned(), ":9125".to_owned())]
        }

        fn ready(&self) -> bool {
            !self.not_ready.load(Ordering::SeqCst)
        }
    }

    /// Serves `stub` on a port of its own while the future that `test` gives runs.
    async fn with_server<F: Future>(
        stub: &Arc<Stub>,
        telemetry_path: &str,
        test: impl FnOnce(SocketAddr) -> F,
    ) -> F::Output {
        let server = WebServer::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let address = server.local_address();
        let (trigger, stop) = shutdown::channel();
        let pages = Arc::clone(stub) as Arc<dyn Pages>;
        let task = tokio::spawn(server.serve(pages, telemetry_path.to_owned(), stop));
        let output = test(address).await;
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
            with_server(
                stub,
                telemetry_path,
                |a| async move { ask(a, &format!("{request} HTTP/1.1")).await },
            )
            .await;
        let body = String::from_utf8(body).unwrap();
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{request}: {head}");
        assert!(body.contains(expected), "{request}: {body}");
        assert_eq!(body.is_empty(), expected.is_empty(), "{request}: {body}");
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
        check(&stub, "/metrics", "GET /-/healthy", 200, "Statsd Exporter is Healthy.\n").await;
        check(&stub, "/metrics", "GET /-/ready", 200, "Statsd Exporter is Ready.\n").await;
        check(&stub, "/metrics", "POST /-/healthy", 200, "").await;
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
            for round in 0..2 * super::super::UNSENT_MAX {
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
}
