//! An authorization server that is known by its issuer. Its metadata contains its endpoints (RFC
//! 8414, OpenID Connect Discovery 1.0).

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

use super::cached_document::CachedDocument;
use super::document::{Document, base};
use crate::error::{Error, Kind};
#[cfg(feature = "authorization-code")]
use crate::http_client::endpoint_client::EndpointClient;
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::{self, EndpointResolver, EndpointUrl};
use crate::http_client::transport::DynTransport;

impl EndpointUrl {
    /// Finds the endpoint in an issuer's metadata (RFC 8414, OpenID Connect Discovery 1.0).
    ///
    /// Each request uses the endpoint of its kind. For example, a token request uses the token
    /// endpoint, and [`Client::revoke_at`](crate::oauth2::Client::revoke_at) uses the revocation
    /// endpoint. Clones share the metadata.
    ///
    /// The first token request fetches the metadata, with the client's own transport and within the
    /// client's timeout. The client tries these locations at `https://host/.well-known/…`:
    ///
    /// | issuer | locations, in this order |
    /// | --- | --- |
    /// | `https://host` | `oauth-authorization-server`, `openid-configuration` |
    /// | `https://host/tenant` | `oauth-authorization-server/tenant` (RFC 8414 §3.1); `openid-configuration/tenant` (RFC 8414 §5); `https://host/tenant/.well-known/openid-configuration` (OpenID Connect Discovery §4.1) |
    ///
    /// This is the order that the Model Context Protocol requires.
    ///
    /// - After a 4xx other than 408, 425 or 429, and after a response that isn't a JSON object, the
    ///   client tries the next location. If the server is unavailable (5xx, 408, 425, 429, or no
    ///   connection), the search ends with a [transient](Error::is_transient) error. Redirects are
    ///   not followed, and a response longer than 64 KiB is rejected.
    /// - The `issuer` in the metadata must be equal to the given issuer, including a trailing slash
    ///   (RFC 8414 §3.3). Otherwise, an error shows both issuers. Auth0's issuers end in a slash. To
    ///   ignore only this slash, call [`ignore_issuer_slash`](Self::ignore_issuer_slash).
    /// - Endpoints in the metadata must be `https`. Exception: the endpoints of an `http` issuer on
    ///   loopback may be `http` on loopback.
    /// - The metadata is cached for 1 h. A `Cache-Control: max-age` from the server replaces this
    ///   time, limited to between 5 min and 24 h. If a later fetch fails, the old metadata stays in
    ///   use and the client tries again after 1 min.
    /// - The client also fetches the metadata again after an endpoint responds with a 404, a 405, a
    ///   410 or a redirect.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) in these cases (RFC 8414 §2):
    ///
    /// - The issuer isn't an absolute `https` address, or `http` on loopback.
    /// - The issuer has a user name, a query or a fragment.
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
        Ok(Self::discovered(Arc::new(issuer)))
    }

    /// Accepts metadata whose `issuer` differs from the given issuer only by a slash at the end.
    ///
    /// RFC 8414 §3.3 forbids such metadata, but many servers publish it. Write the issuer as the
    /// server does, if you can. Call this method only if you can't, for example because you read
    /// the issuer from a configuration. Any other difference remains an error.
    ///
    /// An `iss` in the response to a login must be equal to the `issuer` in the metadata. The
    /// assertions that a client signs for its authentication also contain this `issuer`.
    ///
    /// Call this method before you clone the value. Earlier clones still require an equal issuer, and
    /// keep their own copy of the metadata. Without an issuer, this setting has no effect.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::EndpointUrl;
    ///
    /// // This server's metadata contains `https://id.example.com`.
    /// let issuer = EndpointUrl::from_issuer("https://id.example.com/")?.ignore_issuer_slash();
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    #[must_use]
    pub fn ignore_issuer_slash(self) -> Self {
        match issuer_of(&self).map(Issuer::ignore_slash) {
            Some(issuer) => self.with_resolver(Arc::new(issuer)),
            None => self,
        }
    }
}

/// Returns the issuer if `url` was created from an issuer.
fn issuer_of(url: &EndpointUrl) -> Option<&Issuer> {
    let resolver: &dyn Any = url.resolver()?;
    resolver.downcast_ref()
}

