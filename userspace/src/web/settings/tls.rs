//! TLS block of the web configuration -> what rustls serves by.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, ServerConfig, SupportedProtocolVersion};

use super::client_certificates;
use super::files::Files;
use super::schema::Tls;
use super::{Problem, problem};

/// `None` where the block says nothing.
pub(super) fn server_config(
    tls: &Tls,
    http2: bool,
    folder: &Path,
    files: &mut Files,
) -> Result<Option<Arc<ServerConfig>>, Problem> {
    if *tls == Tls::default() {
        return Ok(None);
    }
    let (key, pem) = material(("cert", &tls.cert), ("cert_file", &tls.cert_file), folder, files)?
        .ok_or_else(|| problem("tls_server_config", "without a certificate; set cert_file or cert"))?;
    let chain = certificates(key, &pem)?;
    let (key, pem) = material(("key", &tls.key), ("key_file", &tls.key_file), folder, files)?
        .ok_or_else(|| problem("tls_server_config", "without a private key; set key_file or key"))?;
    let private_key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| problem(key, format!("no private key in PEM is in there: {error}")))?;
    let authorities =
        material(("client_ca", &tls.client_ca), ("client_ca_file", &tls.client_ca_file), folder, files)?
            .map(|(key, pem)| Ok((key, certificates(key, &pem)?)))
            .transpose()?;

    let provider = Arc::new(provider(tls)?);
    let verifier = client_certificates::verifier(tls, authorities, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(tls)?)
        .map_err(|error| {
            problem("cipher_suites", format!("none is left for min_version and max_version: {error}"))
        })?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, private_key).map_err(|error| {
        problem(key, format!("certificate and private key do not do: {error}; both must be of one pair"))
    })?;
    config.ignore_client_order = tls.prefer_server_cipher_suites.unwrap_or(true);
    config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Some(Arc::new(config)))
}

/// What is written inline, or stands in the file; with the key that gave it.
fn material(
    (inline_key, inline): (&'static str, &Option<String>),
    (file_key, file): (&'static str, &Option<String>),
    folder: &Path,
    files: &mut Files,
) -> Result<Option<(&'static str, Vec<u8>)>, Problem> {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (set(inline), set(file)) {
        (Some(_), Some(_)) => {
            Err(problem(file_key, format!("{inline_key} is set as well; keep one of the two")))
        }
        (Some(text), None) => Ok(Some((inline_key, text.into_bytes()))),
        (None, Some(file)) => {
            let path = folder.join(file);
            match files.read(&path) {
                Ok(bytes) => Ok(Some((file_key, bytes))),
                Err(error) => Err(problem(
                    file_key,
                    format!(
                        "reading {}: {error}; a relative path begins where the configuration lies",
                        path.display()
                    ),
                )),
            }
        }
        (None, None) => Ok(None),
    }
}

fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| problem(key, format!("a certificate in there is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(problem(
            key,
            "no certificate in PEM is in there; it begins with -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(chain)
}

fn versions(tls: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, Problem> {
    let number = |key, text: &Option<String>, default| match text.as_deref() {
        None => Ok(default),
        Some("TLS12") => Ok(12),
        Some("TLS13") => Ok(13),
        Some(old @ ("TLS10" | "TLS11")) => {
            Err(problem(key, format!("{old} is broken, and not offered here; write TLS12 or TLS13")))
        }
        Some(other) => Err(problem(key, format!("{other:?} is no version; write TLS12 or TLS13"))),
    };
    let min = number("min_version", &tls.min_version, 12)?;
    let max = number("max_version", &tls.max_version, 13)?;
    if min > max {
        return Err(problem("max_version", "below min_version; no version is left"));
    }
    Ok([(12, &TLS12), (13, &TLS13)]
        .into_iter()
        .filter(|(number, _)| (min..=max).contains(number))
        .map(|(_, version)| version)
        .collect())
}

/// Suites that have their names from Go, and what rustls calls them.
const SUITES: [(&str, CipherSuite); 9] = [
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

const CURVES: [(&str, NamedGroup); 3] = [
    ("X25519", NamedGroup::X25519),
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
];

/// Algorithms in the order in which the file prefers them.
fn provider(tls: &Tls) -> Result<CryptoProvider, Problem> {
    let mut provider = ring::default_provider();
    if let Some(names) = tls.cipher_suites.as_deref().filter(|names| !names.is_empty()) {
        let wanted = look_up("cipher_suites", names, &SUITES)?;
        let all = std::mem::take(&mut provider.cipher_suites);
        // As in Go, the list is about TLS 1.2; the suites of TLS 1.3 are on whatever it says.
        let (new, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|suite| suite.tls13().is_some());
        provider.cipher_suites = new;
        provider.cipher_suites.extend(
            wanted.iter().filter_map(|wanted| old.iter().copied().find(|suite| suite.suite() == *wanted)),
        );
    }
    if let Some(names) = tls.curve_preferences.as_deref().filter(|names| !names.is_empty()) {
        let wanted = look_up("curve_preferences", names, &CURVES)?;
        let all = std::mem::take(&mut provider.kx_groups);
        provider.kx_groups = wanted
            .iter()
            .filter_map(|wanted| all.iter().copied().find(|group| group.name() == *wanted))
            .collect();
    }
    Ok(provider)
}

/// The values of `names`, each once.
fn look_up<T: Copy + PartialEq>(
    key: &'static str,
    names: &[String],
    table: &[(&str, T)],
) -> Result<Vec<T>, Problem> {
    let mut values = Vec::with_capacity(table.len());
    for name in names {
        let Some((_, value)) = table.iter().find(|(known, _)| known == name) else {
            let known: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
            return Err(problem(
                key,
                format!("{name:?} is not offered here; there are {}", known.join(", ")),
            ));
        };
        if !values.contains(value) {
            values.push(*value);
        }
    }
    Ok(values)
}
