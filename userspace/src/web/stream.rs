//! TCP connection -> the stream that HTTP is spoken on, TLS or plain.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// For the whole handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// What a client that spoke plain HTTP may still send, and how long, before its answer is cut off.
const LINGER_BYTES_MAX: usize = 16 << 10;
const LINGER_MAX: Duration = Duration::from_secs(1);
/// First byte of every TLS connection: the content type "handshake".
const HANDSHAKE: u8 = 22;

/// Why there is no TLS on a connection.
#[derive(Debug)]
pub(super) enum NoTls {
    /// The client spoke plain HTTP, and has been told.
    PlainHttp,
    /// It went away, was too slow, or showed no certificate that is taken.
    Failed,
}

/// Does the handshake.
pub(super) async fn accept_tls(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<Box<TlsStream<TcpStream>>, NoTls> {
    let handshake = async {
        let mut first = [0];
        if stream.peek(&mut first).await.map_err(|_| NoTls::Failed)? == 0 {
            return Err(NoTls::Failed);
        }
        if first[0].is_ascii_uppercase() {
            let _ = refuse_plain_http(&mut stream).await;
            return Err(NoTls::PlainHttp);
        }
        if first[0] != HANDSHAKE {
            return Err(NoTls::Failed);
        }
        TlsAcceptor::from(config).accept(stream).await.map(Box::new).map_err(|_| NoTls::Failed)
    };
    tokio::time::timeout(HANDSHAKE_MAX, handshake).await.unwrap_or(Err(NoTls::Failed))
}

async fn refuse_plain_http(stream: &mut TcpStream) -> io::Result<()> {
    let answer = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Closing with bytes unread would reset the connection, and take the answer away.
    let mut rest = [0; LINGER_BYTES_MAX];
    let _ = tokio::time::timeout(LINGER_MAX, stream.read_exact(&mut rest)).await;
    Ok(())
}