/// Returns whether two issuers are equal, except for a slash at the end of one of them.
pub(crate) fn differ_at_most_by_a_slash(one: &str, other: &str) -> bool {
    let bare = |issuer| str::strip_suffix(issuer, '/').unwrap_or(issuer);
    bare(one) == bare(other)
}

/// Returns the metadata field that contains the address (RFC 8414 §2, RFC 8628 §4).
fn field(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::Token => "token_endpoint",
        EndpointKind::Revocation => "revocation_endpoint",
        #[cfg(feature = "authorization-code")]
        EndpointKind::Authorization => "authorization_endpoint",
        EndpointKind::DeviceAuthorization => "device_authorization_endpoint",
    }
}

/// An authorization server, its issuer name (RFC 8414 §2) and its cached metadata.
struct Issuer {
    /// The issuer as the caller wrote it. The metadata must contain the same text.
    name: String,
    uri: Uri,
    /// Whether the metadata's issuer may differ by a slash at the end.
    ignores_slash: bool,
    metadata: CachedDocument<Metadata>,
}

impl EndpointResolver for Issuer {
    fn issuer(&self) -> &str {
        &self.name
    }

    fn published_issuer<'a>(
        &'a self,
        transport: &'a DynTransport,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<String, Error>> + Send + 'a>> {
        Box::pin(async move {
            if !self.ignores_slash {
                // The metadata must contain exactly this name.
                return Ok(self.name.clone());
            }
            let metadata = self.metadata(transport, timeout).await?;
            Ok(metadata.issuer().to_owned())
        })
    }

    fn endpoint<'a>(
        &'a self,
        kind: EndpointKind,
        prefers_mtls: bool,
        transport: &'a DynTransport,
        timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<Uri, Error>> + Send + 'a>> {
        Box::pin(async move {
            let metadata = self.metadata(transport, timeout).await?;
            let endpoint = self.endpoint_in(&metadata, kind, prefers_mtls);
            if endpoint.is_err() {
                // Makes the next call fetch the metadata again, because the server may correct its
                // metadata.
                self.invalidate();
            }
            endpoint
        })
    }

    fn invalidate(&self) {
        self.metadata.invalidate();
    }
}

#[cfg(feature = "authorization-code")]
impl EndpointClient {
    /// Returns the metadata of the authorization server if `url` was created from an issuer.
    pub(crate) async fn metadata(&self, url: &EndpointUrl) -> Result<Option<Arc<Metadata>>, Error> {
        let Some(issuer) = issuer_of(url) else {
            return Ok(None);
        };
        let metadata = issuer.metadata(&self.transport, self.timeout).await?;
        Ok(Some(metadata))
    }
}

