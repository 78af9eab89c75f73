//! Address of a running daemon -> exit code: for images that have neither shell nor curl.

use super::client::{Client, ConnectFlags};

/// Asks a running daemon whether it is well; exit code 0 if so, 1 if not. It never asks for the
/// metrics.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter healthcheck", bin_name = "rotameter healthcheck")]
pub struct HealthcheckFlags {
    #[command(flatten)]
    connect: ConnectFlags,
    /// Also ask whether it is ready: listening, and not told to stop.
    #[arg(long)]
    ready: bool,
}

/// Says nothing where all is well, as health checks do.
///
/// # Errors
///
/// The daemon does not answer, or says that it is not well.
pub fn healthcheck(flags: &HealthcheckFlags) -> anyhow::Result<()> {
    let page = if flags.ready { "/-/ready" } else { "/-/healthy" };
    Client::new(&flags.connect)?.get(page).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use clap::Parser as _;

    use super::*;

    /// The first line of the request, and what became of it, where the daemon answers with `status`.
    fn check(status: &str, more: &[&str]) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("--url=http://{}", listener.local_addr().expect("an address"));
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a request");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).expect("a request");
            stream.write_all(answer.as_bytes()).expect("somebody listens");
            String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or("").to_owned()
        });
        let arguments = ["healthcheck", &url].into_iter().chain(more.iter().copied());
        let flags = HealthcheckFlags::try_parse_from(arguments).expect("good flags");
        let outcome = healthcheck(&flags).map_err(|error| format!("{error:#}"));
        (server.join().expect("no panic"), outcome)
    }

    #[test]
    fn it_asks_for_health_and_not_for_metrics() {
        assert_eq!(check("200 OK", &[]), ("GET /-/healthy HTTP/1.1".to_owned(), Ok(())));
        assert_eq!(check("200 OK", &["--ready"]), ("GET /-/ready HTTP/1.1".to_owned(), Ok(())));
    }

    #[test]
    fn a_daemon_that_stops_is_not_ready() {
        let (_, outcome) = check("503 Service Unavailable", &["--ready"]);
        let message = outcome.expect_err("it is not ready");
        assert!(message.contains("503"), "{message}");
    }

    #[test]
    fn a_daemon_that_is_away_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("--url=http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let flags = HealthcheckFlags::try_parse_from(["healthcheck", &url]).expect("good flags");
        let message = format!("{:#}", healthcheck(&flags).expect_err("nobody is there"));
        assert!(message.contains("127.0.0.1"), "{message}");
    }
}
