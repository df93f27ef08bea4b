//! The address of an endpoint.

use std::convert::Infallible;
use std::fmt;

use http::Uri;
use http::uri::Scheme;

use crate::error::{Error, Kind};
use crate::origin::is_secure;

/// The address of a protocol endpoint (RFC 6749 §3), found fit to send a secret to.
///
/// It is `https`, or `http` to loopback: `localhost` and names below it, `127.0.0.0/8`, `[::1]`.
/// Every constructor that takes an address takes a `&str` or a `String` and checks it there and
/// then; only for a server that is reached over cleartext on purpose is this type ever named.
///
/// [`Debug`](fmt::Debug) leaves the query out, which may hold a key.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::EndpointUrl;
///
/// assert!(EndpointUrl::try_from("https://id.example.com/oauth/token").is_ok());
/// assert!(EndpointUrl::try_from("http://localhost:8080/token").is_ok());
///
/// let error = EndpointUrl::try_from("http://id.internal/token").unwrap_err();
/// assert!(error.is_config());
/// assert!(EndpointUrl::danger_allow_http("http://id.internal/token").is_ok());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    uri: Uri,
}

impl EndpointUrl {
    /// An address that may be `http` to any host.
    ///
    /// The client secret and every token then cross the network in the clear, against RFC 6749
    /// §3.2. Sensible only where something else encrypts the path, such as a service mesh.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it isn't an absolute `http` or `https` address, or has a
    /// user name or a fragment.
    pub fn danger_allow_http(url: impl AsRef<str>) -> Result<Self, Error> {
        parse(url.as_ref()).map(|uri| Self { uri })
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl TryFrom<&str> for EndpointUrl {
    type Error = Error;

    fn try_from(url: &str) -> Result<Self, Error> {
        let uri = parse(url)?;
        if !is_secure(uri.scheme_str(), uri.host()) {
            let host = uri.host().unwrap_or_default();
            return Err(bad(format!(
                "is http to `{host}`, where the client secret could be read on the way; use https, \
                 or `EndpointUrl::danger_allow_http` if the path is encrypted by other means"
            )));
        }
        Ok(Self { uri })
    }
}

impl TryFrom<&String> for EndpointUrl {
    type Error = Error;

    fn try_from(url: &String) -> Result<Self, Error> {
        Self::try_from(url.as_str())
    }
}

impl TryFrom<String> for EndpointUrl {
    type Error = Error;

    fn try_from(url: String) -> Result<Self, Error> {
        Self::try_from(url.as_str())
    }
}

/// So that a constructor takes a ready [`EndpointUrl`] as well as a text.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Quotes nothing but a host in its errors: with two arguments swapped, the text is the secret.
fn parse(url: &str) -> Result<Uri, Error> {
    // `Uri` drops a fragment without a word; RFC 6749 §3.2 forbids it.
    if url.contains('#') {
        return Err(bad("has a fragment (`#`)"));
    }
    let uri: Uri = url.parse().map_err(|_| bad("is no valid URL"))?;
    // `host` alone is read as a host, `/path` as a path.
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(bad("is not absolute: it must start with `https://`"));
    };
    if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
        return Err(bad("is neither https nor http"));
    }
    if authority.as_str().contains('@') {
        return Err(bad(
            "has a user name or password (`@`); pass the client's own as id and secret",
        ));
    }
    if authority.host().is_empty() {
        return Err(bad("has no host"));
    }
    // A port that is no number would be dropped for the default one.
    if authority.as_str() != authority.host() && authority.port().is_none() {
        return Err(bad("has a port that is no number up to 65535"));
    }
    Ok(uri)
}

fn bad(what: impl fmt::Display) -> Error {
    Error::new(Kind::Config, format!("the token endpoint's address {what}"))
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        let authority = self
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let query = if self.uri.query().is_some() {
            "?…"
        } else {
            ""
        };
        write!(f, "{scheme}://{authority}{}{query}", self.uri.path())
    }
}
