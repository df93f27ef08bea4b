//! The layer and its builder methods.

use std::sync::Arc;

use http::header::HeaderMap;
use http::{Extensions, StatusCode, Uri};
use tower_layer::Layer;

use super::allowed_origins::AllowedOrigins;
use super::clone_service::CloneService;
use super::local_credential::SharedCredential;
use super::response_classification::RefusalRules;
use super::response_origin::ResponseOrigin;
use super::service::Auth;
use super::settings::LayerSettings;
use crate::cache::token_cache::TokenCache;
use crate::error::{Error, Kind};
use crate::origin::Origin;
use crate::source::token_source::TokenSource;

/// Authenticates the requests of any HTTP client. The layer attaches the token and keeps the token
/// fresh. The layer sends a refused request once more with a new token.
///
/// All services that a layer makes, and all clones of the layer, share one token.
///
/// Put a retry layer *outside*, so that each try gets the current token. Put a layer that changes a
/// request's body or target *inside* only if that layer needs to see the credential.
///
/// # Example
///
/// ```
/// use http::{Request, Response, header::AUTHORIZATION};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_auth::{AuthLayer, Token};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower::BoxError> {
/// // Any client: hyper, reqwest, tonic, or this.
/// let client = service_fn(|request: Request<String>| async move {
///     assert_eq!(request.headers()[AUTHORIZATION], "Bearer secret");
///     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
/// });
///
/// let layer = AuthLayer::new(|_| async { Token::bearer("secret") })
///     .only_to(["https://api.example.com"])?;
/// let client = ServiceBuilder::new().layer(layer).service(client);
///
/// let request = Request::get("https://api.example.com/v1").body(String::new())?;
/// assert_eq!(client.oneshot(request).await?.body(), "hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "401")]
#[doc(alias = "bearer")]
#[doc(alias = "interceptor")]
#[doc(alias = "middleware")]
#[doc(alias = "oauth2")]
#[must_use = "a layer does nothing until it is put in front of a service"]
pub struct AuthLayer {
    shared: Arc<SharedCredential>,
}

/// The default of [`AuthLayer::body_limit`]. It is enough for most JSON bodies. With thousands of
/// requests in flight, the recordings use little memory.
const BODY_LIMIT: usize = 64 * 1024;

impl AuthLayer {
    /// Makes a layer with a new cache for `source` and default settings.
    pub fn new(source: impl TokenSource) -> Self {
        Self::from(TokenCache::new(source))
    }

    /// Returns the layer's cache. Use the cache to get the same token for another purpose, such as
    /// a WebSocket.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") })
    ///     .only_to(["https://api.example.com"])?;
    /// // At startup:
    /// layer.cache().ready(Duration::from_secs(2)).await?;
    /// // For a WebSocket:
    /// let token = layer.cache().token().await?;
    /// # Ok(()) }
    /// ```
    pub fn cache(&self) -> &TokenCache {
        &self.shared.settings.cache
    }

    /// Sets whether a refused request is sent once more with a new token; default `true`.
    ///
    /// With `false`, the layer clones no request, body or service. The cache still rejects a
    /// refused token: a background fetch starts at once, within the [refusal
    /// budget](crate::docs::how_it_works#the-refusal-budget). Until the fetch completes, requests
    /// are sent with the old token. If refusals prove that the token was revoked, requests wait for
    /// the new token.
    #[doc(alias = "401")]
    #[doc(alias = "replay")]
    pub fn retry(self, retry: bool) -> Self {
        self.edit(|settings| settings.retry = retry)
    }

