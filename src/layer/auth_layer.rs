//! The layer: the settings, in front of the client they are for.

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
/// Put retries *outside* (each try is stamped anew), and what changes the request's body or target
/// *inside* or outside as it needs to see the credential.
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

/// How much of a body is held for a replay unless set otherwise: more than most JSON bodies, and
/// no burden with thousands in the air.
const BODY_LIMIT: usize = 64 * 1024;

impl AuthLayer {
    /// A layer over a cache of its own for `source`, with all defaults.
    pub fn new(source: impl TokenSource) -> Self {
        Self::from(TokenCache::new(source))
    }

    /// The cache behind the layer, for what isn't HTTP but needs the same token.
    pub fn cache(&self) -> &TokenCache {
        &self.settings.cache
    }

    /// Whether a refused request is sent once more with a new token; default `true`. Switched off,
    /// no request, body or service is cloned; a refused token is still rejected, so the next
    /// request gets a new one.
    pub fn retry(self, retry: bool) -> Self {
        self.edit(|settings| settings.retry = retry)
    }

    /// The most bytes of a body that are held for a replay; default 64 KiB. A body that was read
    /// further than this before it was refused is not sent again, and the caller gets the refusal.
    pub fn body_limit(self, bytes: usize) -> Self {
        self.edit(|settings| settings.body_limit = bytes)
    }

    /// Whether the credential replaces one that the caller has put on the request; default
    /// `false`: what the caller set wins, and such a request goes through untouched and unretried.
    pub fn replace_existing(self, replace: bool) -> Self {
        self.edit(|settings| settings.replace_existing = replace)
    }

    /// Sends the credential to these origins (`scheme://host[:port]`) alone. A request to any
    /// other is an error before a byte of it leaves. An origin named here may be cleartext
    /// `http`.
    ///
    /// A URI that is only a path passes: the client below decides where it goes, and knows what it
    /// is. Clients that tonic generates send such; give them an origin (`with_origin`) to have it
    /// checked here.
    ///
    /// Default: any origin, over `https` or to loopback, except those that a redirect of another led to.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if one of them is no origin, or there is none.
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
            let message = "`only_to` was given no origin: no request could be sent";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(self.edit(|settings| settings.allowed_origins = AllowedOrigins::only_to(origins)))
    }

    /// Counts a response as a refusal of the token if `refused` says so, besides a 401 and gRPC's
    /// `UNAUTHENTICATED`: for servers that answer an expired token with a 403 or a 419.
    pub fn refused_if<F>(self, refused: F) -> Self
    where
        F: Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    {
        self.edit(|settings| settings.refusal_rules.also = Some(Arc::new(refused)))
    }

    /// Whether a 401 without `WWW-Authenticate` is a refusal of the token; default `true`, though
    /// RFC 9110 §15.5.2 wants a challenge: many servers leave it out.
    pub fn retry_without_challenge(self, retry: bool) -> Self {
        self.edit(|settings| settings.refusal_rules.without_challenge = retry)
    }

    /// The same settings over another cache.
    #[cfg(feature = "tenants")]
    pub(crate) fn over(self, cache: TokenCache) -> Self {
        self.edit(|settings| settings.cache = cache)
    }

    /// Settings are changed on a copy: services made before keep theirs.
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
