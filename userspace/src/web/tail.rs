//! Request's head -> whether it may follow datagrams, and which.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::{FORWARDED, HOST, HeaderMap, HeaderName, VIA};

use super::path::decoded;
use crate::live::filter::{Filter, FilterError};
use crate::live::tail::Request;

/// Who may follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TailAccess {
    /// Programs of this machine or pod.
    #[default]
    Local,
    /// Whoever is let in at all.
    On,
    Off,
}

/// What proxies add.
const BY_PROXIES: [HeaderName; 3] = [FORWARDED, VIA, HeaderName::from_static("x-forwarded-for")];

/// Whether a request from `peer` may follow; else why not.
pub(super) fn refusal(access: TailAccess, peer: IpAddr, headers: &HeaderMap) -> Option<&'static str> {
    match access {
        TailAccess::On => return None,
        TailAccess::Off => return Some("--web.tail=off\n"),
        TailAccess::Local => {}
    }
    if !peer.to_canonical().is_loopback() || BY_PROXIES.iter().any(|name| headers.contains_key(name)) {
        return Some(
            "only programs on the daemon's own machine or in its pod may follow what arrives; \
             --web.tail=on lets others in\n",
        );
    }
    // A page of another site could make a browser ask us, under our name or under its own.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let site = headers.get("sec-fetch-site").map(hyper::header::HeaderValue::as_bytes);
    let ours = site.is_none_or(|site| [&b"same-origin"[..], b"none"].contains(&site));
    (!is_loopback(host) || !ours).then_some("ask by http://localhost:PORT, not by another name\n")
}

/// Whether the value of a Host header names this machine to itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What the query asks for.
pub(super) fn request(query: &str) -> Result<Request, FilterError> {
    let mut request = Request { filter: Filter::All, datagrams: false, mapped: false, whole: false };
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let value: Cow<'_, str> = decoded(value);
        match name {
            "filter" => request.filter = Filter::glob(&value)?,
            "regex" => request.filter = Filter::regex(&value)?,
            "datagrams" => request.datagrams = true,
            "mapped" => request.mapped = true,
            "whole" => request.whole = true,
            _ => {}
        }
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, headers: &[(&'static str, &str)], let_in: bool) {
        let pairs =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let refused = refusal(TailAccess::Local, peer.parse().unwrap(), &pairs.collect());
        assert_eq!(refused.is_none(), let_in, "{peer} {headers:?}");
    }

    #[test]
    fn only_this_machine_follows_unless_told_otherwise() {
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            check(peer, &[("host", "localhost:9102")], true);
        }
        check("127.0.0.1", &[("host", "[::1]:9102")], true);
        check("10.0.0.1", &[("host", "localhost:9102")], false);
        check("127.0.0.1", &[("host", "localhost"), ("x-forwarded-for", "10.0.0.1")], false);
        check("127.0.0.1", &[("host", "evil.example:9102")], false);
        check("127.0.0.1", &[], false);
        check("127.0.0.1", &[("host", "localhost"), ("sec-fetch-site", "cross-site")], false);
        let far = "10.0.0.1".parse().unwrap();
        assert!(refusal(TailAccess::On, far, &HeaderMap::new()).is_none());
        assert!(refusal(TailAccess::Off, "::1".parse().unwrap(), &HeaderMap::new()).is_some());
    }

    #[test]
    fn a_query_is_read() {
        let asked = request("filter=a.%2A&mapped&whole&other=1").unwrap();
        assert!(asked.filter.wants(b"a.b:1|c") && !asked.filter.wants(b"b:1|c"));
        assert!(asked.mapped && asked.whole && !asked.datagrams);
        assert!(request("regex=(").is_err());
        assert!(request("").unwrap().filter.wants(b""));
    }
}