    /// Sets the maximum number of bytes of a body that the layer records for a replay; default 64
    /// KiB.
    ///
    /// The layer can't replay a request if the inner service reads more than this limit before the
    /// refusal. In this case, the caller gets the refusal.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.edit(|settings| settings.body_limit = bytes)
    }

    /// Sets whether the layer replaces a credential that the caller has set; default `false`.
    ///
    /// By default, a request with the caller's own credential passes unchanged and is not replayed.
    #[doc(alias = "override")]
    pub fn replace_existing(self, replace: bool) -> Self {
        self.edit(|settings| settings.replace_existing = replace)
    }

    /// Sends the credential only to these origins (`scheme://host[:port]`). A request to another
    /// origin fails before any byte is sent. With [`pass_elsewhere`](Self::pass_elsewhere), such a
    /// request is sent without the credential. An origin named here may be cleartext `http`.
    ///
    /// The list replaces all origins that the source or an earlier call has named. Default: the
    /// [source's origins](TokenSource::origins). If there are no named origins, every request with
    /// an absolute URI is an error.
    ///
    /// A request whose URI is only a path gets the credential. For such a request, the client below
    /// the layer chooses the origin. With tonic, the layer checks the origin that `with_origin`
    /// sets, but can't check the address of the channel. Connect the channel to the same `https`
    /// URL. A channel to another port or without TLS would receive the credential too.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if an item isn't an origin, or if the list is empty.
    ///
    /// # Example
    ///
    /// ```
    /// # use tower_auth::{AuthLayer, Error, Token};
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") })
    ///     .only_to(["https://api.example.com", "http://sidecar.internal:8080"])?;
    /// # Ok::<(), Error>(())
    /// ```
    #[doc(alias = "allowlist")]
    #[doc(alias = "host")]
    pub fn only_to<I>(self, origins: I) -> Result<Self, Error>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let origins = origins
            .into_iter()
            .map(|origin| origin.as_ref().parse())
            .collect::<Result<Vec<Origin>, Error>>()?;
        if origins.is_empty() {
            let message =
                "`only_to` was given no origin, so no request could be sent; name at least one";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(self.edit(|settings| settings.allowed_origins.only_to(origins)))
    }

    /// Sends the credential to any `https` or `wss` origin, and to loopback even without TLS.
    /// Loopback is `localhost`, names that end in `.localhost`, `127.0.0.0/8` and `[::1]`. This
    /// setting replaces all origins that the source or an earlier call has named.
    ///
    /// Use this setting only if the program alone decides where requests go. If a redirect or a
    /// link in a response may choose the origin, name the origins with [`only_to`](Self::only_to)
    /// instead.
    pub fn any_https(self) -> Self {
        self.edit(|settings| settings.allowed_origins.allow_any_https())
    }

    /// Lets a request to any other origin pass *without* the credential; default: an error. Use
    /// this setting for an API that redirects to presigned storage or links to other hosts.
    ///
    /// This setting requires named origins or [`any_https`](Self::any_https). If there are no named
    /// origins and no `any_https`, a request with an absolute URI is still an error.
    pub fn pass_elsewhere(self) -> Self {
        self.edit(|settings| settings.allowed_origins.pass_elsewhere = true)
    }

    /// Sets a closure that returns the URI that a response came from. Use this setting for clients
    /// that follow redirects and record the URI in the response's extensions. With this setting,
    /// the layer ignores what another origin's response says about the token, its scope or its
    /// session.
    ///
    /// Two kinds of responses already contain their URI:
    ///
    /// - responses of reqwest
    /// - with the feature `tower-http`, responses of tower-http's `FollowRedirect`
    ///
    /// The closure takes precedence over these URIs:
    ///
    /// - If the closure returns `None`, the response counts as a response of the request's own
    ///   origin.
    /// - If the closure returns only a path, the layer uses the URI that the response contains.
    ///
    /// A response of unknown origin also counts as a response of the request's own origin. A layer
    /// below may send a request to an address other than the request's URI, such as the address of
    /// a sidecar. With such a layer, use `answered_by(|_| None)`.
    ///
    /// If the request's URI was only a path, the layer compares the response's origin with the
    /// named origins. A response of a named origin counts as a response of the request's own
    /// origin. With [`any_https`](Self::any_https), every response counts as a response of the
    /// request's own origin.
    pub fn answered_by<F>(self, answered_by: F) -> Self
    where
        F: Fn(&Extensions) -> Option<Uri> + Send + Sync + 'static,
    {
        self.edit(|settings| settings.response_origin.answered_by = Some(Arc::new(answered_by)))
    }

    /// Adds a rule for refusals of the token, in addition to a 401 and gRPC's `UNAUTHENTICATED`.
    /// Use a rule for servers that respond to an expired token with a 403 or a 419. The rule
    /// replaces the [source's own rule](TokenSource::is_refusal).
    ///
    /// The rule may also match responses that are about the resource, such as a 403 for missing
    /// permissions. [The refusal budget](crate::docs::how_it_works#the-refusal-budget) limits the
    /// fetches after such responses. Other requests keep their token.
    ///
    /// # Example
    ///
    /// An API that responds to an expired token with a 419:
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// use http::{Request, Response, header::AUTHORIZATION};
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let api = service_fn(|request: Request<String>| async move {
    ///     let is_second = request.headers()[AUTHORIZATION] == "Bearer secret-2";
    ///     Response::builder().status(if is_second { 200 } else { 419 }).body(())
    /// });
    /// let fetches = AtomicU32::new(0);
    /// let layer = AuthLayer::new(move |_| {
    ///     let fetch = fetches.fetch_add(1, Ordering::Relaxed) + 1;
    ///     std::future::ready(Token::bearer(format!("secret-{fetch}")))
    /// })
    /// .refused_if(|status, _headers| status.as_u16() == 419)
    /// .only_to(["https://api.example.com"])?;
    /// let client = ServiceBuilder::new().layer(layer).service(api);
    ///
    /// // The API refuses the first token. The layer fetches a second token and sends the request
    /// // again.
    /// let request = Request::get("https://api.example.com/v1").body(String::new())?;
    /// assert_eq!(client.send(request).await?.status(), 200);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "401")]
    #[doc(alias = "403")]
    pub fn refused_if<F>(self, refused: F) -> Self
    where
        F: Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    {
        self.edit(|settings| settings.refusal_rules.also = Some(Arc::new(refused)))
    }

    /// Sets whether a 401 without `WWW-Authenticate` is a refusal of the token; default `true`.
    ///
    /// RFC 9110 §15.5.2 requires this header in a 401, but many servers omit the header.
    pub fn retry_without_challenge(self, retry: bool) -> Self {
        self.edit(|settings| settings.refusal_rules.without_challenge = retry)
    }

    /// Returns whether the source or the user has named origins.
    #[cfg(feature = "tenants")]
    pub(crate) fn names_origins(&self) -> bool {
        self.shared.settings.allowed_origins.are_named()
    }

    /// Returns the settings that all of the layer's services share.
    #[cfg(feature = "tenants")]
    pub(crate) fn settings(&self) -> &Arc<LayerSettings> {
        &self.shared.settings
    }

    /// Returns a layer with the same settings and another cache.
    #[cfg(feature = "tenants")]
    pub(crate) fn with_cache(self, cache: TokenCache) -> Self {
        self.edit(|settings| {
            // The source of the new cache may name other origins than the source of the old cache.
            settings.allowed_origins.set_by_source(|| cache.origins());
            settings.cache = cache;
        })
    }

    /// Changes a copy of the settings. Existing services keep the old settings.
    fn edit(self, change: impl FnOnce(&mut LayerSettings)) -> Self {
        let mut settings = LayerSettings::clone(&self.shared.settings);
        change(&mut settings);
        Self {
            shared: SharedCredential::new(settings),
        }
    }
}

impl From<TokenCache> for AuthLayer {
    fn from(cache: TokenCache) -> Self {
        let mut allowed_origins = AllowedOrigins::default();
        allowed_origins.set_by_source(|| cache.origins());
        Self {
            shared: SharedCredential::new(LayerSettings {
                allowed_origins,
                cache,
                retry: true,
                body_limit: BODY_LIMIT,
                replace_existing: false,
                response_origin: ResponseOrigin::default(),
                refusal_rules: RefusalRules {
                    also: None,
                    without_challenge: true,
                },
            }),
        }
    }
}

impl<S> Layer<S> for AuthLayer
where
    S: CloneService,
{
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth::new(inner, Arc::clone(&self.shared))
    }
}
