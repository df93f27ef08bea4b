//! Tokens from the authorization server that an API names in its metadata (RFC 9728).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderMap;

use super::resource_metadata::{Hint, Resource};
use crate::challenge::www_authenticate::Challenge;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_client::{TIMEOUT, within};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::transport::{DynTransport, Transport};
use crate::oauth2::discovery::cached_document::CachedDocument;
use crate::origin::Origin;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::token::issued_token::Token;

/// Gets tokens from the authorization server that an API names in its metadata (RFC 9728), if you
/// allow that server. Servers of the Model Context Protocol have such metadata.
///
/// 1. The API gets a GET of its address without a credential. Its 401 says where the metadata is
///    (`WWW-Authenticate: Bearer resource_metadata="…"`, RFC 9728 §5.1). If not, the metadata is at
///    `/.well-known/oauth-protected-resource` with the path of the API behind it, or without (§3.1).
/// 2. The first of the API's `authorization_servers` that is on the list of allowed issuers is used.
///    No other ever gets a request. If none is allowed, the fetch fails and names those that the API
///    offers.
/// 3. The closure gets a [`Protection`] and makes the source of the tokens. The example does so for
///    [`ClientCredentials`](crate::oauth2::ClientCredentials).
/// 4. All tokens come from that source.
///
/// The metadata is fetched again after an hour, or as its `Cache-Control: max-age` says, within 5
/// minutes and a day. It is also fetched again after a [permanent](Error::is_permanent) error of the
/// source. If that fails, the old metadata stays in use, and the next attempt is after a minute. A
/// new source is made only if something has changed.
///
/// | setting | default |
/// | --- | --- |
/// | allowed issuers | the constructor takes them: one at least |
/// | [`timeout`](Self::timeout) of the search for the metadata | 10 s; half of it if there is an old one |
///
/// # What is checked
///
/// - The API is `https`, or `http` to loopback, and so are all addresses in its metadata. Redirects
///   are not followed, and metadata longer than 64 KiB is refused.
/// - The metadata is on the API's own origin, whatever a challenge says. Otherwise an API could make
///   this process send requests to any server that it reaches, such as one behind the firewall
///   (server-side request forgery).
/// - `resource` in the metadata is the address that you gave, character by character (§3.3). Many
///   servers have instead the address to which the metadata's location belongs:
///   `https://api.example.com` at `https://api.example.com/.well-known/oauth-protected-resource`.
///   That is accepted if it is the API's origin or the beginning of its path. The `resource` of
///   another API on the same host is refused, because this API would get a token for the other.
/// - Issuers are compared character by character, the last slash too, and the authorization server's own
///   metadata must say the same name ([`EndpointUrl::from_issuer`]).
///
/// The list protects the client's secret: without it, an API could name a server of its own, which
/// would get the secret. Only the API's own origin gets the tokens, unless
/// [`AuthLayer::only_to`](crate::AuthLayer::only_to) names other origins.
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::{ClientCredentials, Protection, ProtectedResource};
///
/// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
/// let source = ProtectedResource::new(
///     "https://mcp.example.com/mcp",
///     ["https://example.auth0.com/"],
///     move |protection: Protection| {
///         let source = ClientCredentials::new(protection.endpoint(), id.clone(), secret.clone())?;
///         Ok(source.resource(protection.resource()).scope(protection.scope()))
///     },
/// )?;
/// let layer = AuthLayer::new(source);
/// # Ok(()) }
/// ```
pub struct ProtectedResource {
    resource: Resource,
    /// Each with its own cached metadata, which stays when that of the resource changes.
    allowed: Vec<EndpointUrl>,
    transport: DynTransport,
    timeout: Duration,
    build: Box<Build>,
    protection: CachedDocument<Protection>,
    hints: Mutex<Hints>,
    built: Mutex<Option<BuiltSource>>,
}

type Build = dyn Fn(Protection) -> Result<DynSource, Error> + Send + Sync;
type DynSource = Arc<dyn DynTokenSource>;

/// How a [`ProtectedResource`] is protected: who issues its tokens, for which resource, and with
/// which scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    endpoint: EndpointUrl,
    resource: String,
    scope: String,
}

/// What refusals of the resource have said about its metadata.
#[derive(Default)]
struct Hints {
    /// For the last search.
    used: Hint,
    /// For the next search.
    next: Option<Hint>,
}

/// The source, and what it was made for.
#[derive(Clone)]
struct BuiltSource {
    protection: Arc<Protection>,
    source: DynSource,
}

