//! Formats, compression, and bodies in parts.

use super::*;

#[tokio::test]
async fn a_long_exposition_is_sent_in_parts_and_cut_where_it_fails() {
    let stub = Arc::new(Stub::default());
    let pages = Arc::clone(&stub);
    with_server(&stub, "/metrics", |address| async move {
        let (head, _) = ask(address, "GET /metrics HTTP/1.1").await;
        assert!(head.contains("content-length: 21"), "{head}");
        pages.parts.store(20, Ordering::SeqCst);
        let (head, body) = ask(address, "GET /metrics HTTP/1.1").await;
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        assert!(body.len() > 20 * PART.len() && body.ends_with(b"\r\n0\r\n\r\n"));
        let (head, body) = ask(address, "GET /metrics HTTP/1.1\r\nAccept-Encoding: gzip").await;
        assert!(head.contains("content-encoding: gzip") && body.len() < PART.len(), "{head}");
        pages.panics.store(true, Ordering::SeqCst);
        for _ in 0..2 * UNSENT_MAX {
            let (head, body) = ask(address, "GET /metrics HTTP/1.1").await;
            assert!(head.starts_with("http/1.1 200 "), "{head}");
            assert!(!body.ends_with(b"\r\n0\r\n\r\n"), "{} bytes", body.len());
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_place_back() {
    let stub = Arc::new(Stub::default());
    stub.parts.store(100, Ordering::SeqCst);
    with_server(&stub, "/metrics", |address| async move {
        for _ in 0..2 * UNSENT_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut begin = [0; 12];
            stream.read_exact(&mut begin).await.unwrap();
        }
        let (head, _) = ask(address, "GET /metrics HTTP/1.1").await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
    })
    .await;
}

#[tokio::test]
async fn the_format_is_the_one_that_is_asked_for() {
    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0;escaping=dots";
    let stub = Arc::new(Stub::default());
    for (openmetrics, accept, expected) in [
        (
            false,
            PROTOBUF,
            "application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily; encoding=delimited",
        ),
        (false, OPENMETRICS, "text/plain; version=0.0.4; charset=utf-8; escaping=dots"),
        (true, OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots"),
    ] {
        let options = SiteOptions { openmetrics, ..options("/metrics") };
        serving(&stub, options, None, |address, _| async move {
            let (head, _) = ask(address, &format!("GET /metrics HTTP/1.1\r\nAccept: {accept}")).await;
            assert!(head.contains(&format!("\r\ncontent-type: {expected}")), "{head}");
            assert!(head.contains("\r\nvary: accept, accept-encoding"), "{head}");
        })
        .await;
    }
}
