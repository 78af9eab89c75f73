//! Files -> settings, or the error that an operator sees.

use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::*;
use crate::web::test_pki::Pki;

const PAIR: &str = "cert_file: server.pem, key_file: server.key";
const HASH: &str = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG";

#[track_caller]
fn load(text: &str) -> Settings {
    let pki = Pki::new();
    let path = pki.write("web.yml", text);
    read(&path, &mut Files::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The file does not do, and the error holds `expected` behind the path.
#[track_caller]
fn check(text: &str, expected: &str) {
    let pki = Pki::new();
    let path = pki.write("web.yml", text);
    let Err(error) = read(&path, &mut Files::default()) else { panic!("taken: {text}") };
    let error = error.to_string();
    let shown = error.replace(&format!("{}/", pki.folder().display()), "");
    assert!(shown.starts_with(expected), "{shown}\nwanted: {expected}");
}

#[test]
fn a_file_that_says_nothing_asks_for_nothing() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "{}",
        "---\n",
        "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\nrate_limit:\n",
        "tls_server_config: {}",
    ] {
        let settings = load(text);
        assert!(
            settings.tls.is_none() && settings.users.is_empty() && settings.headers.is_empty(),
            "{text:?}"
        );
        assert!(settings.limiter.is_none(), "{text:?}");
    }
}

#[test]
fn a_file_with_everything_is_taken() {
    let settings = load(&format!(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  \
         client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  \
         client_allowed_sans: [prometheus.example]\n  min_version: TLS12\n  max_version: TLS13\n  \
         cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n  \
         prefer_server_cipher_suites: false\n  curve_preferences: [CurveP256, X25519]\n\
         http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    \
         Strict-Transport-Security: max-age=60\n    X-XSS-Protection: ''\n\
         basic_auth_users:\n  alice: {HASH}\n  1234: {HASH}\n\
         rate_limit:\n  interval: 1s\n  burst: 5\n"
    ));
    let tls = settings.tls.unwrap();
    assert_eq!(tls.alpn_protocols, [b"http/1.1"]);
    assert!(!tls.ignore_client_order);
    let groups: Vec<_> = tls.crypto_provider().kx_groups.iter().map(|group| group.name()).collect();
    assert_eq!(groups, [rustls::NamedGroup::secp256r1, rustls::NamedGroup::X25519]);
    let old = tls.crypto_provider().cipher_suites.iter().filter(|suite| suite.tls13().is_none()).count();
    assert_eq!((old, tls.crypto_provider().cipher_suites.len()), (1, 4));
    assert_eq!(settings.users.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["alice", "1234"]);
    assert_eq!(settings.headers.len(), 2);
    assert!(settings.limiter.is_some());
}

