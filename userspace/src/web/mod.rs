//! HTTP request -> page.

mod accept;
mod body;
mod counters;
mod credentials;
mod encoding;
mod guard;
mod landing;
mod path;
mod places;
mod quality;
mod rate_limit;
mod server;
mod settings;
mod status;
mod stream;
mod tail;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION,
    VARY,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::mpsc::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::error;

pub use counters::Counters;
pub use server::WebServer;
pub use tail::TailAccess;

pub use settings::{Live as LiveSettings, SettingsError, check as check_settings};

use counters::InFlight;
use guard::Guard;

use crate::exposition::{Format, Sink};
use crate::live::tail::{Refused, Request as Following};
use body::Body;

const HEALTHY: &str = "/-/healthy";
/// The same page, where people look for it first. A telemetry path of this name hides it.
const HEALTH: &str = "/health";
const READY: &str = "/-/ready";
const RELOAD: &str = "/-/reload";
const QUIT: &str = "/-/quit";
const PROMOTED: &str = "/promoted";
/// A telemetry path of the same name hides it.
const CARDINALITY: &str = "/cardinality";
/// A telemetry path of the same name hides it, and the next one.
const LIVE: &str = "/live";
const TAIL: &str = "/live/tail";
const STATUS: &str = "/status";
/// Every page but the exposition and the landing page that a telemetry path must not hide.
pub(crate) const PAGES: [&str; 5] = [HEALTHY, READY, RELOAD, QUIT, PROMOTED];

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON_LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Expositions written at the same time; one more waits. Two of them already keep two cores busy.
const WRITING_MAX: usize = 2;
/// Expositions written and not sent yet; this bounds their memory when clients read slowly.
const UNSENT_MAX: usize = 16;
/// A scrape that has waited this long gets 503; Prometheus gives up after 10 s by default.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What the web server serves.
pub trait Pages: Send + Sync + 'static {
    /// Writes the exposition into `sink`. Drains ring, slots and sockets first; may block.
    fn exposition(&self, format: Format, sink: &mut dyn Sink);
    /// The promoted identities with their rates, as JSON. May block.
    fn promoted_json(&self) -> String;
    /// Where the series are, as JSON. Looks at each of them; may block.
    fn cardinality_json(&self) -> String;
    /// What goes on now, as JSON, with the last minutes if asked for. May block.
    fn live_json(&self, history: bool) -> String;
    /// Datagrams as they arrive, as lines of JSON.
    ///
    /// # Errors
    ///
    /// Too many follow already.
    fn follow(&self, request: Following) -> Result<Receiver<Bytes>, Refused>;
    /// The rows of the start-up table: feature, state, why. May block.
    fn status(&self) -> Vec<crate::startup::Row>;
    /// What the landing page shows of the daemon's own metrics: name and value. May block.
    fn figures(&self) -> Vec<(&'static str, f64)>;
    /// Whether datagrams are received.
    fn ready(&self) -> bool;
    /// Reads the mapping file anew; logs and counts what came of it. May block.
    fn reload(&self);
    /// Asks the daemon to end in the orderly way, and returns at once.
    fn quit(&self);
}

/// How the site is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteOptions {
    pub telemetry_path: String,
    /// Whether `/-/reload` and `/-/quit` are there.
    pub lifecycle: bool,
    /// Whether OpenMetrics is written for who asks for it.
    pub openmetrics: bool,
    /// Who may follow what arrives.
    pub tail: TailAccess,
}

/// Answers requests; shared by all connections.
struct Site {
    pages: Arc<dyn Pages>,
    telemetry_path: String,
    lifecycle: bool,
    openmetrics: bool,
    tail: TailAccess,
    guard: Guard,
    counters: Arc<Counters>,
    /// One reload at a time; others wait outside the threads that write expositions.
    reloading: Semaphore,
    writing: Arc<Semaphore>,
    unsent: Arc<Semaphore>,
    wait_max: Duration,
}

type Page = Response<Body>;

