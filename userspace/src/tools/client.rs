//! Flags that say where a daemon is -> its answers.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::live::Report;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For a whole answer, where it is not a stream.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// A stream says something at least every second; after this the daemon is taken for gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Where distributions keep the authorities that they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Where the daemon is, and how it lets us in.
#[derive(Clone, Debug, clap::Args)]
pub struct ConnectFlags {
    /// Address of the daemon's HTTP.
    #[arg(long, value_name = "URL", default_value = "http://localhost:9102")]
    pub url: String,
    /// User name, where the daemon asks for a password.
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// File with the password; it is never taken from the command line, which others can read.
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Authorities that may have signed the daemon's certificate, PEM. [default: those of the system]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show, where the daemon asks for one, PEM.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
}

/// A daemon that can be asked.
pub struct Client {
    runtime: Runtime,
    host: String,
    port: u16,
    /// What stands before every path, without a slash at its end.
    prefix: String,
    shown: String,
    authorization: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// Reads what the flags name; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The address is none, or a file cannot be read.
    pub fn new(flags: &ConnectFlags) -> anyhow::Result<Self> {
        let wrong = || format!("--url={:?}: write http://HOST:PORT or https://HOST:PORT", flags.url);
        let uri: Uri = flags.url.parse().with_context(wrong)?;
        let (scheme, host) = uri.scheme_str().zip(uri.host()).with_context(wrong)?;
        let tls = match scheme {
            "http" => None,
            "https" => Some(Arc::new(tls(flags)?)),
            _ => bail!(wrong()),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        let authorization = match (&flags.user, &flags.password_file) {
            (Some(user), Some(file)) => {
                let password = read(file)?;
                let password = String::from_utf8_lossy(&password);
                let both =
                    BASE64_STANDARD.encode(format!("{user}:{}", password.trim_end_matches(['\r', '\n'])));
                let mut header = HeaderValue::try_from(format!("Basic {both}")).context("--user")?;
                header.set_sensitive(true);
                Some(header)
            }
            _ => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("starting the runtime")?;
        Ok(Self {
            runtime,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            shown: flags.url.trim_end_matches('/').to_owned(),
            authorization,
            tls,
        })
    }

    /// The address as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shown
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the daemon runs on this machine, as far as its address says so.
    #[must_use]
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Another port of the same host.
    #[must_use]
    pub fn beside(&self, port: u16) -> String {
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }

    /// What goes on in the daemon.
    ///
    /// # Errors
    ///
    /// It does not answer, or not as one of ours does.
    pub fn report(&self) -> anyhow::Result<Report> {
        let body = self.get("/live")?;
        serde_json::from_slice(&body).with_context(|| {
            format!(
                "{}/live: the answer is not what a rotameter says; another program serves there",
                self.shown
            )
        })
    }

    /// The body of a page.
    ///
    /// # Errors
    ///
    /// There is no answer, or it is none of success.
    pub fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let asked = async {
            let mut body = self.ask(path).await?.into_body();
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.with_context(|| format!("reading {}{path}", self.shown))?;
                bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                if bytes.len() > ANSWER_BYTES_MAX {
                    bail!("{}{path}: the answer is longer than {ANSWER_BYTES_MAX} bytes", self.shown);
                }
            }
            Ok(bytes)
        };
        self.runtime.block_on(async {
            tokio::time::timeout(ANSWER_MAX, asked)
                .await
                .with_context(|| format!("{}{path}: no answer within {ANSWER_MAX:?}", self.shown))?
        })
    }

