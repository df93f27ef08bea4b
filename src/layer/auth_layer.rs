//! The layer and its builder methods.

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderMap;
use tower_layer::Layer;

use super::allowed_origins::AllowedOrigins;
use super::response_classification::RefusalRules;
use super::service::Auth;
use super::settings::LayerSettings;
use crate::cache::token_cache::TokenCache;
use crate::error::{Error, Kind};
use crate::origin::Origin;
use crate::source::token_source::TokenSource;

/// Authenticates the requests of any HTTP client: attaches the token, keeps it fresh, and sends a
/// refused request once more with a new one.
///
/// All services that a layer makes, and all clones of the layer, share one token.
///
/// Put retries *outside*: then each try gets the current token. A layer that changes the body or the
/// target of a request goes *inside* if it needs to see the credential, else outside.
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
/// let client = ServiceBuilder::new()
///     .layer(AuthLayer::new(|_| async { Token::bearer("secret") }))
///     .service(client);
///
/// let request = Request::get("https://api.example.com/v1").body(String::new())?;
/// assert_eq!(client.oneshot(request).await?.body(), "hello");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is put in front of a service"]
pub struct AuthLayer {
    settings: Arc<LayerSettings>,
}

/// 64 KiB is more than most JSON bodies, and costs little memory with thousands of requests in
/// flight.
const BODY_LIMIT: usize = 64 * 1024;

impl AuthLayer {
    /// Makes a layer with a new cache for `source` and default settings.
    pub fn new(source: impl TokenSource) -> Self {
        Self::from(TokenCache::new(source))
    }

    /// The layer's cache, for other clients than HTTP that need the same token.
    pub fn cache(&self) -> &TokenCache {
        &self.settings.cache
    }

    /// Sets whether a refused request is sent once more with a new token; default `true`.
    ///
    /// With `false`, no request, body or service is cloned. The cache still rejects a refused token,
    /// so the next request gets a new one.
    pub fn retry(self, retry: bool) -> Self {
        self.edit(|settings| settings.retry = retry)
    }

    /// Sets the most bytes of a body that are recorded for a replay; default 64 KiB.
    ///
    /// If the inner service reads more of a body than this before the refusal, the request is not sent
    /// again, and the caller gets the refusal.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.edit(|settings| settings.body_limit = bytes)
    }

    /// Sets whether the credential replaces one that the caller has set; default `false`.
    ///
    /// By default a request with the caller's own credential passes unchanged, and is not retried.
    pub fn replace_existing(self, replace: bool) -> Self {
        self.edit(|settings| settings.replace_existing = replace)
    }

    /// Sends the credential only to these origins (`scheme://host[:port]`). A request to another
    /// origin is an error before any byte is sent. An origin named here may be cleartext `http`.
    ///
    /// A request whose URI is only a path passes: the client below decides where it goes. Clients
    /// that tonic generates send such requests. Give them an origin (`with_origin`) to have it checked.
    ///
    /// Default: any origin over `https` or on loopback, except those to which another origin
    /// redirected a request.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if an item is not an origin, or if there are no items.
    ///
    /// # Example
    ///
    /// ```
    /// # use tower_auth::{AuthLayer, Error, Token};
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") })
    ///     .only_to(["https://api.example.com", "http://sidecar.internal:8080"])?;
    /// # Ok::<(), Error>(())
    /// ```
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
        Ok(self.edit(|settings| settings.allowed_origins = AllowedOrigins::only_to(origins)))
    }

    /// Adds a rule for refusals of the token, besides a 401 and gRPC's `UNAUTHENTICATED`. For servers
    /// that respond to an expired token with a 403 or a 419.
    pub fn refused_if<F>(self, refused: F) -> Self
    where
        F: Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    {
        self.edit(|settings| settings.refusal_rules.also = Some(Arc::new(refused)))
    }

    /// Sets whether a 401 without `WWW-Authenticate` is a refusal of the token; default `true`.
    ///
    /// RFC 9110 §15.5.2 requires that header, but many servers leave it out.
    pub fn retry_without_challenge(self, retry: bool) -> Self {
        self.edit(|settings| settings.refusal_rules.without_challenge = retry)
    }

    /// The layer with the same settings and another cache.
    #[cfg(feature = "tenants")]
    pub(crate) fn with_cache(self, cache: TokenCache) -> Self {
        self.edit(|settings| settings.cache = cache)
    }

    /// Changes a copy of the settings: services made before keep theirs.
    fn edit(mut self, change: impl FnOnce(&mut LayerSettings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }
}

impl From<TokenCache> for AuthLayer {
    fn from(cache: TokenCache) -> Self {
        Self {
            settings: Arc::new(LayerSettings {
                cache,
                retry: true,
                body_limit: BODY_LIMIT,
                replace_existing: false,
                allowed_origins: AllowedOrigins::default(),
                refusal_rules: RefusalRules {
                    also: None,
                    without_challenge: true,
                },
            }),
        }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth::new(inner, Arc::clone(&self.settings))
    }
}