impl Site {
    fn new(
        pages: Arc<dyn Pages>,
        options: SiteOptions,
        settings: Arc<LiveSettings>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            pages,
            telemetry_path: options.telemetry_path,
            lifecycle: options.lifecycle,
            openmetrics: options.openmetrics,
            tail: options.tail,
            guard: Guard::new(settings, Arc::clone(&counters)),
            counters,
            reloading: Semaphore::new(1),
            writing: Arc::new(Semaphore::new(WRITING_MAX)),
            unsent: Arc::new(Semaphore::new(UNSENT_MAX)),
            wait_max: WAIT_MAX,
        }
    }

    /// Answers whoever is let in, and adds the headers that the web configuration asks for.
    async fn answer<B>(&self, request: &Request<B>, peer: IpAddr) -> Page {
        let settings = self.guard.settings();
        let mut answer = match self.guard.refusal(&settings, request.headers()).await {
            Some(refusal) => refusal,
            None => self.page(request, peer).await,
        };
        for (name, value) in &settings.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }

    /// Answers by path; like `statsd_exporter`, any method does.
    async fn page<B>(&self, request: &Request<B>, peer: IpAddr) -> Page {
        let path = path::decoded(request.uri().path());
        if path != self.telemetry_path
            && let Some(clean) = path::cleaned(request.uri().path())
        {
            return moved(&clean, request.uri().query());
        }
        match path.as_ref() {
            path if path == self.telemetry_path => self.scrape(request).await,
            HEALTHY | HEALTH => health(request.method(), StatusCode::OK, "Statsd Exporter is Healthy.\n"),
            READY if self.pages.ready() => {
                health(request.method(), StatusCode::OK, "Statsd Exporter is Ready.\n")
            }
            READY => {
                health(request.method(), StatusCode::SERVICE_UNAVAILABLE, "Statsd Exporter is not Ready.\n")
            }
            RELOAD if self.lifecycle => self.reload(request.method()).await,
            QUIT if self.lifecycle => self.quit(request.method()),
            PROMOTED => self.promoted().await,
            CARDINALITY => self.written(JSON, "counting the series", |pages| pages.cardinality_json()).await,
            STATUS => self.status().await,
            TAIL => self.follow(request, peer),
            LIVE => self.live(request.uri().query().unwrap_or_default()).await,
            // There is no landing page then: `/` is the exposition, and so is the rest.
            _ if self.telemetry_path == "/" => self.scrape(request).await,
            "/" => self.landing().await,
            _ => page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
        }
    }

    /// The mapping file is the new one by the time that this is answered, if it does.
    async fn reload(&self, method: &Method) -> Page {
        if !changes_something(method) {
            return page(StatusCode::OK, TEXT, "");
        }
        let Ok(_one) = self.reloading.acquire().await else { return failed("reloading") };
        let pages = Arc::clone(&self.pages);
        match tokio::task::spawn_blocking(move || pages.reload()).await {
            Ok(()) => page(StatusCode::OK, TEXT, "Requesting reload"),
            Err(_) => failed("reloading"),
        }
    }

    fn quit(&self, method: &Method) -> Page {
        if !changes_something(method) {
            return page(StatusCode::OK, TEXT, "");
        }
        self.pages.quit();
        page(StatusCode::OK, TEXT, "Requesting termination... Goodbye!")
    }

    /// An exposition, counted.
    async fn scrape<B>(&self, request: &Request<B>) -> Page {
        let in_flight = InFlight::new(&self.counters.scrapes_in_flight);
        let page = self.exposition(request).await;
        drop(in_flight);
        let count = match page.status() {
            StatusCode::OK => &self.counters.scrapes_200,
            StatusCode::SERVICE_UNAVAILABLE => &self.counters.scrapes_503,
            _ => &self.counters.scrapes_500,
        };
        count.fetch_add(1, Ordering::Relaxed);
        page
    }

    async fn exposition<B>(&self, request: &Request<B>) -> Page {
        let header = |name| {
            request.headers().get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok())
        };
        let coding = encoding::negotiate(header(ACCEPT_ENCODING));
        let (format, escaping) = accept::negotiate(header(ACCEPT), self.openmetrics);
        let Some((writing, unsent)) = self.permits().await else {
            return page(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "too many scrapes at a time; scrape less often, or from fewer places\n",
            );
        };
        let pages = Arc::clone(&self.pages);
        let (mut outlet, parts) = body::parts(coding, unsent);
        tokio::task::spawn_blocking(move || {
            pages.exposition(format, &mut outlet);
            outlet.finish();
            drop(writing);
        });
        // A panic in there ends this scrape and nothing else.
        let Ok(body) = parts.begin().await else { return failed("writing the exposition") };
        let mut page = Response::new(body);
        let content_type = HeaderValue::try_from(format.content_type(escaping)).unwrap_or(TEXT);
        page.headers_mut().insert(CONTENT_TYPE, content_type);
        page.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if let Some(coding) = coding.name() {
            page.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        page
    }

    /// The right to write an exposition, and the right to keep it; `None` where others hold all of
    /// them for too long.
    async fn permits(&self) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let permits = async {
            let unsent = Arc::clone(&self.unsent).acquire_owned().await.ok()?;
            let writing = Arc::clone(&self.writing).acquire_owned().await.ok()?;
            Some((writing, unsent))
        };
        tokio::time::timeout(self.wait_max, permits).await.ok().flatten()
    }

    async fn promoted(&self) -> Page {
        self.written(JSON, "listing the promoted identities", |pages| pages.promoted_json()).await
    }

    /// An answer that ends when the client goes, or the daemon.
    fn follow<B>(&self, request: &Request<B>, peer: IpAddr) -> Page {
        if let Some(why) = tail::refusal(self.tail, peer, request.headers()) {
            return page(StatusCode::FORBIDDEN, TEXT, why);
        }
        let asked = match tail::request(request.uri().query().unwrap_or_default()) {
            Ok(asked) => asked,
            Err(error) => return page(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
        };
        match self.pages.follow(asked) {
            Ok(pieces) => {
                let mut page = Response::new(Body::Pieces(pieces));
                page.headers_mut().insert(CONTENT_TYPE, JSON_LINES);
                page
            }
            Err(refused) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{refused}\n")),
        }
    }

    async fn status(&self) -> Page {
        let path = self.telemetry_path.clone();
        let mut page = self
            .written(HTML, "writing the status page", move |pages| {
                status::page(&path, &pages.status(), &pages.figures())
            })
            .await;
        if let Ok(policy) = HeaderValue::try_from(status::POLICY.as_str()) {
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        page
    }

    async fn live(&self, query: &str) -> Page {
        let history = query.split('&').any(|part| part == "history");
        self.written(JSON, "looking at what goes on", move |pages| pages.live_json(history)).await
    }

    async fn landing(&self) -> Page {
        let (path, lifecycle) = (self.telemetry_path.clone(), self.lifecycle);
        self.written(HTML, "writing the landing page", move |pages| {
            landing::page(&path, lifecycle, &pages.status(), &pages.figures())
        })
        .await
    }

    /// What `write` gives, which may block.
    async fn written(
        &self,
        content_type: HeaderValue,
        doing: &str,
        write: impl FnOnce(&dyn Pages) -> String + Send + 'static,
    ) -> Page {
        let Some((writing, unsent)) = self.permits().await else {
            return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many requests at a time\n");
        };
        let pages = Arc::clone(&self.pages);
        let written = tokio::task::spawn_blocking(move || {
            let bytes = write(pages.as_ref()).into_bytes();
            drop(writing);
            Unsent { bytes, _permit: unsent }
        });
        match written.await {
            Ok(unsent) => page(StatusCode::OK, content_type, Bytes::from_owner(unsent)),
            Err(_) => failed(doing),
        }
    }
}

/// Bytes that count as unsent until the connection lets go of them.
struct Unsent {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn page(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Page {
    let mut page = Response::new(Body::from(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, content_type);
    page
}

/// Sends the client on to `path`, with the method and the query that it came with.
fn moved(path: &str, query: Option<&str>) -> Page {
    let location = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut page = page(StatusCode::TEMPORARY_REDIRECT, TEXT, "");
    // A path that was received can be sent; the other way out is for the type alone.
    let location = HeaderValue::try_from(location).unwrap_or_else(|_| HeaderValue::from_static("/"));
    page.headers_mut().insert(LOCATION, location);
    page
}

/// `statsd_exporter` answers every method, but says something only to GET.
fn health(method: &Method, status: StatusCode, text: &'static str) -> Page {
    page(status, TEXT, if method == Method::GET { text } else { "" })
}

fn changes_something(method: &Method) -> bool {
    matches!(*method, Method::PUT | Method::POST)
}

fn failed(doing: &str) -> Page {
    error!(doing, "a request failed inside");
    let text = format!("An error has occurred while serving metrics:\n\n{doing} failed; the log has more\n");
    page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
}

#[cfg(test)]
mod test_pki;
#[cfg(test)]
mod tests;
