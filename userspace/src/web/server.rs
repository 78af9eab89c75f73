//! TCP connections -> HTTP requests.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use socket2::{SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::body::Body;
use super::places::{Kept, Place, Places};
use super::stream::accept_tls;
use super::{Counters, LiveSettings, Pages, Site, SiteOptions};
use crate::config::HostPort;
use crate::listener::{self, ListenError};
use crate::shutdown::Stop;

/// Connections at a time; when they are all there, the one that has been idle longest makes room.
const CONNECTIONS_MAX: usize = 256;
/// For a request's head, and between two requests of one connection.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's head; hyper's least is 8 KiB.
const HEAD_BYTES_MAX: u16 = 16 << 10;
/// Requests under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 16;
/// A client that takes nothing of its answer for this long is cut off.
const SEND_STALL_MAX: Duration = Duration::from_secs(30);
/// A connection is asked to end after this, and cut after another [`FINISH_MAX`]: a client that reads
/// one byte a minute must not hold its place for ever. Prometheus just connects again. Whoever follows
/// what arrives is let be: there are few of them, and one that takes nothing is cut off earlier.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
const FINISH_MAX: Duration = Duration::from_secs(30);
/// At shutdown, requests under way have this long to end.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// How soon to look again for an idle connection when there was none.
const FULL_WAIT: Duration = Duration::from_millis(100);
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A bound HTTP server.
pub struct WebServer {
    listeners: Vec<TcpListener>,
    local_addresses: Vec<SocketAddr>,
    settings: Arc<LiveSettings>,
    counters: Arc<Counters>,
    connection_age_max: Duration,
}

impl WebServer {
    /// Binds a socket for each address; needs a runtime around it.
    ///
    /// # Errors
    ///
    /// An address cannot be had.
    pub fn bind(addresses: &[HostPort], settings: LiveSettings) -> Result<Self, ListenError> {
        let (mut listeners, mut local_addresses) = (Vec::new(), Vec::new());
        for address in addresses {
            let bound = || {
                let listener = TcpListener::from_std(listener::bind(address, Type::STREAM)?.into())?;
                let local_address = listener.local_addr()?;
                Ok((listener, local_address))
            };
            let (listener, local_address) = bound().map_err(|error: io::Error| ListenError {
                transport: "http",
                flag: "web.listen-address",
                address: address.to_string(),
                error,
            })?;
            listeners.push(listener);
            local_addresses.push(local_address);
        }
        Ok(Self::new(listeners, local_addresses, settings))
    }

    /// Makes a server of sockets that listen already, at least one; needs a runtime around it.
    ///
    /// # Errors
    ///
    /// One of them is no TCP socket.
    pub fn adopt(sockets: Vec<Socket>, settings: LiveSettings) -> io::Result<Self> {
        let (mut listeners, mut local_addresses) = (Vec::new(), Vec::new());
        for socket in sockets {
            local_addresses.push(socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?);
            socket.set_nonblocking(true)?;
            listeners.push(TcpListener::from_std(socket.into())?);
        }
        Ok(Self::new(listeners, local_addresses, settings))
    }

    fn new(listeners: Vec<TcpListener>, local_addresses: Vec<SocketAddr>, settings: LiveSettings) -> Self {
        Self {
            listeners,
            local_addresses,
            settings: Arc::new(settings),
            counters: Arc::new(Counters::default()),
            connection_age_max: CONNECTION_AGE_MAX,
        }
    }

    #[cfg(test)]
    pub(super) fn with_connection_age_max(self, connection_age_max: Duration) -> Self {
        Self { connection_age_max, ..self }
    }

    /// The addresses, each with the port that the kernel chose where 0 was asked for.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    #[must_use]
    pub fn settings(&self) -> &Arc<LiveSettings> {
        &self.settings
    }

