//! From an API's refusal to a token for it (RFC 9728): the API says who issues its tokens.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::resource_metadata::{Hint, Resource};
use crate::challenge::www_authenticate::Challenge;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::exchange::{TIMEOUT, within};
use crate::http_client::transport::{DynTransport, Transport};
use crate::oauth2::discovery::cached_document::CachedDocument;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::token::issued_token::Token;

/// Gets tokens from whichever authorization server an API names in its metadata (RFC 9728), as the
/// servers of the Model Context Protocol do; as long as it is one that you allow.
///
/// 1. The API is asked without a credential, with a GET of its address. Its 401 says where its
///    metadata is (`WWW-Authenticate: Bearer resource_metadata="…"`, RFC 9728 §5.1). If it
///    doesn't, that is at `/.well-known/oauth-protected-resource` with the path of the API behind it,
///    or else without (§3.1).
/// 2. The first of its `authorization_servers` that is on the list of allowed issuers is the one to
///    ask. No other is ever sent a request; with none the fetch fails and names those that
///    the API offers.
/// 3. The closure is given a [`Protection`] and makes the source of tokens: for
///    [`ClientCredentials`](crate::oauth2::ClientCredentials) see below.
/// 4. That source is asked for this token and the next ones.
///
/// The metadata is looked at anew after an hour, or as its `Cache-Control: max-age` says, within 5
/// minutes and a day, and after the source has failed in a way that
/// [stays](Error::is_permanent). When it can't be had, the old one is used on, and it is tried
/// again after a minute. The source is made anew only when something has changed.
///
/// | setting | default |
/// | --- | --- |
/// | allowed issuers | the constructor takes them: one at least |
/// | [`timeout`](Self::timeout) of looking for the metadata | 10 s; half of it while the old one can be used on |
///
/// # What is checked
///
/// - The API is `https`, or `http` to loopback, and so is all that its metadata names. Redirects are not
///   followed, and metadata longer than 64 KiB is refused.
/// - The metadata is on the API's own origin, whatever a challenge says. Otherwise an API could
///   have this process ask any server that it reaches, such as one behind the firewall (server-side
///   request forgery).
/// - `resource` in the metadata is the address that was given, character by character (§3.3); or, as
///   many servers have it, what the place of the metadata stands for, if that is the API's
///   origin or the beginning of its path: `https://api.example.com` at
///   `https://api.example.com/.well-known/oauth-protected-resource`. A neighbour's on the same host
///   is refused: a token for it would be sent to this API.
/// - Issuers are compared character by character, the last slash too, and the authorization server's own
///   metadata must say the same name ([`EndpointUrl::from_issuer`]).
///
/// The list is what keeps the client's secret: without one, any API could name a server of its
/// own and be given it. Name the API in [`AuthLayer::only_to`](crate::AuthLayer::only_to) too, so that its
/// tokens go nowhere else.
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::{ClientCredentials, Protection, ProtectedResource};
///
/// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let source = ProtectedResource::new(
///     "https://mcp.example.com/mcp",
///     ["https://example.auth0.com/"],
///     move |protection: Protection| {
///         let source = ClientCredentials::new(protection.endpoint(), id.clone(), secret.clone())?;
///         Ok(source.resource(protection.resource()).scope(protection.scope()))
///     },
/// )?;
/// let layer = AuthLayer::new(source).only_to(["https://mcp.example.com"])?;
/// # }
/// # Ok(()) }
/// ```
pub struct ProtectedResource {
    resource: Resource,
    /// Each with its own metadata, which outlives that of the resource.
    allowed: Vec<EndpointUrl>,
    transport: DynTransport,
    timeout: Duration,
    build: Box<Build>,
    protection: CachedDocument<Protection>,
    hints: Mutex<Hints>,
    inner: Mutex<Option<Inner>>,
}

type Build = dyn Fn(Protection) -> Result<DynSource, Error> + Send + Sync;
type DynSource = Arc<dyn DynTokenSource>;

/// How a [`ProtectedResource`] is protected: by whom its tokens are issued, for what, and with which
/// scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    endpoint: EndpointUrl,
    resource: String,
    scope: String,
}

/// What the resource has said of where its metadata is.
#[derive(Default)]
struct Hints {
    /// By which it was looked for last.
    used: Hint,
    /// By which it is looked for next.
    next: Option<Hint>,
}

/// The source that was made, and what for.
#[derive(Clone)]
struct Inner {
    protection: Arc<Protection>,
    source: DynSource,
}

