//! The address of an endpoint, or the issuer whose metadata contains the address.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::Scheme;
use zeroize::Zeroizing;

use super::endpoint_kind::EndpointKind;
use super::transport::DynTransport;
use crate::error::{Error, Kind};
use crate::origin::{Origin, is_secure, port_fault};
use crate::sanitize::ServerText;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;

/// The address of a protocol endpoint (RFC 6749 §3), validated as safe for sending a secret.
///
/// The address is `https`, or `http` on loopback: `localhost` and its subdomains, `127.0.0.0/8` and
/// `[::1]`. Methods that take an address also take a `&str` or a `String`, and validate this text
/// immediately. You need this type in two cases:
///
/// - You intentionally reach the server over cleartext.
/// - You know only the server's issuer, from which the client [discovers the
///   endpoints](Self::from_issuer).
///
/// [`Debug`](fmt::Debug) omits the query, because a query may contain a key.
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
#[derive(Clone)]
pub struct EndpointUrl {
    location: EndpointLocation,
}

#[derive(Clone)]
enum EndpointLocation {
    Address(Uri),
    /// The metadata of an authorization server contains the address.
    Discovered {
        resolver: Arc<dyn EndpointResolver>,
        prefers_mtls: bool,
    },
}

/// Finds the endpoints of one authorization server.
pub(crate) trait EndpointResolver: Any + Send + Sync {
    /// Returns the authorization server's issuer as the caller wrote it.
    fn issuer(&self) -> &str;

    /// Returns the authorization server's issuer as the server writes it. `timeout` covers both this
    /// search and the request to an endpoint.
    fn published_issuer<'a>(
        &'a self,
        transport: &'a DynTransport,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<String, Error>> + Send + 'a>>;

    /// Returns the address of an endpoint. `timeout` covers both this search and the request to the
    /// endpoint.
    fn endpoint<'a>(
        &'a self,
        kind: EndpointKind,
        prefers_mtls: bool,
        transport: &'a DynTransport,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Uri, Error>> + Send + 'a>>;

    /// Reports that an endpoint has moved, so that the next call fetches the metadata again.
    fn invalidate(&self);
}

impl EndpointUrl {
    pub(crate) fn discovered(resolver: Arc<dyn EndpointResolver>) -> Self {
        Self {
            location: EndpointLocation::Discovered {
                resolver,
                prefers_mtls: false,
            },
        }
    }

    /// Replaces the resolver, and keeps the other settings.
    pub(crate) fn with_resolver(mut self, new: Arc<dyn EndpointResolver>) -> Self {
        if let EndpointLocation::Discovered { resolver, .. } = &mut self.location {
            *resolver = new;
        }
        self
    }

    /// Uses the issuer's endpoints for clients with a certificate (`mtls_endpoint_aliases`, RFC
    /// 8705 §5), if the metadata contains such endpoints. Without an issuer, this setting has no
    /// effect.
    #[must_use]
    pub fn mtls(mut self) -> Self {
        if let EndpointLocation::Discovered { prefers_mtls, .. } = &mut self.location {
            *prefers_mtls = true;
        }
        self
    }

    /// Adds the address or the issuer to a store key, because a token depends on the server.
    #[cfg(feature = "fleet")]
    pub(crate) fn add_to_key(&self, key: StoreKey) -> StoreKey {
        let name = self.issuer().map_or("endpoint", |_| "issuer");
        key.with(name, self.address_or_issuer())
    }

    /// Creates an address that may be `http` on any host.
    ///
    /// With an `http` address, the client secret and every token cross the network in cleartext.
    /// RFC 6749 §3.2 forbids this. Use this constructor only if another component, such as a
    /// service mesh, encrypts the connection.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address isn't an absolute `http` or `https` address,
    /// or has a user name or a fragment.
    pub fn danger_allow_http(url: impl AsRef<str>) -> Result<Self, Error> {
        parse(THE_ADDRESS, url.as_ref()).map(Self::at)
    }

