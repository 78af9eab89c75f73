//! Request's head -> whether it is let in, by the web configuration.
//!
//! It holds for every page, the health checks included, as in Prometheus' exporter toolkit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::credentials::{Credentials, Outcome};
use super::settings::{Live, Settings};
use super::{Counters, Page, TEXT, page};

/// Lets requests in, or says why not.
pub(super) struct Guard {
    live: Arc<Live>,
    credentials: Arc<Credentials>,
    counters: Arc<Counters>,
}

impl Guard {
    pub(super) fn new(live: Arc<Live>, counters: Arc<Counters>) -> Self {
        Self { live, credentials: Credentials::new(), counters }
    }

    /// What holds for a request that came now.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.live.now()
    }

    /// The answer for a request that is not let in.
    pub(super) async fn refusal(&self, settings: &Settings, headers: &HeaderMap) -> Option<Page> {
        if settings.limiter.as_ref().is_some_and(|limiter| !limiter.allows(Instant::now())) {
            self.counters.rate_limited.fetch_add(1, Ordering::Relaxed);
            return Some(page(StatusCode::TOO_MANY_REQUESTS, TEXT, "Too Many Requests\n"));
        }
        if settings.users.is_empty() {
            return None;
        }
        match self.credentials.check(&settings.users, headers.get(AUTHORIZATION)).await {
            Outcome::Good => None,
            Outcome::Bad => {
                self.counters.unauthorized.fetch_add(1, Ordering::Relaxed);
                let mut page = page(StatusCode::UNAUTHORIZED, TEXT, "Unauthorized\n");
                page.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
                Some(page)
            }
            Outcome::Busy => {
                self.counters.busy.fetch_add(1, Ordering::Relaxed);
                let text = "too many passwords wait to be checked; come back later\n";
                let mut page = page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
                page.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
                Some(page)
            }
        }
    }
}
