//! YAML -> the web configuration as typed: names and layout of Prometheus' exporter toolkit.
//!
//! A key that is not here is an error. Nothing in here may be printed: keys and password hashes are
//! among it.

use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

/// Users that one file may name.
const USERS_MAX: usize = 1024;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) tls_server_config: Option<Tls>,
    pub(super) http_server_config: Option<Http>,
    pub(super) basic_auth_users: Option<Users>,
    pub(super) rate_limit: Option<RateLimit>,
}

#[derive(Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) cert_file: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) client_auth_type: Option<String>,
    pub(super) client_ca_file: Option<String>,
    pub(super) client_allowed_sans: Option<Vec<String>>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
    pub(super) cipher_suites: Option<Vec<String>>,
    pub(super) prefer_server_cipher_suites: Option<bool>,
    pub(super) curve_preferences: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) http2: Option<bool>,
    pub(super) headers: Option<Headers>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Headers {
    #[serde(rename = "Content-Security-Policy")]
    pub(super) content_security_policy: Option<String>,
    #[serde(rename = "Strict-Transport-Security")]
    pub(super) strict_transport_security: Option<String>,
    #[serde(rename = "X-Content-Type-Options")]
    pub(super) x_content_type_options: Option<String>,
    #[serde(rename = "X-Frame-Options")]
    pub(super) x_frame_options: Option<String>,
    #[serde(rename = "X-XSS-Protection")]
    pub(super) x_xss_protection: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RateLimit {
    /// A duration such as `1s`.
    pub(super) interval: Option<String>,
    pub(super) burst: Option<u32>,
}

/// Users and their password hashes, in the order of the file; no user twice.
#[derive(Default)]
pub(super) struct Users(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Users {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachOnce;

        impl<'de> Visitor<'de> for EachOnce {
            type Value = Users;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("user names with their bcrypt hashes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Users, A::Error> {
                let mut users: Vec<(String, String)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if users.iter().any(|(other, _)| *other == name) {
                        return Err(serde::de::Error::custom(format!("the user {name:?} is there twice")));
                    }
                    if users.len() == USERS_MAX {
                        return Err(serde::de::Error::custom(format!("more than {USERS_MAX} users")));
                    }
                    users.push((name, map.next_value()?));
                }
                Ok(Users(users))
            }
        }

        deserializer.deserialize_map(EachOnce)
    }
}