#[test]
fn tls_offers_http2_unless_told_otherwise() {
    let settings = load(&format!("tls_server_config: {{{PAIR}}}"));
    assert_eq!(settings.tls.unwrap().alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[test]
fn certificates_may_stand_in_the_file() {
    let pki = Pki::new();
    let indented = |name: &str| pki.read(name).replace('\n', "\n    ");
    let text = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n  client_ca: |\n    {}\n  \
         client_auth_type: VerifyClientCertIfGiven\n",
        indented("server.pem"),
        indented("server.key"),
        indented("ca.pem")
    );
    assert!(load(&text).tls.is_some());
}

#[test]
fn an_error_names_file_line_and_way_out() {
    check("tls_server_confg: {}", "web configuration web.yml, line 1: unknown field `tls_server_confg`");
    check("rate_limit:\n  burst: [", "web configuration web.yml, line 2: rate_limit.burst: ");
    check("\n- a\n", "web configuration web.yml, line 2: invalid type: sequence");
    check(
        "tls_server_config:\n  min_version: TLS12\n",
        "web configuration web.yml, line 1: tls_server_config: without a certificate; set cert_file or cert",
    );
    check(
        "tls_server_config:\n  cert_file: server.pem\n",
        "web configuration web.yml, line 1: tls_server_config: without a private key; set key_file or key",
    );
    check(
        "tls_server_config:\n  cert_file: none.pem\n  key_file: server.key\n",
        "web configuration web.yml, line 2: cert_file: reading none.pem: No such file",
    );
    check(
        "tls_server_config:\n  cert_file: server.key\n  key_file: server.key\n",
        "web configuration web.yml, line 2: cert_file: no certificate in PEM is in there",
    );
    check(
        "tls_server_config:\n  cert_file: server.pem\n  key_file: ca.pem\n",
        "web configuration web.yml, line 3: key_file: no private key in PEM is in there",
    );
    check(
        &format!("tls_server_config: {{{PAIR}, cert: x}}"),
        "web configuration web.yml, line 1: cert_file: cert is set as well; keep one of the two",
    );
}

#[test]
fn certificate_and_key_must_belong_together() {
    let pki = Pki::new();
    pki.sign("other", &["localhost"]);
    let path = pki.write("web.yml", "tls_server_config: {cert_file: server.pem, key_file: other.key}");
    let error = check_error(&path);
    assert!(error.contains("certificate and private key do not do"), "{error}");
}

fn check_error(path: &Path) -> String {
    super::check(path).expect_err("the file does not do").to_string()
}

#[test]
fn what_is_not_served_is_an_error() {
    let tls = |rest: &str| {
        format!("tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  {rest}\n")
    };
    for (rest, expected) in [
        ("min_version: TLS10", "min_version: TLS10 is broken"),
        ("min_version: 1.2", "min_version: \"1.2\" is no version; write TLS12 or TLS13"),
        ("max_version: TLS11", "max_version: TLS11 is broken"),
        (
            "cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]",
            "cipher_suites: \"TLS_RSA_WITH_AES_128_CBC_SHA\" is not offered",
        ),
        (
            "curve_preferences: [CurveP521]",
            "curve_preferences: \"CurveP521\" is not offered here; there are X25519",
        ),
        ("client_auth_type: Always", "client_auth_type: \"Always\" is none of"),
        (
            "client_auth_type: RequireAndVerifyClientCert",
            "client_auth_type: RequireAndVerifyClientCert needs",
        ),
        ("client_ca_file: ca.pem", "client_ca_file: never used"),
        ("client_allowed_sans: [a]", "client_allowed_sans: names in a certificate mean something only"),
    ] {
        check(&tls(rest), &format!("web configuration web.yml, line 4: {expected}"));
    }
    check(
        &tls("min_version: TLS13\n  max_version: TLS12"),
        "web configuration web.yml, line 5: max_version: below min_version",
    );
    check(
        "http_server_config:\n  headers:\n    Server: x\n",
        "web configuration web.yml, line 3: http_server_config.headers: unknown field `Server`",
    );
    check(
        "http_server_config:\n  headers:\n    X-Frame-Options: maybe\n",
        "web configuration web.yml, line 3: X-Frame-Options: \"maybe\" is not one of: deny, sameorigin",
    );
    check("rate_limit: {interval: 1s}", "web configuration web.yml, line 1: rate_limit: with a burst of 0");
    check("rate_limit: {interval: 1}", "web configuration web.yml, line 1: interval: \"1\": not a duration");
}

#[test]
fn users_have_bcrypt_hashes_and_stand_once() {
    check(
        "basic_auth_users:\n  a: secret\n",
        "web configuration web.yml, line 2: a: this is no bcrypt hash; `htpasswd",
    );
    check(
        &format!("basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n"),
        "web configuration web.yml, line 2: basic_auth_users: the user \"a\" is there twice",
    );
    let slow = HASH.replace("$10$", "$17$");
    check(
        &format!("basic_auth_users:\n  a: {slow}\n"),
        "web configuration web.yml, line 2: a: its bcrypt hash has cost 17",
    );
    check(
        &format!("basic_auth_users:\n  'a:b': {HASH}\n"),
        "web configuration web.yml, line 2: a:b: a user name holds no colon",
    );
}

#[test]
fn errors_do_not_give_secrets_away() {
    let pki = Pki::new();
    let path = pki.write("web.yml", "basic_auth_users:\n  a: hunter2\n");
    assert!(!check_error(&path).contains("hunter2"));
}

#[test]
fn a_missing_file_is_an_error() {
    let error = check_error(Path::new("/nonexistent/web.yml"));
    assert!(error.starts_with("web configuration /nonexistent/web.yml: reading it: No such file"), "{error}");
}

#[test]
fn changed_files_become_the_settings_and_broken_ones_do_not() {
    let later = || SystemTime::now();
    let pki = Pki::new();
    let path = pki.write("web.yml", &format!("basic_auth_users:\n  a: {HASH}\n"));
    let live = Live::load(Some(&path)).unwrap();
    let users = |live: &Live| live.at(later()).users.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let counts = || (live.reloads.load(Ordering::Relaxed), live.failures.load(Ordering::Relaxed));
    assert_eq!((users(&live), counts()), (vec!["a".to_owned()], (0, 0)));
    pki.write("web.yml", &format!("basic_auth_users:\n  bob: {HASH}\n"));
    assert_eq!((users(&live), counts()), (vec!["bob".to_owned()], (1, 0)));
    pki.write("web.yml", "basic_auth_users: [");
    for _ in 0..3 {
        assert_eq!((users(&live), counts()), (vec!["bob".to_owned()], (1, 1)));
    }
    pki.write("web.yml", &format!("tls_server_config: {{{PAIR}}}"));
    assert_eq!((users(&live), counts()), (vec!["bob".to_owned()], (1, 2)));
    pki.write("web.yml", &format!("basic_auth_users:\n  carol: {HASH}\n"));
    assert_eq!((users(&live), counts()), (vec!["carol".to_owned()], (2, 2)));
}

#[test]
fn a_certificate_that_is_renewed_is_used() {
    let pki = Pki::new();
    let path = pki.write("web.yml", &format!("tls_server_config: {{{PAIR}}}"));
    let live = Live::load(Some(&path)).unwrap();
    let before = live.now().tls.clone().unwrap();
    assert!(Arc::ptr_eq(&before, &live.now().tls.clone().unwrap()));
    pki.sign("server", &["localhost"]);
    assert!(!Arc::ptr_eq(&before, &live.now().tls.clone().unwrap()));
    assert_eq!(live.reloads.load(Ordering::Relaxed), 1);
}

#[test]
fn a_file_that_unfolds_to_gigabytes_is_an_error() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let inner = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{inner}]\n"));
    }
    check(&text, "web configuration web.yml, line 1: ");
    // Where a key takes a list, it is a list of text.
    let nested =
        format!("tls_server_config: {{cipher_suites: {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    check(&nested, "web configuration web.yml: more than 4096 brackets");
    check(&"[".repeat(4096), "web configuration web.yml, line 1: ");
}

proptest::proptest! {
    /// Also the line of an error lies in the file.
    #[test]
    fn any_text_is_settings_or_an_error(text in "([a-z_\u{fc}]{0,20}[:\\[\\]{},&*'\"| \n#-]{0,4}){0,30}", key in "[a-z\u{fc}]{0,3}") {
        if let Ok(file) = parse(&text) {
            let _ = settings(file, Path::new("/nonexistent"), &mut Files::default());
        }
        if let Some(line) = line_of(&text, &key) {
            proptest::prop_assert!(line >= 1 && line <= text.lines().count());
        }
    }
}