impl Issuer {
    fn new(name: &str) -> Result<Self, Error> {
        let uri = endpoint_url::secure("the issuer", name)?;
        if name.contains('?') {
            let message = "the issuer has a query (`?`), which RFC 8414 §2 forbids";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            name: name.to_owned(),
            uri,
            ignores_slash: false,
            metadata: CachedDocument::default(),
        })
    }

    /// Returns a copy that ignores a slash at the end. The copy has no cached metadata.
    fn ignore_slash(&self) -> Self {
        Self {
            name: self.name.clone(),
            uri: self.uri.clone(),
            ignores_slash: true,
            metadata: CachedDocument::default(),
        }
    }

    /// Returns the metadata from the cache, or fetches it. `timeout` covers both the metadata and
    /// the request that follows. A fetch that replaces old metadata gets half of `timeout`.
    async fn metadata(
        &self,
        transport: &DynTransport,
        timeout: Duration,
    ) -> Result<Arc<Metadata>, Error> {
        self.metadata.get(self.look(transport), timeout / 2).await
    }

    async fn look(&self, transport: &DynTransport) -> Result<(Metadata, Duration), Error> {
        let nowhere = || {
            format!(
                "the issuer `{}` has no metadata at any well-known location; check its name, or \
                 give the endpoint's address instead",
                self.name
            )
        };
        let locations = well_known_locations(&self.uri);
        let (document, _) = Document::find(transport, locations, nowhere).await?;
        let lifetime = document.lifetime;
        Ok((self.accept(document)?, lifetime))
    }

    /// Accepts metadata only if it contains exactly this issuer (RFC 8414 §3.3). Other metadata may
    /// belong to another server.
    fn accept(&self, document: Document) -> Result<Metadata, Error> {
        let Some(issuer) = document.text("issuer") else {
            return Err(self.wrong("has no `issuer`"));
        };
        let is_close = differ_at_most_by_a_slash(issuer, &self.name);
        if issuer == self.name || self.ignores_slash && is_close {
            return Ok(Metadata { document });
        }
        let remedy = match is_close {
            true => "; write it as the server does, or call `ignore_issuer_slash`",
            false => "",
        };
        Err(self.wrong(&format!(
            "names the issuer `{}`; both must be equal, including a trailing slash{remedy}",
            endpoint_url::sanitize_url(issuer)
        )))
    }

    fn wrong(&self, what: &str) -> Error {
        let message = format!("the metadata of the issuer `{}` {what}", self.name);
        Error::new(Kind::Config, message)
    }

    fn endpoint_in(
        &self,
        metadata: &Metadata,
        kind: EndpointKind,
        prefers_mtls: bool,
    ) -> Result<Uri, Error> {
        let (name, field) = (&self.name, field(kind));
        let Some(endpoint) = metadata.endpoint(field, prefers_mtls) else {
            let instead = format!("give {}'s address instead", kind.name());
            return Err(self.wrong(&format!("has no `{field}`; {instead}")));
        };
        let what = format!("the `{field}` of the issuer `{name}`");
        let uri = endpoint_url::secure(&what, endpoint)?;
        // Without this check, a remote issuer could make this process send a secret to any service
        // on this machine.
        if uri.scheme() == Some(&Scheme::HTTP) && self.uri.scheme() != Some(&Scheme::HTTP) {
            let message = format!("{what} is http, but the issuer is https");
            return Err(Error::new(Kind::Config, message));
        }
        Ok(uri)
    }
}

/// Returns the possible locations of the metadata, in the order of the search. The sources of the
/// locations are RFC 8414 §3.1, RFC 8414 §5 and OpenID Connect Discovery §4.1. The authorization
/// specification of the Model Context Protocol (2026-07-28) requires this order.
fn well_known_locations(issuer: &Uri) -> Vec<String> {
    let base = base(issuer);
    let path = issuer.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    vec![
        format!("{base}/.well-known/oauth-authorization-server{path}"),
        format!("{base}/.well-known/openid-configuration{path}"),
        format!("{base}{path}/.well-known/openid-configuration"),
    ]
}

/// Authorization server metadata (RFC 8414 §2) that contains the expected issuer.
pub(crate) struct Metadata {
    document: Document,
}

impl Metadata {
    /// Returns the issuer as the server writes it.
    pub(crate) fn issuer(&self) -> &str {
        self.document.text("issuer").unwrap_or_default()
    }

    fn endpoint(&self, field: &str, prefers_mtls: bool) -> Option<&str> {
        let aliases = || self.document.fields.get("mtls_endpoint_aliases");
        let alias = || aliases()?.get(field)?.as_str();
        let alias = if prefers_mtls { alias() } else { None };
        alias.or_else(|| self.document.text(field))
    }

    /// Returns whether the server adds its issuer to the browser's redirect (RFC 9207 §3).
    #[cfg(feature = "authorization-code")]
    pub(crate) fn says_its_issuer(&self) -> bool {
        let field = "authorization_response_iss_parameter_supported";
        self.document.fields.get(field) == Some(&true.into())
    }

    /// Returns the PKCE methods that the server supports (RFC 8414 §2), or `None` if the metadata
    /// lists no methods.
    #[cfg(feature = "authorization-code")]
    pub(crate) fn code_challenge_methods(&self) -> Option<Vec<&str>> {
        let field = "code_challenge_methods_supported";
        let methods = self.document.fields.get(field)?.as_array()?;
        Some(methods.iter().filter_map(|it| it.as_str()).collect())
    }
}
