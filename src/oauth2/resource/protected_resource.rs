//! Tokens from the authorization server that an API names in its metadata (RFC 9728).

use std::collections::BTreeSet;
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
use crate::oauth2::discovery::issuer::differ_at_most_by_a_slash;
use crate::origin::Origin;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::token::issued_token::Token;

/// Fetches tokens from the authorization server that an API names in its metadata (RFC 9728). You
/// list the servers that you allow. Servers of the Model Context Protocol publish such metadata.
///
/// 1. The source sends a GET without a credential to the API's address. The API's 401 contains the
///    location of the metadata (`WWW-Authenticate: Bearer resource_metadata="…"`, RFC 9728 §5.1).
///    If the location is missing, unreadable or without metadata, the source tries two addresses
///    (§3.1): `/.well-known/oauth-protected-resource` with the API's path, and then without it. If
///    the 401 contains several locations, the source tries the first four of them.
/// 2. The source chooses the first of the API's `authorization_servers` that you allow. No other
///    server ever gets a request. If you allow none of these servers, the fetch fails with an error
///    that lists them.
/// 3. The closure gets a [`Protection`] and makes the source of the tokens. In the example, this
///    source is [`ClientCredentials`](crate::oauth2::ClientCredentials).
/// 4. All tokens come from that source.
///
/// The metadata is cached for 1 h. A `Cache-Control: max-age` from the server replaces this time,
/// limited to between 5 min and 24 h. The metadata is also fetched again after a
/// [permanent](Error::is_permanent) error of the closure's source. If a later fetch fails, the old
/// metadata stays in use and the next attempt follows after 1 min. The closure makes a new source
/// only if the metadata has changed.
///
/// | setting | default |
/// | --- | --- |
/// | allowed issuers | an argument of the constructor; at least one |
/// | [`ignore_issuer_slash`](Self::ignore_issuer_slash) | off: issuers are compared exactly |
/// | [`allow_scopes`](Self::allow_scopes): scopes that the API may choose | all scopes |
/// | [`timeout`](Self::timeout) for fetching the metadata | 10 s; half of this time if old metadata is cached |
///
/// # Checks
///
/// - The API's address must be `https`, or `http` on loopback. All addresses in the API's metadata
///   must meet the same condition. Redirects are not followed, and metadata longer than 64 KiB is
///   rejected.
/// - The metadata must be on the API's own origin, even if a challenge names another location.
///   Otherwise an API could make this process send requests to any reachable server, such as a
///   server behind the firewall. This attack is called server-side request forgery.
/// - `resource` in the metadata must be equal to the address that you gave, character by character
///   (§3.3). Many servers instead write the address to which the metadata's location belongs. For
///   example, metadata at `https://api.example.com/.well-known/oauth-protected-resource` contains
///   `https://api.example.com`. Such an address is accepted if it is the API's origin or the
///   beginning of the API's path. The `resource` of another API on the same host is rejected.
///   Otherwise this API would receive a token for the other API.
/// - The issuer in the API's metadata must be equal to an allowed issuer, including a trailing
///   slash. The authorization server's own metadata must also contain that issuer
///   ([`EndpointUrl::from_issuer`]). [`ignore_issuer_slash`](Self::ignore_issuer_slash) excludes
///   the slash from both comparisons.
///
/// The list of allowed issuers protects the client's secret. Without this list, an API could name
/// its own server, which would then receive the secret. Only the API's own origin gets the tokens,
/// unless [`AuthLayer::only_to`](crate::AuthLayer::only_to) names other origins.
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
///         let (id, secret) = (id.clone(), secret.clone());
///         let source = ClientCredentials::new(protection.endpoint(), id, secret)?;
///         Ok(source.resource(protection.resource()).scope(protection.scope()))
///     },
/// )?;
/// let layer = AuthLayer::new(source);
/// # Ok(()) }
/// ```
pub struct ProtectedResource {
    resource: Resource,
    /// The allowed issuers. Each issuer caches its own metadata. A change of the resource's
    /// metadata doesn't clear these caches.
    allowed: Vec<EndpointUrl>,
    ignores_issuer_slash: bool,
    /// The scopes that the resource may choose. `None`: all scopes.
    allowed_scopes: Option<BTreeSet<String>>,
    transport: DynTransport,
    timeout: Duration,
    build: Box<Build>,
    protection: CachedDocument<Protection>,
    hints: Mutex<Hints>,
    built: Mutex<Option<BuiltSource>>,
}