impl ProtectedResource {
    /// A source for the API at this address, which asks it with a [`reqwest`] client of its own.
    /// `build` makes the source of the tokens themselves, each time that something has changed.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address or an issuer can't be used or is cleartext, if
    /// there is no issuer, or if no HTTP client can be made.
    #[cfg(feature = "reqwest")]
    pub fn new<I, F, T>(resource: impl AsRef<str>, allowed: I, build: F) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
        F: Fn(Protection) -> Result<T, Error> + Send + Sync + 'static,
        T: TokenSource,
    {
        Self::build(resource.as_ref(), allowed, build, DynTransport::reqwest()?)
    }

    /// As `new`, over an HTTP client of your own.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address or an issuer can't be used or is cleartext, or
    /// if there is no issuer.
    pub fn with_transport<I, F, T>(
        resource: impl AsRef<str>,
        allowed: I,
        build: F,
        transport: impl Transport,
    ) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
        F: Fn(Protection) -> Result<T, Error> + Send + Sync + 'static,
        T: TokenSource,
    {
        let transport = DynTransport::new(transport);
        Self::build(resource.as_ref(), allowed, build, transport)
    }

    fn build<I, F, T>(
        resource: &str,
        allowed: I,
        build: F,
        transport: DynTransport,
    ) -> Result<Self, Error>
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
            resource: Resource::new(resource)?,
            allowed,
            transport,
            timeout: TIMEOUT,
            build: Box::new(move |protection| Ok(Arc::new(build(protection)?))),
            protection: CachedDocument::default(),
            hints: Mutex::default(),
            inner: Mutex::default(),
        })
    }

    /// Bounds the search for the metadata; default 10 s. The source that is made has a timeout of its own.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Takes note of what a refusal says: where it names other metadata or other scopes than were
    /// gone by, they are gone by from the next fetch on. Says whether it does.
    pub(crate) fn note(&self, challenges: &[Challenge]) -> bool {
        let hint = Hint::of(challenges);
        let mut hints = lock(&self.hints);
        let is_elsewhere = hint.metadata != hints.used.metadata;
        let is_for_more = hint.scope.is_some() && hint.scope != hints.used.scope;
        // A challenge that names no metadata says nothing new of it.
        if hint.metadata.is_none() || !(is_elsewhere || is_for_more) {
            return false;
        }
        hints.next = Some(hint);
        true
    }

    async fn look(&self) -> Result<(Protection, Duration), Error> {
        let told = lock(&self.hints).next.take();
        let hint = match told {
            Some(hint) => hint,
            None => self.resource.ask(&self.transport).await?,
        };
        // Whatever comes of it: the same hint another time is nothing new.
        lock(&self.hints).used = hint.clone();
        let (metadata, lifetime) = self.resource.metadata(&hint, &self.transport).await?;
        let protection = Protection {
            endpoint: metadata.choose(&self.allowed, issuer)?.clone(),
            resource: metadata.resource,
            scope: metadata.scope,
        };
        Ok((protection, lifetime))
    }

    /// The source for this, made anew if it was made for something else. No lock is held meanwhile.
    fn source(&self, protection: Arc<Protection>) -> Result<DynSource, Error> {
        let made = lock(&self.inner).clone();
        if let Some(made) = made.filter(|made| made.protection == protection) {
            return Ok(made.source);
        }
        let source = (self.build)(Protection::clone(&protection))?;
        let inner = Inner {
            protection,
            source: Arc::clone(&source),
        };
        let old = lock(&self.inner).replace(inner);
        drop(old);
        Ok(source)
    }
}

impl TokenSource for ProtectedResource {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        if lock(&self.hints).next.is_some() {
            self.protection.invalidate();
        }
        let look = self.protection.get(self.look(), self.timeout / 2);
        let protection = within(self.timeout, "the protected resource's metadata", look).await?;
        let source = self.source(protection)?;
        let fetched = source.fetch(reason).await;
        if fetched.as_ref().is_err_and(Error::is_permanent) {
            self.protection.invalidate();
        }
        fetched
    }

    fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        self.note(challenges);
        // More scope is asked for only if the source in it has been told that it may.
        let inner = lock(&self.inner).clone();
        inner.is_some_and(|inner| inner.source.challenged(token, challenges))
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let made = lock(&self.inner).clone();
        match made {
            Some(made) => made.source.close(last).await,
            None => Ok(()),
        }
    }
}