    /// Checks an address for which the caller can't allow cleartext. `what` names the place of the
    /// address: a variable, a file or a setting.
    #[cfg(any(feature = "gcp", feature = "github", feature = "kubernetes"))]
    pub(crate) fn secure(what: &str, url: &str) -> Result<Self, Error> {
        secure(what, url).map(Self::at)
    }

    fn at(uri: Uri) -> Self {
        Self {
            location: EndpointLocation::Address(uri),
        }
    }

    /// Returns the endpoint's address: the known address, or the address in the issuer's metadata.
    /// `timeout` covers both this search and the request to the endpoint.
    pub(crate) async fn resolve(
        &self,
        kind: EndpointKind,
        transport: &DynTransport,
        timeout: Duration,
    ) -> Result<Uri, Error> {
        match &self.location {
            EndpointLocation::Address(address) => Ok(address.clone()),
            EndpointLocation::Discovered {
                resolver,
                prefers_mtls,
            } => {
                resolver
                    .endpoint(kind, *prefers_mtls, transport, timeout)
                    .await
            }
        }
    }

    /// Returns the resolver if the address comes from an issuer's metadata.
    pub(crate) fn resolver(&self) -> Option<&dyn EndpointResolver> {
        match &self.location {
            EndpointLocation::Address(_) => None,
            EndpointLocation::Discovered { resolver, .. } => Some(resolver.as_ref()),
        }
    }

    /// Returns the issuer if the address comes from the issuer's metadata.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.resolver().map(EndpointResolver::issuer)
    }

    /// Returns the known address, or the issuer whose metadata contains the address.
    pub(crate) fn address_or_issuer(&self) -> String {
        match &self.location {
            EndpointLocation::Address(address) => address.to_string(),
            EndpointLocation::Discovered { resolver, .. } => resolver.issuer().to_owned(),
        }
    }

    /// Returns the known address, or `None` if an issuer's metadata contains the address.
    #[cfg(any(
        feature = "cookies",
        feature = "gcp",
        feature = "kubernetes",
        feature = "vault"
    ))]
    pub(crate) fn address(&self) -> Option<&Uri> {
        match &self.location {
            EndpointLocation::Address(address) => Some(address),
            EndpointLocation::Discovered { .. } => None,
        }
    }

    /// Returns the address without change, but rejects an issuer. Call this method for endpoints
    /// that an issuer's metadata never contains.
    pub(crate) fn only_address(self) -> Result<Self, Error> {
        if self.issuer().is_none() {
            return Ok(self);
        }
        let message = "an issuer's metadata contains no address of an API's own login; pass the login's \
                       address";
        Err(Error::new(Kind::Config, message))
    }
}

/// Endpoints of the same issuer are equal, even if each has its own copy of the metadata.
impl PartialEq for EndpointUrl {
    fn eq(&self, other: &Self) -> bool {
        let identity = |url: &Self| match &url.location {
            EndpointLocation::Address(address) => (Some(address.clone()), None, false),
            EndpointLocation::Discovered {
                resolver,
                prefers_mtls,
            } => (None, Some(resolver.issuer().to_owned()), *prefers_mtls),
        };
        identity(self) == identity(other)
    }
}

impl Eq for EndpointUrl {}

const THE_ADDRESS: &str = "the endpoint's address";

impl TryFrom<&str> for EndpointUrl {
    type Error = Error;