type Build = dyn Fn(Protection) -> Result<DynSource, Error> + Send + Sync;
type DynSource = Arc<dyn DynTokenSource>;

/// The protection of a [`ProtectedResource`]: the authorization server, the resource name and the
/// scopes.
///
/// # Example
///
/// A client for each of the allowed servers:
///
/// ```
/// use std::collections::HashMap;
///
/// use tower_auth::Error;
/// use tower_auth::oauth2::{ClientCredentials, Protection};
///
/// /// The id and the secret for each issuer.
/// type Clients = HashMap<String, (String, String)>;
///
/// fn source(chosen: &Protection, clients: &Clients) -> Result<ClientCredentials, Error> {
///     let Some((id, secret)) = clients.get(chosen.issuer()).cloned() else {
///         return Err(Error::permanent("no client for this issuer"));
///     };
///     let source = ClientCredentials::new(chosen.endpoint(), id, secret)?;
///     Ok(source.resource(chosen.resource()).scope(chosen.scope()))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    endpoint: EndpointUrl,
    resource: String,
    scope: String,
}

/// The hints about metadata that the resource's refusals contained.
#[derive(Default)]
struct Hints {
    /// The hint that the last search used.
    used: Hint,
    /// The hint for the next search.
    next: Option<Hint>,
}

/// A source, and the protection for which the closure made it.
#[derive(Clone)]
struct BuiltSource {
    protection: Arc<Protection>,
    source: DynSource,
}