impl Protection {
    /// The authorization server, for the constructor of a source: its token endpoint and all others
    /// are those of its metadata.
    pub fn endpoint(&self) -> EndpointUrl {
        self.endpoint.clone()
    }

    /// The authorization server's name (RFC 8414 §2), which is on the list of those allowed.
    pub fn issuer(&self) -> &str {
        issuer(&self.endpoint)
    }

    /// What the token is to be for, as the API calls itself: the `resource` parameter of RFC 8707.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The scopes that are wanted, separated by spaces: those of the API's challenge (RFC 6750 §3),
    /// else all that its metadata has (`scopes_supported`, RFC 9728 §2); empty if neither says.
    pub fn scope(&self) -> &str {
        &self.scope
    }
}

fn issuer(url: &EndpointUrl) -> &str {
    url.issuer().unwrap_or_default()
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

/// Inside, because it is the layer that takes note.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::header::WWW_AUTHENTICATE;
    use http::{HeaderMap, Request, Response};
    use http_body_util::Full;

    use super::*;

    const API: &str = "https://api.example.com";

    fn challenges(text: &str) -> Vec<Challenge> {
        let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, text.parse().unwrap())]);
        Challenge::parse(&headers)
    }

    /// An API whose refusal has its metadata at `/one`, with the scope `a`; wherever it is, it is the
    /// same. The token tells the scope that it was asked for with.
    fn source() -> (ProtectedResource, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let write = Arc::clone(&asked);
        let api = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let path = request.uri().path().to_owned();
            let mut response = Response::new(Full::<Bytes>::from(format!(
                r#"{{"resource":"{API}","authorization_servers":["https://id.example.com"]}}"#
            )));
            if path == "/" {
                let challenge = format!(r#"Bearer resource_metadata="{API}/one", scope="a""#);
                let headers = response.headers_mut();
                headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            }
            lock(&write).push(path);
            async { Ok::<_, Infallible>(response) }
        });
        let build = |protection: Protection| {
            Ok(move |_| {
                let token = Token::bearer(protection.scope.clone());
                async { token }
            })
        };
        let allowed = ["https://id.example.com"];
        let source = ProtectedResource::with_transport(API, allowed, build, api).unwrap();
        (source, asked)
    }

    async fn scope_of_the_next(source: &ProtectedResource) -> String {
        let token = TokenSource::fetch(source, Reason::Refused).await.unwrap();
        token.secret().to_owned()
    }

    #[tokio::test]
    async fn a_refusal_that_names_other_metadata_or_scopes_is_gone_by() {
        let (source, asked) = source();
        assert_eq!(scope_of_the_next(&source).await, "a");
        assert_eq!(*lock(&asked), ["/", "/one"]);
        for (challenge, path, scope) in [
            (
                r#"Bearer resource_metadata="https://api.example.com/two", scope="a""#,
                "/two",
                "a",
            ),
            (
                r#"Bearer resource_metadata="https://api.example.com/two", scope="a b""#,
                "/two",
                "a b",
            ),
        ] {
            lock(&asked).clear();
            assert!(source.note(&challenges(challenge)));
            assert_eq!(scope_of_the_next(&source).await, scope);
            assert_eq!(scope_of_the_next(&source).await, scope);
            assert_eq!(*lock(&asked), [path]);
            // It is no news when it is said again.
            assert!(!source.note(&challenges(challenge)));
        }
    }

    #[tokio::test]
    async fn a_refusal_that_says_nothing_new_is_none() {
        let (source, asked) = source();
        scope_of_the_next(&source).await;
        for challenge in [
            r#"Bearer resource_metadata="https://api.example.com/one", scope="a""#,
            r#"Bearer error="invalid_token", resource_metadata="https://api.example.com/one""#,
            r#"Bearer error="invalid_token", scope="b""#,
            "Bearer",
        ] {
            assert!(!source.note(&challenges(challenge)), "{challenge}");
        }
        assert!(!source.note(&[]));
        scope_of_the_next(&source).await;
        assert_eq!(*lock(&asked), ["/", "/one"]);
    }

    #[tokio::test]
    async fn a_refusal_that_names_another_origin_changes_nothing() {
        let (source, asked) = source();
        scope_of_the_next(&source).await;
        let elsewhere = challenges(r#"Bearer resource_metadata="https://evil.example.com/x""#);
        source.note(&elsewhere);
        assert_eq!(scope_of_the_next(&source).await, "a");
        assert_eq!(*lock(&asked), ["/", "/one"]);
        // Nor when it is said again and again.
        assert!(!source.note(&elsewhere));
    }
}