    fn try_from(url: &str) -> Result<Self, Error> {
        let uri = parse(THE_ADDRESS, url)?;
        if let Some(host) = cleartext(&uri) {
            let host = ServerText::new(host);
            let what = format!(
                "is http to `{host}`, so secrets could be read in transit; use https, or \
                 `EndpointUrl::danger_allow_http` if something else encrypts the connection"
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

/// Lets a constructor take an [`EndpointUrl`] as well as a string. The conversion of an
/// [`EndpointUrl`] to itself never fails.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// Returns an address to which the caller appends a path, without a slash at its end. A path after
/// a query would be a part of the query.
#[cfg(any(feature = "azure", feature = "github", feature = "kubernetes"))]
pub(crate) fn base<'a>(what: &str, url: &'a str) -> Result<&'a str, Error> {
    match url.contains('?') {
        true => Err(bad(what, "has a query; remove it")),
        false => Ok(url.trim_end_matches('/')),
    }
}

/// Parses an address that is `https`, or `http` on loopback. Error messages start with `what`.
pub(crate) fn secure(what: &str, url: &str) -> Result<Uri, Error> {
    let uri = parse(what, url)?;
    match cleartext(&uri) {
        None => Ok(uri),
        Some(host) => {
            let host = ServerText::new(host);
            let why = format!("is http to `{host}`, so data could be read in transit; use https");
            Err(bad(what, why))
        }
    }
}

/// Returns the host if the connection to the host is cleartext.
fn cleartext(uri: &Uri) -> Option<&str> {
    let is_cleartext = !is_secure(uri.scheme_str(), uri.host());
    is_cleartext.then(|| uri.host().unwrap_or_default())
}

/// Parses an address. Errors show only the host, because a caller that swaps two arguments passes
/// the secret as the address.
fn parse(what: &str, url: &str) -> Result<Uri, Error> {
    let bad = |why: &str| bad(what, why);
    // RFC 6749 §3.2 forbids a fragment, and `Uri` drops a fragment silently.
    if url.contains('#') {
        return Err(bad("has a fragment (`#`)"));
    }
    if let Some(fault) = port_fault(url) {
        return Err(bad(&fault));
    }
    // The query may contain a key. Dropping the last clone of the URI zeroizes this buffer.
    let bytes = Bytes::from_owner(Zeroizing::new(url.as_bytes().to_vec()));
    let uri = Uri::from_maybe_shared(bytes).map_err(|_| {
        // `Uri` rejects a host with a path, such as `id.example.com/token`.
        let is_without_scheme = !url.contains("://") && is_valid(&format!("https://{url}"));
        bad(if is_without_scheme {
            NOT_ABSOLUTE
        } else {
            "isn't a valid URL"
        })
    })?;
    // `Uri` also accepts a host alone and a path alone.
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(bad(NOT_ABSOLUTE));
    };
    if *scheme != Scheme::HTTPS && *scheme != Scheme::HTTP {
        return Err(bad("is neither https nor http"));
    }
    if authority.as_str().contains('@') {
        return Err(bad(
            "has a user name or password (`@`); pass the client's id and secret separately",
        ));
    }
    if authority.host().is_empty() {
        return Err(bad("has no host"));
    }
    // `Uri` takes `[::1]` for the host of `[::1]example.com`.
    if Origin::of_uri(&uri).is_none() {
        return Err(bad("isn't a valid URL"));
    }
    Ok(uri)
}

const NOT_ABSOLUTE: &str = "is not absolute; start it with `https://`";

fn is_valid(url: &str) -> bool {
    url.parse::<Uri>().is_ok()
}

/// Makes a server's address safe to print: replaces each part that may be a secret with `…`.
pub(crate) fn sanitize_url(address: &str) -> ServerText {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let (address, rest) = address.split_at(end);
    let mark = rest.get(..1).unwrap_or_default();
    let more = if mark.is_empty() { "" } else { "…" };
    let (scheme, rest) = address.split_once("//").unwrap_or(("", address));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => ServerText::new(&format!("{scheme}//…@{host}{path}{mark}{more}")),
        None => ServerText::new(&format!("{address}{mark}{more}")),
    }
}

fn bad(what: &str, why: impl fmt::Display) -> Error {
    Error::new(Kind::Config, format!("{what} {why}"))
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = match &self.location {
            EndpointLocation::Address(uri) => uri,
            EndpointLocation::Discovered { resolver, .. } => {
                return write!(f, "as {} says", resolver.issuer());
            }
        };
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let query = if uri.query().is_some() { "?…" } else { "" };
        write!(f, "{scheme}://{authority}{}{query}", uri.path())
    }
}
