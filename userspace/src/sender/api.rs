//! Path -> body, from the API server or the kubelet, over HTTPS with the pod's own token.

use std::{
    io,
    mem::{Discriminant, discriminant},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, InvalidHeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// From the first packet to the status line.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two parts of a body that has an end.
const PART_TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer that says what went wrong.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Whose certificate is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that this file's authorities have signed.
    Authorities(PathBuf),
    /// Anybody's. A kubelet often has a certificate that it signed itself.
    Anybody,
}

/// A server, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    token_file: Option<PathBuf>,
}

/// An endpoint that cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("no URL of a server: {0}; it looks like https://10.96.0.1:443")]
    Url(String),
    #[error("reading the authorities in {path}")]
    Authorities { path: PathBuf, source: io::Error },
    #[error("no certificate in PEM is in {0}")]
    NoCertificate(PathBuf),
}

/// A request that failed; the next one may not.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("reading the token in {path}")]
    Token { path: PathBuf, source: io::Error },
    #[error("the token in the file cannot stand in a header")]
    OddToken(#[source] InvalidHeaderValue),
    #[error("connecting to {server}")]
    Connect { server: String, source: io::Error },
    #[error("speaking to {server}")]
    Http { server: String, source: hyper::Error },
    #[error("no answer from {server} for {} s", after.as_secs())]
    Silent { server: String, after: Duration },
    #[error("{status}: {message}")]
    Refused { status: StatusCode, message: String },
    #[error("an answer of more than {0} bytes")]
    TooLong(usize),
    #[error("an answer that is no list of pods")]
    Json(#[from] serde_json::Error),
}

pub(super) type Way = (Discriminant<ApiError>, Option<StatusCode>);

impl ApiError {
    /// The version from which a watch should go on is too old.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::GONE, .. })
    }

    /// Tells one way to fail from another, whatever the message says.
    pub(super) fn way(&self) -> Way {
        let status = match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        };
        (discriminant(self), status)
    }
}

impl Endpoint {
    /// Reads the authorities; does not connect.
    ///
    /// # Errors
    ///
    /// `url` has no host or another scheme than http and https; or the authorities cannot be had.
    pub fn new(url: &str, trust: &Trust, token_file: Option<PathBuf>) -> Result<Self, EndpointError> {
        let odd = || EndpointError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| odd())?;
        let host = uri.host().ok_or_else(odd)?.trim_matches(['[', ']']).to_owned();
        let (port, tls) = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| odd())?;
                (443, Some((Arc::new(client_config(trust)?), name)))
            }
            Some("http") => (80, None),
            _ => return Err(odd()),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { uri, host, port, tls, token_file })
    }

    /// The server's name, for people.
    pub(super) fn server(&self) -> String {
        self.uri.authority().map_or_else(|| self.host.clone(), ToString::to_string)
    }

    /// Asks for `path`, on a connection of its own, which ends with the body.
    pub(super) async fn get(&self, path: &str) -> Result<Response<Incoming>, ApiError> {
        let asked = timeout(ANSWER_TIMEOUT, self.ask(path)).await;
        let answer =
            asked.map_err(|_| ApiError::Silent { server: self.server(), after: ANSWER_TIMEOUT })??;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let message = match self.whole(answer, MESSAGE_BYTES_MAX).await {
            Ok(text) => message(&text),
            Err(error) => error.to_string(),
        };
        Err(ApiError::Refused { status, message })
    }

    /// A body that has an end.
    pub(super) async fn whole(
        &self,
        answer: Response<Incoming>,
        bytes_max: usize,
    ) -> Result<Vec<u8>, ApiError> {
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while let Some(part) = self.part(&mut body, PART_TIMEOUT).await? {
            if bytes.len() + part.len() > bytes_max {
                return Err(ApiError::TooLong(bytes_max));
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    /// The next part of a body; `None` at its end.
    pub(super) async fn part(
        &self,
        body: &mut Incoming,
        patience: Duration,
    ) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = timeout(patience, body.frame()).await;
            let frame = frame.map_err(|_| ApiError::Silent { server: self.server(), after: patience })?;
            match frame {
                None => return Ok(None),
                Some(Err(source)) => return Err(ApiError::Http { server: self.server(), source }),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    async fn ask(&self, path: &str) -> Result<Response<Incoming>, ApiError> {
        let request = self.request(path)?;
        let refused = |source| ApiError::Connect { server: self.server(), source };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(refused)?;
        match &self.tls {
            None => self.exchange(TokioIo::new(stream), request).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await.map_err(refused)?;
                self.exchange(TokioIo::new(stream), request).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, ApiError>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let failed = |source| ApiError::Http { server: self.server(), source };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(failed)?;
        // Ends when the body has been read, or dropped.
        drop(tokio::spawn(connection));
        sender.send_request(request).await.map_err(failed)
    }

    fn request(&self, path: &str) -> Result<Request<Empty<Bytes>>, ApiError> {
        let mut request = Request::new(Empty::new());
        // Paths are ours, with values that are percent-encoded.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::from_str(&self.server()) {
            headers.insert(HOST, host);
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("rotameter/", env!("CARGO_PKG_VERSION"))));
        if let Some(path) = &self.token_file {
            // Kubernetes renews it, so it is read each time.
            let token = std::fs::read_to_string(path)
                .map_err(|source| ApiError::Token { path: path.clone(), source })?;
            let mut value =
                HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(ApiError::OddToken)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// What a `Status` of Kubernetes says, or the text itself.
fn message(text: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Status {
        message: String,
    }
    serde_json::from_slice::<Status>(text)
        .map_or_else(|_| String::from_utf8_lossy(text).trim().to_owned(), |status| status.message)
}

fn client_config(trust: &Trust) -> Result<ClientConfig, EndpointError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| EndpointError::Url(error.to_string()))?;
    Ok(match trust {
        Trust::Authorities(path) => builder.with_root_certificates(authorities(path)?).with_no_client_auth(),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
    })
}

fn authorities(path: &Path) -> Result<RootCertStore, EndpointError> {
    let pem =
        std::fs::read(path).map_err(|source| EndpointError::Authorities { path: path.to_owned(), source })?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if store.is_empty() {
        return Err(EndpointError::NoCertificate(path.to_owned()));
    }
    Ok(store)
}

/// Believes every certificate; signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_urls_are_refused() {
        for url in ["", "10.0.0.1:443", "ftp://host", "https://"] {
            assert!(matches!(Endpoint::new(url, &Trust::Anybody, None), Err(EndpointError::Url(_))), "{url}");
        }
        let endpoint = Endpoint::new("https://[fd00::1]:6443", &Trust::Anybody, None).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("fd00::1", 6443));
    }

    #[test]
    fn a_file_without_authorities_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error =
            Endpoint::new("https://a", &Trust::Authorities(file.path().to_owned()), None).unwrap_err();
        assert!(error.to_string().contains(&*file.path().to_string_lossy()), "{error}");
    }

    #[test]
    fn what_kubernetes_says_is_found() {
        assert_eq!(message(br#"{"kind":"Status","message":"pods is forbidden"}"#), "pods is forbidden");
        assert_eq!(message(b" Unauthorized\n"), "Unauthorized");
    }
}
