//! HTTP request -> page.

mod encoding;
mod landing;
mod server;

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::error;

pub use server::WebServer;

const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";
const PROMOTED: &str = "/promoted";
/// Every page but the exposition and the landing page.
pub(crate) const PAGES: [&str; 3] = [HEALTHY, READY, PROMOTED];

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EXPOSITION: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");

/// Expositions written at the same time; one more waits. Two of them already keep two cores busy.
const WRITING_MAX: usize = 2;
/// Expositions written and not sent yet; this bounds their memory when clients read slowly.
const UNSENT_MAX: usize = 16;
/// A scrape that has waited this long gets 503; Prometheus gives up after 10 s by default.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What the web server serves.
pub trait Pages: Send + Sync + 'static {
    /// Appends the exposition to `out`. Drains ring, slots and sockets first; may block.
    fn exposition(&self, out: &mut Vec<u8>);
    /// The promoted identities with their rates, as JSON. May block.
    fn promoted_json(&self) -> String;
    /// The rows of the start-up table: feature, state, why.
    fn status(&self) -> Vec<crate::startup::Row>;
    /// Whether datagrams are received.
    fn ready(&self) -> bool;
}

/// Answers requests; shared by all connections.
struct Site {
    pages: Arc<dyn Pages>,
    telemetry_path: String,
    writing: Arc<Semaphore>,
    unsent: Arc<Semaphore>,
    wait_max: Duration,
}

type Page = Response<Full<Bytes>>;

impl Site {
    fn new(pages: Arc<dyn Pages>, telemetry_path: String) -> Self {
        Self {
            pages,
            telemetry_path,
            writing: Arc::new(Semaphore::new(WRITING_MAX)),
            unsent: Arc::new(Semaphore::new(UNSENT_MAX)),
            wait_max: WAIT_MAX,
        }
    }

    /// Answers by path; like `statsd_exporter`, any method does.
    async fn answer<B>(&self, request: &Request<B>) -> Page {
        match request.uri().path() {
            path if path == self.telemetry_path => self.exposition(request).await,
            HEALTHY => health(request.method(), StatusCode::OK, "Statsd Exporter is Healthy.\n"),
            READY if self.pages.ready() => {
                health(request.method(), StatusCode::OK, "Statsd Exporter is Ready.\n")
            }
            READY => {
                health(request.method(), StatusCode::SERVICE_UNAVAILABLE, "Statsd Exporter is not Ready.\n")
            }
            PROMOTED => self.promoted().await,
            // There is no landing page then: `/` is the exposition, and so is the rest.
            _ if self.telemetry_path == "/" => self.exposition(request).await,
            "/" => page(StatusCode::OK, HTML, landing::page(&self.telemetry_path, &self.pages.status())),
            _ => page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n"),
        }
    }

    async fn exposition<B>(&self, request: &Request<B>) -> Page {
        let compressed = encoding::accepts_gzip(
            request.headers().get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()),
        );
        let Some((writing, unsent)) = self.permits().await else {
            return page(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "too many scrapes at a time; scrape less often, or from fewer places\n",
            );
        };
        let pages = Arc::clone(&self.pages);
        let written = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            pages.exposition(&mut text);
            let bytes = if compressed { crate::exposition::gzip::gzip(&text) } else { text };
            drop(writing);
            Unsent { bytes, _permit: unsent }
        });
        // A panic in there ends this scrape and nothing else.
        let Ok(unsent) = written.await else { return failed("writing the exposition") };
        let mut page = page(StatusCode::OK, EXPOSITION, Bytes::from_owner(unsent));
        page.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        if compressed {
            page.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
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
        let Some((writing, unsent)) = self.permits().await else {
            return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "too many requests at a time\n");
        };
        let pages = Arc::clone(&self.pages);
        let written = tokio::task::spawn_blocking(move || {
            let bytes = pages.promoted_json().into_bytes();
            drop(writing);
            Unsent { bytes, _permit: unsent }
        });
        match written.await {
            Ok(unsent) => page(StatusCode::OK, JSON, Bytes::from_owner(unsent)),
            Err(_) => failed("listing the promoted identities"),
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
    let mut page = Response::new(Full::new(body.into()));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, content_type);
    page
}

/// `statsd_exporter` answers every method, but says something only to GET.
fn health(method: &Method, status: StatusCode, text: &'static str) -> Page {
    page(status, TEXT, if method == Method::GET { text } else { "" })
}

fn failed(doing: &str) -> Page {
    error!(doing, "a request failed inside");
    let text = format!("An error has occurred while serving metrics:\n\n{doing} failed; the log has more\n");
    page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
}
