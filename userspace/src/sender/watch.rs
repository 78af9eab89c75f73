//! List, then changes -> the directory, for as long as the daemon runs.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{
    api::{ApiError, Endpoint, Way},
    directory::{PODS_MAX, PodDirectory},
    pod::{Found, Item},
};

/// Of one page of a list. A pod takes 5 to 20 KB, so it holds a page of 500 with room to spare.
const PAGE_BYTES_MAX: usize = 64 << 20;
const PAGE_PODS: usize = 500;
/// Of one change.
const EVENT_BYTES_MAX: usize = 4 << 20;
/// How long the server is asked to keep a watch open.
const WATCH_SECONDS: u64 = 300;
/// How long a watch may be silent: it should have ended by then.
const WATCH_PATIENCE: Duration = Duration::from_secs(WATCH_SECONDS + 30);
/// The kubelet has no watch.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// Ways to fail that are warned of between two successes; a server can think of any status.
const WARNED_MAX: usize = 16;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodSource {
    ApiServer,
    Kubelet,
}

/// Which pods are asked for; everything where neither is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub node: Option<String>,
    pub namespace: Option<String>,
}

impl Scope {
    /// Path of the list at the API server, with its query begun.
    fn path(&self) -> String {
        let mut path = "/api/v1".to_owned();
        if let Some(namespace) = &self.namespace {
            path += &format!("/namespaces/{}", percent_encoded(namespace));
        }
        path += "/pods?";
        if let Some(node) = &self.node {
            path += &format!("fieldSelector=spec.nodeName%3D{}&", percent_encoded(node));
        }
        path
    }
}

/// Everything but what may stand in a query for itself.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// Keeps `directory` up to date until it is aborted. A server that is away leaves it as it is.
pub async fn follow(source: PodSource, endpoint: Endpoint, scope: Scope, directory: Arc<PodDirectory>) {
    let mut follower = Follower { endpoint, scope, directory, failures: 0, warned: Vec::new() };
    loop {
        let outcome = match source {
            PodSource::ApiServer => follower.list_and_watch().await,
            PodSource::Kubelet => follower.poll().await,
        };
        follower.pause(outcome).await;
    }
}

struct Follower {
    endpoint: Endpoint,
    scope: Scope,
    directory: Arc<PodDirectory>,
    /// In a row.
    failures: u32,
    /// What went wrong in that row, each way once.
    warned: Vec<Way>,
}

#[derive(Debug, Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMetadata,
    items: Option<Vec<Item>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next_page: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a serde_json::value::RawValue,
}

impl Follower {
    async fn list_and_watch(&mut self) -> Result<(), ApiError> {
        let mut version = self.list().await?;
        // No end of the failures yet: who may list may still not be allowed to watch.
        self.directory.count_request(true);
        loop {
            match self.watch(&version).await {
                Ok(reached) => version = reached,
                Err(error) if error.is_gone() => return Ok(()),
                Err(error) => return Err(error),
            }
            // A server that ends each watch at once must not be asked without end.
            sleep(RETRY_FIRST).await;
        }
    }

