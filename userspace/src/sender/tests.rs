//! A server that answers as Kubernetes does -> what the directory then knows.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

/// What was asked, and what is sent to watches.
#[derive(Default)]
struct Cluster {
    asked: Vec<String>,
    pods: Vec<String>,
    watch: Option<mpsc::UnboundedReceiver<String>>,
    refuse: bool,
}

fn pod(name: &str, address: &str, version: u64) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"air","uid":"uid-{name}","resourceVersion":"{version}"}},"spec":{{"nodeName":"n1"}},"status":{{"phase":"Running","podIP":"{address}"}}}}"#
    )
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn full(text: String) -> Body {
    http_body_util::Full::new(Bytes::from(text)).boxed_unsync()
}

fn answer(cluster: &Mutex<Cluster>, request: &Request<Incoming>) -> Response<Body> {
    let mut cluster = cluster.lock();
    let path = request.uri().to_string();
    let token = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("-");
    cluster.asked.push(format!("{path} {token}"));
    if cluster.refuse {
        let status = r#"{"kind":"Status","code":403,"message":"pods is forbidden"}"#;
        return Response::builder().status(403).body(full(status.to_owned())).unwrap();
    }
    if path.contains("watch=1") {
        let Some(mut events) = cluster.watch.take() else {
            return Response::new(full(event(
                "ERROR",
                r#"{"kind":"Status","code":410,"message":"too old"}"#,
            )));
        };
        let stream = futures_util::stream::poll_fn(move |context| {
            events.poll_recv(context).map(|text| text.map(|text| Ok(Frame::data(Bytes::from(text)))))
        });
        return Response::new(StreamBody::new(stream).boxed_unsync());
    }
    // One pod a page.
    let page: usize =
        path.split_once("continue=").and_then(|(_, page)| page.parse().ok()).unwrap_or_default();
    let next = if page + 1 < cluster.pods.len() { format!("{}", page + 1) } else { String::new() };
    let items = cluster.pods.get(page).cloned().unwrap_or_default();
    Response::new(full(format!(
        r#"{{"kind":"PodList","metadata":{{"resourceVersion":"5","continue":"{next}"}},"items":[{items}]}}"#
    )))
}

async fn serve(cluster: Arc<Mutex<Cluster>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let cluster = Arc::clone(&cluster);
            let service = service_fn(move |request| {
                let answer = answer(&cluster, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    address
}

/// Waits until the directory is as expected.
async fn until(directory: &PodDirectory, what: impl Fn(&PodDirectory) -> bool) {
    for _ in 0..500 {
        if what(directory) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not seen in 10 s: {:?}", directory.stats());
}

fn knows(directory: &PodDirectory, address: &str) -> bool {
    directory.by_address(address.parse().unwrap()).is_some()
}

#[tokio::test]
async fn a_list_in_pages_then_changes_then_a_new_list() {
    let (events, watch) = mpsc::unbounded_channel();
    let cluster = Arc::new(Mutex::new(Cluster {
        pods: vec![pod("a", "10.0.0.1", 1), pod("b", "10.0.0.2", 2)],
        watch: Some(watch),
        ..Cluster::default()
    }));
    let address = serve(Arc::clone(&cluster)).await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "secret\n").unwrap();
    let endpoint =
        Endpoint::new(&format!("http://{address}"), &Trust::Anybody, Some(token.path().to_owned())).unwrap();
    let directory = Arc::new(PodDirectory::default());
    let scope = Scope { node: Some("n1".to_owned()), namespace: None };
    let task = tokio::spawn(follow(PodSource::ApiServer, endpoint, scope, Arc::clone(&directory)));

    until(&directory, |directory| knows(directory, "10.0.0.1") && knows(directory, "10.0.0.2")).await;
    // In two parts, cut within a line.
    let added = event("ADDED", &pod("c", "10.0.0.3", 6));
    let (first, second) = added.split_at(30);
    events.send(first.to_owned()).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    events.send(second.to_owned() + &event("DELETED", &pod("a", "10.0.0.1", 7))).unwrap();
    events.send(event("MODIFIED", &pod("b", "10.0.0.1", 8))).unwrap();
    until(&directory, |directory| {
        let moved = directory.by_address("10.0.0.1".parse().unwrap());
        knows(directory, "10.0.0.3") && moved.is_some_and(|pod| *pod.name == *"b")
    })
    .await;
    cluster.lock().pods = vec![pod("d", "10.0.0.4", 9)];
    // The watch ends; the next one is told that its version is too old, so the list is read again.
    drop(events);
    until(&directory, |directory| knows(directory, "10.0.0.4") && !knows(directory, "10.0.0.3")).await;
    task.abort();
    let asked = cluster.lock().asked.clone();
    let list = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&limit=500";
    assert_eq!(asked[0], format!("{list} Bearer secret"));
    assert_eq!(asked[1], format!("{list}&continue=1 Bearer secret"));
    assert!(asked[2].contains("&resourceVersion=5 "), "{}", asked[2]);
    assert!(asked[3].contains("&resourceVersion=8 "), "{}", asked[3]);
}

#[tokio::test]
async fn a_server_that_refuses_or_is_away_is_counted_and_tried_again() {
    let cluster = Arc::new(Mutex::new(Cluster {
        pods: vec![pod("a", "10.0.0.1", 1)],
        refuse: true,
        ..Cluster::default()
    }));
    let address = serve(Arc::clone(&cluster)).await;
    let endpoint = Endpoint::new(&format!("http://{address}"), &Trust::Anybody, None).unwrap();
    let directory = Arc::new(PodDirectory::default());
    let task = tokio::spawn(follow(PodSource::Kubelet, endpoint, Scope::default(), Arc::clone(&directory)));
    until(&directory, |directory| directory.stats().requests_failed > 0).await;
    cluster.lock().refuse = false;
    until(&directory, |directory| knows(directory, "10.0.0.1")).await;
    task.abort();
    assert!(cluster.lock().asked[0].starts_with("/pods -"));
}
