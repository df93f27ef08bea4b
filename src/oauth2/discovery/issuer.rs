//! What an authorization server says of itself (RFC 8414, OpenID Connect Discovery 1.0), found by
//! the name of its issuer.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;

use super::cached_document::Kept;
use super::document::Document;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_url;
use crate::http_client::transport::DynTransport;

/// An authorization server by its name (RFC 8414 §2). Clones share what is known of it.
#[derive(Clone)]
pub(crate) struct Issuer {
    shared: Arc<Shared>,
    /// The aliases for clients with a certificate (RFC 8705 §5) come first.
    pub(crate) prefers_mtls: bool,
}

struct Shared {
    /// As it was given: what the metadata must hold.
    name: String,
    uri: Uri,
    metadata: Kept<Metadata>,
}

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Token,
    Revocation,
    #[cfg(feature = "authorization-code")]
    Authorization,
    DeviceAuthorization,
}

impl Role {
    /// Its member of the metadata (RFC 8414 §2, RFC 8628 §4).
    fn member(self) -> &'static str {
        match self {
            Self::Token => "token_endpoint",
            Self::Revocation => "revocation_endpoint",
            #[cfg(feature = "authorization-code")]
            Self::Authorization => "authorization_endpoint",
            Self::DeviceAuthorization => "device_authorization_endpoint",
        }
    }

    /// Its name in errors.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "the token endpoint",
            Self::Revocation => "the revocation endpoint",
            #[cfg(feature = "authorization-code")]
            Self::Authorization => "the authorization endpoint",
            Self::DeviceAuthorization => "the device authorization endpoint",
        }
    }
}

impl Issuer {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let uri = endpoint_url::secure("the issuer", name)?;
        if name.contains('?') {
            let message = "the issuer has a query (`?`), which none may have (RFC 8414 §2)";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                uri,
                metadata: Kept::default(),
            }),
            prefers_mtls: false,
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.shared.name
    }

    /// Where the endpoint is. `timeout` is all the time there is, for this and what it is wanted
    /// for.
    pub(crate) async fn endpoint(
        &self,
        role: Role,
        transport: &DynTransport,
        timeout: Duration,
    ) -> Result<Uri, Error> {
        let metadata = self.metadata(transport, timeout).await?;
        let endpoint = self.judge(role, &metadata);
        if endpoint.is_err() {
            // The server's mistake may be mended by the next time.
            self.doubt();
        }
        endpoint
    }

    pub(crate) async fn metadata(
        &self,
        transport: &DynTransport,
        timeout: Duration,
    ) -> Result<Arc<Metadata>, Error> {
        let look = self.look(transport);
        self.shared.metadata.get(look, timeout / 2).await
    }

    /// An endpoint isn't where the metadata has it: it is looked at anew by the next who wants it.
    pub(crate) fn doubt(&self) {
        self.shared.metadata.doubt();
    }

    async fn look(&self, transport: &DynTransport) -> Result<(Metadata, Duration), Error> {
        let nowhere = || {
            format!(
                "the issuer `{}` has no metadata at any of the well-known places; check its name, or \
                 give the endpoint's address instead",
                self.as_str()
            )
        };
        let places = places(&self.shared.uri);
        let (document, _) = Document::find(transport, places, nowhere).await?;
        let lifetime = document.lifetime;
        Ok((self.accept(document)?, lifetime))
    }

    /// RFC 8414 §3.3: with any other issuer in it, it may be anybody's. One that only looks the same
    /// is another.
    fn accept(&self, document: Document) -> Result<Metadata, Error> {
        let given = self.as_str();
        match document.text("issuer") {
            Some(issuer) if issuer == given => Ok(Metadata { document }),
            Some(issuer) => {
                let message = format!(
                    "the metadata of the issuer `{given}` is that of `{}`; the two must be the \
                     same, to the last slash",
                    endpoint_url::quoted(issuer)
                );
                Err(Error::new(Kind::Config, message))
            }
            None => {
                let message = format!("the metadata of the issuer `{given}` has no `issuer`");
                Err(Error::new(Kind::Config, message))
            }
        }
    }

    fn judge(&self, role: Role, metadata: &Metadata) -> Result<Uri, Error> {
        let (name, member) = (self.as_str(), role.member());
        let Some(endpoint) = metadata.endpoint(member, self.prefers_mtls) else {
            let message = format!(
                "the metadata of the issuer `{name}` has no `{member}`; give {}'s address instead",
                role.name()
            );
            return Err(Error::new(Kind::Config, message));
        };
        let what = format!("the `{member}` of the issuer `{name}`");
        let uri = endpoint_url::secure(&what, endpoint)?;
        // A server elsewhere has no say in what on this machine is sent a secret.
        if uri.scheme() == Some(&Scheme::HTTP) && self.shared.uri.scheme() != Some(&Scheme::HTTP) {
            let message = format!("{what} is http, while the issuer itself is https");
            return Err(Error::new(Kind::Config, message));
        }
        Ok(uri)
    }
}

/// Two with one name are one, each with its own copy of the metadata at worst.
impl PartialEq for Issuer {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str() && self.prefers_mtls == other.prefers_mtls
    }
}

impl Eq for Issuer {}

/// Where the metadata may be, in the order in which it is looked for: as RFC 8414 §3.1 has it, as OpenID
/// Connect Discovery §4.1 does, and that in RFC 8414's manner (§5).
fn places(issuer: &Uri) -> Vec<Uri> {
    let scheme = issuer.scheme_str().unwrap_or_default();
    let host = issuer
        .authority()
        .map_or("", |authority| authority.as_str());
    let path = issuer.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut places = vec![
        format!("{scheme}://{host}/.well-known/oauth-authorization-server{path}"),
        format!("{scheme}://{host}{path}/.well-known/openid-configuration"),
        format!("{scheme}://{host}/.well-known/openid-configuration{path}"),
    ];
    // Without a path the last two are one.
    places.dedup();
    let places = places.into_iter();
    places.filter_map(|place| place.parse().ok()).collect()
}

/// Authorization server metadata (RFC 8414 §2), of the right issuer.
pub(crate) struct Metadata {
    document: Document,
}

impl Metadata {
    fn endpoint(&self, member: &str, prefers_mtls: bool) -> Option<&str> {
        let aliases = || self.document.members.get("mtls_endpoint_aliases");
        let alias = || aliases()?.get(member)?.as_str();
        let alias = if prefers_mtls { alias() } else { None };
        alias.or_else(|| self.document.text(member))
    }

    /// Whether the server says its name as it sends the browser back (RFC 9207 §3).
    #[cfg(feature = "authorization-code")]
    pub(crate) fn says_its_issuer(&self) -> bool {
        let member = "authorization_response_iss_parameter_supported";
        self.document.members.get(member) == Some(&true.into())
    }

    /// The methods of PKCE that the server knows (RFC 8414 §2); `None` if it doesn't say.
    #[cfg(feature = "authorization-code")]
    pub(crate) fn code_challenge_methods(&self) -> Option<Vec<&str>> {
        let methods = self
            .document
            .members
            .get("code_challenge_methods_supported")?;
        Some(
            methods
                .as_array()?
                .iter()
                .filter_map(|it| it.as_str())
                .collect(),
        )
    }
}