    /// Hands each piece of a page that never ends to `take`, until that has enough, the daemon ends it, or
    /// somebody presses Ctrl-C or sends SIGTERM. True if the daemon ended it.
    ///
    /// # Errors
    ///
    /// There is no answer, or none of success; the connection breaks; what `take` says.
    pub fn follow(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<bool> {
        self.runtime.block_on(async {
            let mut interrupted =
                std::pin::pin!(crate::shutdown::signals().context("catching SIGTERM and SIGINT")?);
            let mut body = self.ask(path).await?.into_body();
            loop {
                let frame = tokio::select! {
                    frame = tokio::time::timeout(SILENCE_MAX, body.frame()) => frame,
                    _ = &mut interrupted => return Ok(false),
                };
                let frame =
                    frame.with_context(|| format!("{}: nothing came for {SILENCE_MAX:?}", self.shown))?;
                let Some(frame) = frame else { return Ok(true) };
                let frame = frame.with_context(|| format!("{}: the connection broke", self.shown))?;
                if let Some(data) = frame.data_ref()
                    && take(data)?.is_break()
                {
                    return Ok(false);
                }
            }
        })
    }

    async fn ask(&self, path: &str) -> anyhow::Result<Response<Incoming>> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let connected = match tokio::time::timeout(CONNECT_MAX, connect).await {
            Ok(connected) => connected.map_err(anyhow::Error::from),
            Err(_) => Err(anyhow::anyhow!("no answer within {CONNECT_MAX:?}")),
        };
        let stream = connected.with_context(|| {
            format!("connecting to {}; does the daemon run there? --url names another place", self.shown)
        })?;
        let answer = match &self.tls {
            None => self.send(stream, path).await?,
            Some(config) => {
                let name = ServerName::try_from(self.host.clone())
                    .with_context(|| format!("--url={:?}", self.shown))?;
                let handshake = tokio_rustls::TlsConnector::from(Arc::clone(config)).connect(name, stream);
                let stream = tokio::time::timeout(CONNECT_MAX, handshake)
                    .await
                    .with_context(|| format!("{}: no TLS handshake within {CONNECT_MAX:?}", self.shown))?
                    .with_context(|| {
                        format!("{}: TLS; --ca-file names who signed its certificate", self.shown)
                    })?;
                self.send(stream, path).await?
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = tokio::time::timeout(CONNECT_MAX, http_body_util::Limited::new(answer, 1 << 10).collect());
        let said = body.await.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
        let said = said.as_deref().unwrap_or_default().trim_ascii().escape_ascii().to_string();
        let way_out = match status.as_u16() {
            401 => "; --user and --password-file let you in",
            404 => "; an older rotameter, or another program, serves there",
            400 if self.tls.is_none() => "; does it speak https?",
            _ => "",
        };
        bail!("{}{path}: {status}: {said}{way_out}", self.shown)
    }

    async fn send(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        path: &str,
    ) -> anyhow::Result<Response<Incoming>> {
        let asking = || format!("asking {}{path}", self.shown);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(asking)?;
        // Ends with the connection; its errors come with the answer.
        tokio::spawn(connection);
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut request = Request::get(format!("{}{path}", self.prefix))
            .header(HOST, format!("{host}:{}", self.port))
            .body(Empty::<Bytes>::new())
            .with_context(asking)?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        sender.send_request(request).await.with_context(asking)
    }
}

fn tls(flags: &ConnectFlags) -> anyhow::Result<ClientConfig> {
    let of_system = || SYSTEM_AUTHORITIES.map(PathBuf::from).into_iter().find(|file| file.exists());
    let file = flags.ca_file.clone().or_else(of_system);
    let file =
        file.context("no file of trusted authorities is where systems have it; --ca-file names one")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&file)? {
        // A system's list holds some that rustls does not take; others serve.
        let _ = roots.add(certificate);
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("choosing versions of TLS")?
        .with_root_certificates(roots);
    match (&flags.cert_file, &flags.key_file) {
        (Some(certificate), Some(key)) => {
            let private = PrivateKeyDer::from_pem_slice(&read(key)?)
                .with_context(|| format!("{}: no private key in PEM is in there", key.display()))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, private)
                .with_context(|| format!("{} and {}", certificate.display(), key.display()))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = read(file)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    if found.is_empty() {
        bail!("{}: no certificate in PEM is in there", file.display());
    }
    Ok(found)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("reading {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(url: &str) -> ConnectFlags {
        let (url, none) = (url.to_owned(), None);
        ConnectFlags { url, user: None, password_file: none, ca_file: None, cert_file: None, key_file: None }
    }

    #[test]
    fn an_address_is_taken_apart() {
        let client = Client::new(&flags("http://[::1]:80/a/b/")).unwrap();
        assert_eq!((client.host.as_str(), client.port, client.prefix.as_str()), ("::1", 80, "/a/b"));
        assert_eq!(Client::new(&flags("http://x")).unwrap().port, 80);
        for wrong in ["localhost:9102", "ftp://x", "/live", "http://", ""] {
            let error = format!("{:#}", Client::new(&flags(wrong)).err().expect("it is no address"));
            assert!(error.contains("write http://HOST:PORT"), "{wrong}: {error}");
        }
    }

    #[test]
    fn nobody_there_is_said_with_the_way_out() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(&flags(&format!("http://{free}"))).unwrap();
        let error = format!("{:#}", client.report().unwrap_err());
        assert!(error.starts_with(&format!("connecting to http://{free}; does the daemon run")), "{error}");
    }
}