impl ProtectedResource {
    /// Creates a source for the API at this address. `build` makes the source of the tokens. The
    /// first fetch calls `build`. If the metadata changes, the next fetch calls `build` again.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address or an issuer is invalid or cleartext,
    /// or if there is no issuer.
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
            let message = "the list of allowed issuers for the protected resource is empty; name each issuer \
                           that you trust with the client's secret";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            resource: Resource::new(resource.as_ref())?,
            allowed,
            ignores_issuer_slash: false,
            allowed_scopes: None,
            transport: DynTransport::default(),
            timeout: TIMEOUT,
            build: Box::new(move |protection| Ok(Arc::new(build(protection)?))),
            protection: CachedDocument::default(),
            hints: Mutex::default(),
            built: Mutex::default(),
        })
    }

    /// Fetches the metadata with `transport`, such as your own HTTP client. The default is the same
    /// as for [`Client::transport`](crate::oauth2::Client::transport). The source from the closure
    /// has its own transport.
    #[must_use]
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = DynTransport::new(transport);
        self
    }

    /// Allows only these scopes, and those of earlier calls. Separate names by spaces. Without a
    /// call, the API may choose any scope.
    ///
    /// The API names scopes in its challenge and in its metadata. [`Protection::scope`] then
    /// contains only the allowed scopes among them. If the API refuses a token with fewer scopes,
    /// the caller gets that refusal. If the API names scopes, but none that is allowed, the fetch
    /// fails with [`is_config`](Error::is_config). A request without a scope could otherwise get
    /// the authorization server's default scopes (RFC 6749 §3.3).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Token;
    /// use tower_auth::oauth2::{ProtectedResource, Protection};
    ///
    /// let source = ProtectedResource::new(
    ///     "https://mcp.example.com/mcp",
    ///     ["https://id.example.com"],
    ///     |_: Protection| Ok(|_| async { Token::bearer("secret") }),
    /// )?
    /// .allow_scopes("notes:read notes:write");
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    #[must_use]
    pub fn allow_scopes(mut self, scopes: impl AsRef<str>) -> Self {
        let names = scopes.as_ref().split_whitespace().map(str::to_owned);
        self.allowed_scopes.get_or_insert_default().extend(names);
        self
    }

    /// Accepts an issuer that differs from an allowed issuer only by a slash at the end. This
    /// applies to the API's metadata and to the [authorization server's
    /// own](EndpointUrl::ignore_issuer_slash). Any other difference remains an error.
    #[must_use]
    pub fn ignore_issuer_slash(mut self) -> Self {
        let allowed = self.allowed.into_iter();
        self.allowed = allowed.map(EndpointUrl::ignore_issuer_slash).collect();
        self.ignores_issuer_slash = true;
        self
    }

    /// Sets the timeout for fetching the metadata. Default: 10 s. The source from the closure has
    /// its own timeout.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Stores the hint of a refusal for the next fetch, if the hint is new. A hint is new if it has
    /// another metadata location or other scopes than the hint of the last search.
    fn keep_hint(&self, challenges: &[Challenge]) {
        let hint = Hint::of(challenges);
        let mut hints = lock(&self.hints);
        let is_elsewhere = hint.metadata != hints.used.metadata;
        let is_for_more = hint.scope.is_some() && hint.scope != hints.used.scope;
        // A challenge without a metadata location says nothing new about the metadata.
        if !hint.metadata.is_empty() && (is_elsewhere || is_for_more) {
            hints.next = Some(hint);
        }
    }

    async fn find(&self) -> Result<(Protection, Duration), Error> {
        let next = lock(&self.hints).next.take();
        let hint = match next {
            Some(hint) => hint,
            None => self.resource.probe(&self.transport).await?,
        };
        // Stores the hint even if the search fails, so that the same hint doesn't count as new.
        lock(&self.hints).used = hint.clone();
        let (metadata, lifetime) = self.resource.metadata(&hint, &self.transport).await?;
        let protection = Protection {
            endpoint: metadata.choose(&self.allowed, self.are_equal())?.clone(),
            scope: metadata.bounded_scope(self.allowed_scopes.as_ref())?,
            resource: metadata.resource,
        };
        Ok((protection, lifetime))
    }

    /// Returns the function that compares an issuer in the metadata with an allowed issuer.
    fn are_equal(&self) -> fn(&str, &str) -> bool {
        match self.ignores_issuer_slash {
            true => differ_at_most_by_a_slash,
            false => |offered, allowed| offered == allowed,
        }
    }

    /// Returns the source for this protection. Makes a new source if the protection has changed.
    /// Holds no lock while the closure runs.
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
        // The source that the closure built decides whether to request more scope.
        let built = lock(&self.built).clone();
        built.is_some_and(|built| built.source.challenged(token, challenges))
    }

    /// Returns the resource's own origin.
    fn origins(&self) -> Vec<Origin> {
        self.resource.origin().into_iter().collect()
    }

    fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let built = lock(&self.built).clone();
        built.is_some_and(|built| built.source.is_refusal(status, headers))
    }

    /// Before the first fetch, the closure's source doesn't exist, so its grant isn't known. `true`
    /// is the safe answer: no process fetches without the store's lease.
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
    /// Returns the authorization server, for the constructor of a source. The server's metadata
    /// contains all endpoints.
    pub fn endpoint(&self) -> EndpointUrl {
        self.endpoint.clone()
    }

    /// Returns the authorization server's issuer (RFC 8414 §2), one of the allowed issuers.
    pub fn issuer(&self) -> &str {
        self.endpoint.issuer().unwrap_or_default()
    }

    /// Returns the API's own name, for the `resource` parameter of a token request (RFC 8707).
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Returns the scopes to request, separated by spaces. The scopes come from the API's challenge
    /// (RFC 6750 §3), otherwise from `scopes_supported` in the metadata (RFC 9728 §2). Each scope is
    /// [allowed](ProtectedResource::allow_scopes). The text is empty if neither the challenge nor
    /// the metadata contains scopes.
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
            .field("allowed_scopes", &self.allowed_scopes)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