impl ProtectedResource {
    /// A source for the API at this address. `build` makes the source of the tokens themselves, each
    /// time that something has changed.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address or an issuer can't be used or is cleartext, or
    /// if there is no issuer.
    pub fn new<I, F, T>(resource: impl AsRef<str>, allowed: I, build: F) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
        F: Fn(Protection) -> Result<T, Error> + Send + Sync + 'static,
        T: TokenSource,
    {
        let allowed = allowed.into_iter().map(EndpointUrl::from_issuer);
        let allowed = allowed.collect::<Result<Vec<_>, _>>()?;
        if allowed.is_empty() {
            let message = "no issuer is allowed to issue tokens for the protected resource; name those \
                           that you trust with the client's secret";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            resource: Resource::new(resource.as_ref())?,
            allowed,
            transport: DynTransport::default(),
            timeout: TIMEOUT,
            build: Box::new(move |protection| Ok(Arc::new(build(protection)?))),
            protection: CachedDocument::default(),
            hints: Mutex::default(),
            built: Mutex::default(),
        })
    }

    /// Looks for the metadata with `transport`, such as your own HTTP client; the default is that of
    /// [`Client`](crate::oauth2::Client::transport). The source that is made has a transport of its own.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = DynTransport::new(transport);
        self
    }

    /// Bounds the search for the metadata; default 10 s. The source that is made has a timeout of its own.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Keeps what a refusal says for the next fetch, if that is other metadata or other scopes than
    /// were used.
    fn keep_hint(&self, challenges: &[Challenge]) {
        let hint = Hint::of(challenges);
        let mut hints = lock(&self.hints);
        let is_elsewhere = hint.metadata != hints.used.metadata;
        let is_for_more = hint.scope.is_some() && hint.scope != hints.used.scope;
        // A challenge that names no metadata says nothing new about it.
        if hint.metadata.is_some() && (is_elsewhere || is_for_more) {
            hints.next = Some(hint);
        }
    }

    async fn find(&self) -> Result<(Protection, Duration), Error> {
        let next = lock(&self.hints).next.take();
        let hint = match next {
            Some(hint) => hint,
            None => self.resource.probe(&self.transport).await?,
        };
        // Even if the search fails: the same hint again is nothing new.
        lock(&self.hints).used = hint.clone();
        let (metadata, lifetime) = self.resource.metadata(&hint, &self.transport).await?;
        let protection = Protection {
            endpoint: metadata.choose(&self.allowed)?.clone(),
            resource: metadata.resource,
            scope: metadata.scope,
        };
        Ok((protection, lifetime))
    }

    /// The source for this protection: the present one, or a new one if that is for another. No lock
    /// is held while it is built.
    fn source(&self, protection: Arc<Protection>) -> Result<DynSource, Error> {
        let built = lock(&self.built).clone();
        if let Some(built) = built.filter(|built| built.protection == protection) {
            return Ok(built.source);
        }
        let source = (self.build)(Protection::clone(&protection))?;
        let built = BuiltSource {
            protection,
            source: Arc::clone(&source),
        };
        let old = lock(&self.built).replace(built);
        drop(old);
        Ok(source)
    }
}

impl TokenSource for ProtectedResource {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        if lock(&self.hints).next.is_some() {
            self.protection.invalidate();
        }
        let find = self.protection.get(self.find(), self.timeout / 2);
        let protection = within(self.timeout, "the protected resource's metadata", find).await?;
        let source = self.source(protection)?;
        let fetched = source.fetch(reason).await;
        if fetched.as_ref().is_err_and(Error::is_permanent) {
            self.protection.invalidate();
        }
        fetched
    }

    fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        self.keep_hint(challenges);
        // The source itself decides whether it asks for more scope.
        let built = lock(&self.built).clone();
        built.is_some_and(|built| built.source.challenged(token, challenges))
    }

    /// The resource's own origin.
    fn origins(&self) -> Vec<Origin> {
        self.resource.origin().into_iter().collect()
    }

    fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let built = lock(&self.built).clone();
        built.is_some_and(|built| built.source.is_refusal(status, headers))
    }

    /// Before the first fetch the source isn't known, so its grant counts as one-time.
    fn has_one_time_grant(&self) -> bool {
        let built = lock(&self.built).clone();
        built.is_none_or(|built| built.source.has_one_time_grant())
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let built = lock(&self.built).clone();
        match built {
            Some(built) => built.source.close(last).await,
            None => Ok(()),
        }
    }
}

impl Protection {
    /// The authorization server, for the constructor of a source. Its metadata names the token
    /// endpoint and all others.
    pub fn endpoint(&self) -> EndpointUrl {
        self.endpoint.clone()
    }

    /// The authorization server's name (RFC 8414 §2), which is on the list of those allowed.
    pub fn issuer(&self) -> &str {
        self.endpoint.issuer().unwrap_or_default()
    }

    /// The API's name for itself: the `resource` parameter of a token request (RFC 8707).
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The scopes that are wanted, separated by spaces: those of the API's challenge (RFC 6750 §3),
    /// else all that its metadata has (`scopes_supported`, RFC 9728 §2); empty if neither says.
    pub fn scope(&self) -> &str {
        &self.scope
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ProtectedResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtectedResource")
            .field("resource", &self.resource)
            .field("allowed", &self.allowed)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