    /// Serves `pages` until `stop`, then lets requests under way end, and returns.
    pub async fn serve(self, pages: Arc<dyn Pages>, options: SiteOptions, mut stop: Stop) {
        let Self { listeners, local_addresses, settings, counters, connection_age_max } = self;
        let site = Arc::new(Site::new(pages, options, settings, counters));
        let mut connections = JoinSet::new();
        let mut places = Places::default();
        let mut backoff = BACKOFF;
        let mut first = 0;
        loop {
            let full = connections.len() >= CONNECTIONS_MAX;
            // One place is always being freed, unless all have requests under way: then that is
            // tried again.
            let waits = full && !places.make_room();
            tokio::select! {
                biased;
                () = stop.requested() => break,
                Some(ended) = connections.join_next_with_id() => {
                    places.free(ended.map_or_else(|error| error.id(), |(id, ())| id));
                }
                () = tokio::time::sleep(FULL_WAIT), if waits => {}
                (at, accepted) = accept(&listeners, first), if !full => {
                    // Next time another one is asked first, so that a busy one cannot starve the rest.
                    first = (at + 1) % listeners.len();
                    match accepted {
                        Ok((stream, peer)) => {
                            backoff = BACKOFF;
                            let place = places.new_place();
                            let guest = Guest {
                                peer: peer.ip(),
                                site: Arc::clone(&site),
                                place: Arc::clone(&place),
                                clock: Arc::clone(places.clock()),
                                age_max: connection_age_max,
                            };
                            let task = connections.spawn(serve_connection(stream, guest, stop.clone()));
                            places.take(task.id(), place);
                        }
                        Err(error) => {
                            if backoff == BACKOFF {
                                let address = local_addresses[at];
                                warn!(%address, %error, "accepting an HTTP connection failed; trying on");
                            }
                            tokio::time::sleep(backoff).await;
                            backoff = (backoff * 2).min(BACKOFF_MAX);
                        }
                    }
                }
            }
        }
        drop(listeners);
        let finished = async { while connections.join_next().await.is_some() {} };
        // Whoever is not done then is cut off when the set goes.
        let _ = tokio::time::timeout(SHUTDOWN_MAX, finished).await;
    }
}

/// A connection of any listener, asked from `first` on, and which one it was.
async fn accept(listeners: &[TcpListener], first: usize) -> (usize, io::Result<(TcpStream, SocketAddr)>) {
    poll_fn(|context| {
        for at in (first..listeners.len()).chain(0..first) {
            if let Poll::Ready(accepted) = listeners[at].poll_accept(context) {
                return Poll::Ready((at, accepted));
            }
        }
        Poll::Pending
    })
    .await
}

/// What a connection is served by.
#[derive(Clone)]
struct Guest {
    peer: IpAddr,
    site: Arc<Site>,
    place: Arc<Place>,
    clock: Arc<AtomicU64>,
    age_max: Duration,
}

impl Guest {
    async fn answer<B>(self, request: Request<B>) -> Result<Response<Kept<Body>>, Infallible> {
        let busy = self.place.busy(&self.clock);
        let answer = self.site.answer(&request, self.peer).await;
        let follows = matches!(answer.body(), Body::Pieces(_)).then(|| self.place.following());
        Ok(answer.map(|body| Kept { body, _busy: busy, _follows: follows }))
    }

    /// The daemon ends, or the connection is old enough.
    async fn asked_to_end(&self, stop: &mut Stop) {
        tokio::select! {
            () = stop.requested() => {}
            () = self.place.is_old(self.age_max) => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, guest: Guest, stop: Stop) {
    let place = Arc::clone(&guest.place);
    tokio::select! {
        () = place.must_leave() => {}
        () = serve_stream(stream, guest, stop) => {}
    }
}

async fn serve_stream(stream: TcpStream, guest: Guest, stop: Stop) {
    let socket = SockRef::from(&stream);
    // Without these two options the server works, but waits longer for peers that are gone.
    let _ = socket.set_tcp_user_timeout(Some(SEND_STALL_MAX));
    let _ = socket.set_tcp_nodelay(true);
    let Some(config) = guest.site.guard.settings().tls.clone() else {
        return serve_http1(stream, guest, stop).await;
    };
    match accept_tls(stream, config).await {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            serve_http2(stream, guest, stop).await;
        }
        Ok(stream) => serve_http1(stream, guest, stop).await,
        Err(why) => {
            guest.site.counters.handshake_errors.fetch_add(1, Ordering::Relaxed);
            debug!(?why, "a TLS handshake came to nothing");
        }
    }
}

async fn serve_http1(stream: impl AsyncRead + AsyncWrite + Unpin, guest: Guest, mut stop: Stop) {
    let service = service_fn(|request| guest.clone().answer(request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX.into())
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // Errors of a connection are the client's business: it went away, or spoke no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = guest.asked_to_end(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(FINISH_MAX, connection).await;
}

async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin, guest: Guest, mut stop: Stop) {
    let asked = AtomicBool::new(false);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        guest.clone().answer(request)
    });
    // What hangs or is gone is noticed by pings; what idles, by the connection's age.
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX.into())
        .keep_alive_interval(HEADER_READ_TIMEOUT)
        .keep_alive_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // There is no timeout for the first head, as there is in HTTP/1.
    let never_asks = async {
        tokio::time::sleep(HEADER_READ_TIMEOUT).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = never_asks => return,
        () = guest.asked_to_end(&mut stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(FINISH_MAX, connection).await;
}
