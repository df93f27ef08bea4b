//! An authorization server that is known by its issuer: discovery finds the metadata, which names
//! the endpoints (RFC 8414, OpenID Connect Discovery 1.0).

#[cfg(feature = "authorization-code")]
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
    /// The endpoint that an issuer's metadata names (RFC 8414, OpenID Connect Discovery 1.0): the
    /// token endpoint for a token request, the revocation endpoint in
    /// [`Client::revoke_at`](crate::oauth2::Client::revoke_at), and so on. Clones share the metadata.
    ///
    /// The first token request looks for the metadata, with the client's own transport and within
    /// its timeout, at `https://host/.well-known/…`:
    ///
    /// | issuer | locations, in this order |
    /// | --- | --- |
    /// | `https://host` | `oauth-authorization-server`, `openid-configuration` |
    /// | `https://host/tenant` | `oauth-authorization-server/tenant` (RFC 8414 §3.1); `https://host/tenant/.well-known/openid-configuration` (OpenID Connect Discovery §4.1); `openid-configuration/tenant` (RFC 8414 §5) |
    ///
    /// - Only a 4xx leads to the next location. A server in trouble (5xx, 408, 425, 429, no
    ///   connection) is a [transient](Error::is_transient) error. Redirects are not followed, and a
    ///   response longer than 64 KiB is refused.
    /// - The `issuer` in the metadata must be the given one, character by character, the last slash
    ///   too (RFC 8414 §3.3); the error names both. Auth0's issuers end in a slash.
    /// - Endpoints in the metadata are `https`. Only an issuer on loopback over `http` may name
    ///   endpoints on loopback over `http`.
    /// - The metadata is cached for an hour, or as `Cache-Control: max-age` says, within 5 minutes
    ///   and a day. If it can't be fetched again, the old one stays in use, and the next attempt is
    ///   after a minute.
    /// - The metadata is also fetched again after one of its endpoints answers 404, 405, 410 or with
    ///   a redirect.
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
        Ok(Self::discovered(Arc::new(issuer)))
    }
}

/// The field of the metadata that has the address (RFC 8414 §2, RFC 8628 §4).
fn field(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::Token => "token_endpoint",
        EndpointKind::Revocation => "revocation_endpoint",
        #[cfg(feature = "authorization-code")]
        EndpointKind::Authorization => "authorization_endpoint",
        EndpointKind::DeviceAuthorization => "device_authorization_endpoint",
    }
}

/// An authorization server by its name (RFC 8414 §2), with what is known of it.
struct Issuer {
    /// As the caller gave it, which the metadata must repeat.
    name: String,
    uri: Uri,
    metadata: CachedDocument<Metadata>,
}

impl EndpointResolver for Issuer {
    fn issuer(&self) -> &str {
        &self.name
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
                // The server may have corrected its metadata by the next call.
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
    /// The metadata of the authorization server, if `url` was made from its issuer.
    pub(crate) async fn metadata(&self, url: &EndpointUrl) -> Result<Option<Arc<Metadata>>, Error> {
        let resolver = url.resolver().map(|resolver| -> &dyn Any { resolver });
        let Some(issuer) = resolver.and_then(<dyn Any>::downcast_ref::<Issuer>) else {
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
            let message = "the issuer has a query (`?`), which none may have (RFC 8414 §2)";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            name: name.to_owned(),
            uri,
            metadata: CachedDocument::default(),
        })
    }

    /// The metadata, from the cache or by a search. `timeout` is the time for the metadata and for
    /// the request that needs it together.
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
                "the issuer `{}` has no metadata at any of the well-known places; check its name, or \
                 give the endpoint's address instead",
                self.name
            )
        };
        let locations = well_known_locations(&self.uri);
        let (document, _) = Document::find(transport, locations, nowhere).await?;
        let lifetime = document.lifetime;
        Ok((self.accept(document)?, lifetime))
    }

    /// Accepts metadata with exactly this issuer in it (RFC 8414 §3.3). With any other, the metadata
    /// may be of any server.
    fn accept(&self, document: Document) -> Result<Metadata, Error> {
        match document.text("issuer") {
            Some(issuer) if issuer == self.name => Ok(Metadata { document }),
            Some(issuer) => {
                let other = endpoint_url::sanitize_url(issuer);
                Err(self.wrong(&format!(
                    "is that of `{other}`; the two must be the same, to the last slash"
                )))
            }
            None => Err(self.wrong("has no `issuer`")),
        }
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
        // Another server must not choose which service on this machine gets a secret.
        if uri.scheme() == Some(&Scheme::HTTP) && self.uri.scheme() != Some(&Scheme::HTTP) {
            let message = format!("{what} is http, while the issuer itself is https");
            return Err(Error::new(Kind::Config, message));
        }
        Ok(uri)
    }
}

/// Where the metadata may be, in the order of the search: as in RFC 8414 §3.1, as in OpenID Connect
/// Discovery §4.1, and the latter in the manner of RFC 8414 §5.
fn well_known_locations(issuer: &Uri) -> Vec<String> {
    let base = base(issuer);
    let path = issuer.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    vec![
        format!("{base}/.well-known/oauth-authorization-server{path}"),
        format!("{base}{path}/.well-known/openid-configuration"),
        format!("{base}/.well-known/openid-configuration{path}"),
    ]
}

/// Authorization server metadata (RFC 8414 §2), of the right issuer.
pub(crate) struct Metadata {
    document: Document,
}

impl Metadata {
    fn endpoint(&self, field: &str, prefers_mtls: bool) -> Option<&str> {
        let aliases = || self.document.fields.get("mtls_endpoint_aliases");
        let alias = || aliases()?.get(field)?.as_str();
        let alias = if prefers_mtls { alias() } else { None };
        alias.or_else(|| self.document.text(field))
    }

    /// Whether the server sends its issuer with the browser's redirect (RFC 9207 §3).
    #[cfg(feature = "authorization-code")]
    pub(crate) fn says_its_issuer(&self) -> bool {
        let field = "authorization_response_iss_parameter_supported";
        self.document.fields.get(field) == Some(&true.into())
    }

    /// The methods of PKCE that the server supports (RFC 8414 §2); `None` if the metadata doesn't
    /// say.
    #[cfg(feature = "authorization-code")]
    pub(crate) fn code_challenge_methods(&self) -> Option<Vec<&str>> {
        let field = "code_challenge_methods_supported";
        let methods = self.document.fields.get(field)?.as_array()?;
        Some(methods.iter().filter_map(|it| it.as_str()).collect())
    }
}
