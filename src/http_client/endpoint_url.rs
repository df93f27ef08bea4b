//! The address of an endpoint, or the issuer whose metadata has it.

use std::convert::Infallible;
use std::fmt;

use http::Uri;
use http::uri::Scheme;

use crate::error::{Error, Kind};
use crate::oauth2::discovery::issuer::Issuer;
use crate::origin::is_secure;
use crate::sanitize::sanitize;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;

/// The address of a protocol endpoint (RFC 6749 §3), found fit to send a secret to.
///
/// It is `https`, or `http` to loopback: `localhost` and names below it, `127.0.0.0/8`, `[::1]`.
/// Every constructor that takes an address takes a `&str` or a `String` and checks it there and
/// then. This type is named for a server that is reached over cleartext on purpose, and for one
/// whose addresses are to be [discovered](Self::from_issuer).
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
    place: Place,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Place {
    At(Uri),
    /// Wherever the issuer has the endpoint that is wanted.
    Of(Issuer),
}

impl EndpointUrl {
    /// The endpoint that an issuer's metadata names (RFC 8414, OpenID Connect Discovery 1.0): the
    /// token endpoint where a token is asked for, the revocation endpoint in
    /// [`Client::revoke_at`](crate::oauth2::Client::revoke_at), and so on. Clones share the metadata.
    ///
    /// Nothing is asked before the first token is. Then the metadata is looked for by the client's
    /// own transport and within its timeout, at `https://host/.well-known/…`:
    ///
    /// | issuer | places, in this order |
    /// | --- | --- |
    /// | `https://host` | `oauth-authorization-server`, `openid-configuration` |
    /// | `https://host/tenant` | `oauth-authorization-server/tenant` (RFC 8414 §3.1); `https://host/tenant/.well-known/openid-configuration` (OpenID Connect Discovery §4.1); `openid-configuration/tenant` (RFC 8414 §5) |
    ///
    /// - The next place is tried if a server answers with a 4xx, and for no other reason: one in trouble
    ///   (5xx, 408, 425, 429, no connection) is an error that [may pass](Error::is_transient).
    ///   Redirects are not followed, and an answer longer than 64 KiB is refused.
    /// - The `issuer` in the metadata must be the given one, character by character, the last slash
    ///   too (RFC 8414 §3.3); the error names both. Auth0's issuers end in a slash.
    /// - Its endpoints are `https`; only an issuer on loopback may name ones on loopback over `http`.
    /// - It is kept for an hour, or as `Cache-Control: max-age` says, within 5 minutes and a day.
    ///   When it can't be had anew, the old one is used on, and it is tried again after a minute. It is
    ///   looked at anew too after an endpoint that it names answers 404, 405, 410 or with a redirect.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the issuer isn't an absolute `https` address (or `http`
    /// to loopback), or has a user name, a query or a fragment (RFC 8414 §2).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl};
    ///
    /// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
    /// # #[cfg(feature = "reqwest")] {
    /// let issuer = EndpointUrl::from_issuer("https://example.auth0.com/")?;
    /// let client = Client::new(issuer.clone(), id, secret)?.revoke_at(issuer)?;
    /// let source = ClientCredentials::with_client(client);
    /// # }
    /// # Ok(()) }
    /// ```
    pub fn from_issuer(issuer: impl AsRef<str>) -> Result<Self, Error> {
        let issuer = Issuer::new(issuer.as_ref())?;
        Ok(Self {
            place: Place::Of(issuer),
        })
    }

    /// Prefers the endpoints that the issuer has for clients with a certificate
    /// (`mtls_endpoint_aliases`, RFC 8705 §5), and takes the others where it has none. No effect on
    /// an address.
    #[must_use]
    pub fn mtls(mut self) -> Self {
        if let Place::Of(issuer) = &mut self.place {
            issuer.prefers_mtls = true;
        }
        self
    }

    /// Adds it to what a token depends on: the address, or the name of the issuer.
    #[cfg(feature = "fleet")]
    pub(crate) fn add_to_key(&self, key: StoreKey) -> StoreKey {
        match &self.place {
            Place::At(address) => key.with("endpoint", address.to_string()),
            Place::Of(issuer) => key.with("issuer", issuer.as_str()),
        }
    }

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
        parse(THE_ADDRESS, url.as_ref()).map(Self::at)
    }

    fn at(uri: Uri) -> Self {
        Self {
            place: Place::At(uri),
        }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The address, if it needn't be asked for.
    #[cfg(feature = "cookies")]
    pub(crate) fn address(&self) -> Option<&Uri> {
        match &self.place {
            Place::At(address) => Some(address),
            Place::Of(_) => None,
        }
    }

    /// The issuer that has the address, if any.
    pub(crate) fn issuer(&self) -> Option<&Issuer> {
        match &self.place {
            Place::At(_) => None,
            Place::Of(issuer) => Some(issuer),
        }
    }

    /// For endpoints that no metadata knows.
    pub(crate) fn only_address(self) -> Result<Self, Error> {
        match self.place {
            Place::At(_) => Ok(self),
            Place::Of(_) => {
                let message = "an issuer's metadata has no address for an API's own login; give the \
                               address itself";
                Err(Error::new(Kind::Config, message))
            }
        }
    }
}

const THE_ADDRESS: &str = "the endpoint's address";

impl TryFrom<&str> for EndpointUrl {
    type Error = Error;

    fn try_from(url: &str) -> Result<Self, Error> {
        let uri = parse(THE_ADDRESS, url)?;
        if let Some(host) = cleartext(&uri) {
            let what = format!(
                "is http to `{host}`, where the client secret could be read on the way; use https, \
                 or `EndpointUrl::danger_allow_http` if the path is encrypted by other means"
            );
            return Err(bad(THE_ADDRESS, what));
        }
        Ok(Self::at(uri))
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

/// An address that is `https`, or `http` to loopback. `what` it is of is how an error begins.
pub(crate) fn secure(what: &str, url: &str) -> Result<Uri, Error> {
    let uri = parse(what, url)?;
    match cleartext(&uri) {
        None => Ok(uri),
        Some(host) => {
            let why = format!("is http to `{host}`, where it could be read on the way; use https");
            Err(bad(what, why))
        }
    }
}

/// The host to which what is sent could be read on the way.
fn cleartext(uri: &Uri) -> Option<&str> {
    let is_cleartext = !is_secure(uri.scheme_str(), uri.host());
    is_cleartext.then(|| uri.host().unwrap_or_default())
}

/// Quotes nothing but a host in its errors: with two arguments swapped, the text is the secret.
fn parse(what: &str, url: &str) -> Result<Uri, Error> {
    let bad = |why: &str| bad(what, why);
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

/// An address that a server named, as errors quote it: with `…` for what may be a secret in it.
pub(crate) fn quoted(address: &str) -> String {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let (address, rest) = address.split_at(end);
    let mark = rest.get(..1).unwrap_or_default();
    let more = if mark.is_empty() { "" } else { "…" };
    let (scheme, rest) = address.split_once("//").unwrap_or(("", address));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => sanitize(&format!("{scheme}//…@{host}{path}{mark}{more}")),
        None => sanitize(&format!("{address}{mark}{more}")),
    }
}

fn bad(what: &str, why: impl fmt::Display) -> Error {
    Error::new(Kind::Config, format!("{what} {why}"))
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = match &self.place {
            Place::At(uri) => uri,
            Place::Of(issuer) => return write!(f, "as {} says", issuer.as_str()),
        };
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let query = if uri.query().is_some() { "?…" } else { "" };
        write!(f, "{scheme}://{authority}{}{query}", uri.path())
    }
}