    /// Replaces the directory; returns the version from which to watch.
    async fn list(&self) -> Result<String, ApiError> {
        let mut pods = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("{}limit={PAGE_PODS}{page}", self.scope.path());
            let answer = self.endpoint.get(&path).await?;
            let bytes = self.endpoint.whole(answer, PAGE_BYTES_MAX).await?;
            let list: List = serde_json::from_slice(&bytes)?;
            pods.extend(list.items.unwrap_or_default().into_iter().filter_map(Item::found));
            match list.metadata.next_page.filter(|next| !next.is_empty()) {
                Some(next) if pods.len() <= PODS_MAX => {
                    page = format!("&continue={}", percent_encoded(&next))
                }
                _ => {
                    debug!(pods = pods.len(), "listed the pods");
                    self.directory.replace(pods);
                    return Ok(list.metadata.resource_version);
                }
            }
        }
    }

    /// Applies changes until the server ends the watch; returns the version that was reached.
    async fn watch(&mut self, version: &str) -> Result<String, ApiError> {
        let path = format!(
            "{}watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            self.scope.path(),
            percent_encoded(version),
        );
        let mut reached = version.to_owned();
        let mut body = self.endpoint.get(&path).await?.into_body();
        self.succeeded();
        let mut lines = Vec::new();
        while let Some(part) = self.endpoint.part(&mut body, WATCH_PATIENCE).await? {
            lines.extend_from_slice(&part);
            let mut done = 0;
            while let Some(length) = lines[done..].iter().position(|byte| *byte == b'\n') {
                self.apply(&lines[done..done + length], &mut reached)?;
                done += length + 1;
            }
            lines.drain(..done);
            if lines.len() > EVENT_BYTES_MAX {
                return Err(ApiError::TooLong(EVENT_BYTES_MAX));
            }
        }
        Ok(reached)
    }

    fn apply(&self, line: &[u8], reached: &mut String) -> Result<(), ApiError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let event: Event<'_> = serde_json::from_slice(line)?;
        if event.kind == "ERROR" {
            return Err(refused(event.object.get()));
        }
        let item: Item = serde_json::from_str(event.object.get())?;
        reached.clear();
        reached.push_str(&item.metadata.resource_version);
        let apply: fn(&PodDirectory, Found) = match event.kind {
            "ADDED" | "MODIFIED" => PodDirectory::upsert,
            "DELETED" => PodDirectory::delete,
            // BOOKMARK, which only brings the version.
            _ => return Ok(()),
        };
        if let Some(found) = item.found() {
            apply(&self.directory, found);
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<(), ApiError> {
        loop {
            let answer = self.endpoint.get("/pods").await?;
            let bytes = self.endpoint.whole(answer, PAGE_BYTES_MAX).await?;
            let list: List = serde_json::from_slice(&bytes)?;
            let pods = list.items.unwrap_or_default().into_iter().filter_map(Item::found);
            let wanted = |found: &Found| {
                self.scope.namespace.as_ref().is_none_or(|wanted| **wanted == *found.pod.namespace)
            };
            self.directory.replace(pods.filter(wanted).collect());
            self.succeeded();
            sleep(POLL_INTERVAL).await;
        }
    }

    fn succeeded(&mut self) {
        self.directory.count_request(true);
        self.warned.clear();
        if std::mem::take(&mut self.failures) > 0 {
            info!(server = self.endpoint.server(), "the list of pods is followed again");
        }
    }

    /// Waits before the next try, longer after each failure.
    async fn pause(&mut self, outcome: Result<(), ApiError>) {
        let Err(error) = outcome else { return sleep(RETRY_FIRST).await };
        self.directory.count_request(false);
        let wait = RETRY_FIRST.saturating_mul(1 << self.failures.min(6)).min(RETRY_LONGEST);
        // So that the daemons of a cluster do not all come back at the same moment.
        let wait = wait.mul_f64(1.0 + f64::from(std::process::id() % 64) / 128.0);
        let first_of_its_way = self.first_of_its_way(&error);
        let why = format!("{:#}", anyhow::Error::new(error));
        if first_of_its_way {
            warn!(
                server = self.endpoint.server(),
                why, "no list of pods, so new senders are unknown; trying on (docs/senders.md)"
            );
        } else {
            debug!(server = self.endpoint.server(), why, "still no list of pods");
        }
        self.failures = self.failures.saturating_add(1);
        sleep(wait).await;
    }

    /// Whether nothing has failed like this since the last success.
    fn first_of_its_way(&mut self, error: &ApiError) -> bool {
        let way = error.way();
        let is_new = self.warned.len() < WARNED_MAX && !self.warned.contains(&way);
        if is_new {
            self.warned.push(way);
        }
        is_new
    }
}

/// The error that a watch may end with.
fn refused(status: &str) -> ApiError {
    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Status {
        code: u16,
        message: String,
    }
    let Status { code, message } = serde_json::from_str(status).unwrap_or_default();
    let status = hyper::StatusCode::from_u16(code).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    ApiError::Refused { status, message }
}

#[cfg(test)]
mod tests {
    use super::super::api::Trust;
    use super::*;

    #[test]
    fn the_path_asks_for_no_more_than_the_scope() {
        let scope = Scope { node: Some("n 1".to_owned()), namespace: Some("air".to_owned()) };
        assert_eq!(scope.path(), "/api/v1/namespaces/air/pods?fieldSelector=spec.nodeName%3Dn%201&");
        assert_eq!(Scope::default().path(), "/api/v1/pods?");
    }

    #[test]
    fn each_way_to_fail_is_warned_of_once_until_it_goes_well() {
        let endpoint = Endpoint::new("http://127.0.0.1:1", &Trust::Anybody, None).unwrap();
        let directory = Arc::new(PodDirectory::default());
        let mut follower =
            Follower { endpoint, scope: Scope::default(), directory, failures: 0, warned: Vec::new() };
        let status = |code| refused(&format!(r#"{{"code":{code},"message":"m"}}"#));
        let away =
            || ApiError::Connect { server: String::new(), source: std::io::ErrorKind::TimedOut.into() };
        let mut is_new = |error: &ApiError| follower.first_of_its_way(error);
        assert!(is_new(&status(401)) && !is_new(&status(401)), "the same again");
        assert!(is_new(&status(403)), "another status");
        assert!(is_new(&away()) && !is_new(&away()));
        assert!(!is_new(&status(401)), "it was said before");
        follower.succeeded();
        assert!(follower.first_of_its_way(&status(403)));
        assert_eq!(
            (500..600).filter(|code| follower.first_of_its_way(&status(*code))).count(),
            WARNED_MAX - 1
        );
    }

    #[test]
    fn an_error_event_that_says_gone_is_told_apart() {
        assert!(refused(r#"{"kind":"Status","code":410,"message":"too old"}"#).is_gone());
        assert!(!refused("{}").is_gone());
    }
}
