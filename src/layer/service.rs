//! The service attaches the current token, or returns a future that waits for a token.
//!
//! The service handles a request in one of three ways:
//!
//! - Most requests are usual: they need the header of the current token, go to the usual origin and
//!   contain no credential. For these requests, [`attach_as_usual`] is enough.
//! - [`Auth::attach_carefully`] handles other requests that can be sent immediately.
//! - All remaining requests get a boxed state.

use std::sync::Arc;
use std::task::{Context, Poll};

use tower::ServiceExt;
use tower_service::Service;

use super::allowed_origins::Admission;
use super::auth_request::AuthRequest;
use super::auth_response::AuthResponse;
use super::future::{OtherState, ResponseFuture, SentAsUsual, send};
use super::local_credential::{LocalCredential, SentToken, SharedCredential};
use super::request_state::{Recorded, RequestState, Unsent, record, release};
use crate::cache::acquire::Lookup;
use crate::cache::state_machine::request::Caller;
use crate::error::{BoxError, Error};

/// Attaches a credential to every request; the service of an [`AuthLayer`](crate::AuthLayer).
///
/// Clones share the token. On their first request, clones share a few copies of the header value.
/// From its second request on, each clone keeps a private copy.
///
/// # Errors
///
/// - An error of the inner service. If the credential is in the query, the layer removes the
///   credential from the URL in an error of reqwest. If any other error shows the credential, the
///   layer returns only the error's text, without the credential.
/// - An [`Error`](crate::Error) if the request was not sent: there was no token, or the request's
///   origin may not receive the credential.
///
/// Both errors are boxed, as usual for Tower layers. [`CallError`](crate::layer::CallError)
/// distinguishes them. A refusal is not an error: it is the server's response, with a
/// [`NotReplayed`](crate::NotReplayed) in its extensions.
///
/// With the feature `tonic`, the error of a gRPC call that was not sent has a `tonic::Status` as
/// its [`source`](std::error::Error::source). A generated client then returns `Unauthenticated` if
/// the error [is permanent](Error::is_permanent), otherwise `Unavailable`. [`Error::find`] finds
/// the error in the client's status.
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_auth::{AuthLayer, Error, Token};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let client = service_fn(|_: Request<String>| async {
///     Ok::<_, std::io::Error>(Response::new(String::from("hello")))
/// });
/// let fail = |_| async { Err::<Token, _>(Error::other("the vault is sealed")) };
/// let down = AuthLayer::new(fail)
///     .only_to(["https://api.example.com"])?;
///
/// let request = Request::get("https://api.example.com/v1").body(String::new())?;
/// let error = down.layer(client).oneshot(request).await.unwrap_err();
/// match error.downcast_ref::<Error>() {
///     Some(error) => assert!(error.is_source(), "no token: {error}"),
///     None => unreachable!("the client's own: {error}"),
/// }
/// # Ok(()) }
/// ```
///
/// # When it doesn't compile
///
/// If you call `oneshot`, the compiler sometimes says only "the method `oneshot` exists, but its
/// trait bounds were not satisfied". Call [`send`](Self::send) instead. Its error says what is
/// missing.
///
/// | the compiler says | do this |
/// | --- | --- |
/// | the layer needs a client that is `Clone` | derive `Clone` for the client, or wrap it in tower's `Buffer` |
/// | the layer can't send the body `…` again | add the feature of the body's crate: `reqwest` (0.13), `hyper` (1), `axum` (0.8) or `tonic` (0.14). Box any other body with [`BodyExt::boxed`](http_body_util::BodyExt::boxed), or implement [`Replay`](crate::layer::Replay) |
/// | the layer can't authenticate requests of type `…` | use `http::Request` of http 1, or `reqwest::Request` of reqwest 0.13 with the feature `reqwest`. `cargo tree --duplicates` lists crates that occur in two versions |
/// | the layer can't read responses of type `…` | use `http::Response` of http 1, or `reqwest::Response` of reqwest 0.13 with the feature `reqwest`. In `ServiceBuilder`, put a layer that changes the response before `AuthLayer` |
/// | this closure only implements `FnOnce` | clone the value in the closure, before the future: <code>move \|_\| { let key = key.clone(); async move { … } }</code> |
/// | expected `Request`, found `…` | call `build()?` on a `RequestBuilder`. For a `Request` of reqwest 0.12, update to 0.13, because the types differ |
/// | `std::error::Error` is not implemented for `…` | implement `std::error::Error` for the error of the client |
/// | `Result<AuthLayer, …>: Layer<…>` | write `?` after `only_to([…])` |
/// | `…` is not a source of tokens | pass a closure: `\|_\| async { Token::bearer("…") }`. For an API key, pass an [`ApiKey`](crate::ApiKey) |
/// | a source's closure has to return a future of `Result<Token, tower_auth::Error>` | return `async move { … }`. Convert the error of another crate with [`.map_err(Error::other)`](crate::Error::other) |
/// | `?` couldn't convert the error | write [`.map_err(Error::other)?`](crate::Error::other) instead of `?`, also for an `anyhow::Error` |
/// | `…` cannot be sent between threads safely | use `Arc` instead of `Rc`, and drop a guard before the next `.await`: sources run on any thread |
/// | `…` is not a credential that is made for each request | implement [`PerRequestCredential`](crate::token::PerRequestCredential) |
/// | `…` can't find the tenant of a `…` | pass a closure to `Tenants::by`. `by_extension` can't read the extensions of a `reqwest::Request` |
///
/// If the compiler can't find a name in `tower_auth`, a feature may be missing: see [the list of
/// features](crate#features).
#[derive(Debug)]
#[doc(alias = "interceptor")]
#[doc(alias = "middleware")]
pub struct Auth<S> {
    inner: S,
    shared: Arc<SharedCredential>,
    local_credential: LocalCredential,
}

impl<S> Auth<S> {
    pub(crate) fn new(inner: S, shared: Arc<SharedCredential>) -> Self {
        Self {
            inner,
            shared,
            local_credential: LocalCredential::default(),
        }
    }

    /// Sends a request through a clone of this service, as soon as the clone is ready.
    ///
    /// Does the same as tower's `ServiceExt::oneshot` on a clone. Unlike with `oneshot`, the
    /// compiler's errors name what is missing: see [When it doesn't
    /// compile](#when-it-doesnt-compile).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Auth`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request. A running fetch continues for the other callers.
    ///
    /// # Example
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// let client = service_fn(|_: Request<String>| async {
    ///     Ok::<_, std::io::Error>(Response::new(String::from("hello")))
    /// });
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") })
    ///     .only_to(["https://api.example.com"])?;
    /// let client = ServiceBuilder::new().layer(layer).service(client);
    ///
    /// let request = Request::get("https://api.example.com/v1").body(String::new())?;
    /// assert_eq!(client.send(request).await?.body(), "hello");
    /// # Ok(()) }
    /// ```
    // The bounds are on the method. With bounds on the impl, the compiler would only say that the
    // method exists.
    pub fn send<Req>(
        &self,
        request: Req,
    ) -> impl Future<Output = Result<S::Response, BoxError>> + use<S, Req>
    where
        S: Service<Req> + Clone,
        S::Response: AuthResponse,
        S::Error: Into<BoxError>,
        Req: AuthRequest,
    {
        self.clone().oneshot(request)
    }

    /// Returns the service below.
    ///
    /// # Example
    ///
    /// A request without the credential, through the same client:
    ///
    /// ```
    /// # #[cfg(feature = "reqwest")] {
    /// use tower::Layer;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") }).any_https();
    /// let client = layer.layer(reqwest::Client::new());
    /// let health = client.get_ref().get("https://api.example.com/health");
    /// # }
    /// ```
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the service below, mutably.
    ///
    /// # Example
    ///
    /// ```
    /// use tower::Layer;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// /// A client with a setting that can change.
    /// #[derive(Clone)]
    /// struct Client {
    ///     retries: u32,
    /// }
    ///
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") }).any_https();
    /// let mut client = layer.layer(Client { retries: 3 });
    /// client.get_mut().retries = 0;
    /// assert_eq!(client.get_ref().retries, 0);
    /// ```
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the service below, and drops the wrapper.
    ///
    /// # Example
    ///
    /// ```
    /// # #[cfg(feature = "reqwest")] {
    /// use tower::Layer;
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") }).any_https();
    /// let client = layer.layer(reqwest::Client::new());
    /// let http: reqwest::Client = client.into_inner();
    /// # }
    /// ```
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S> Clone for Auth<S>
where
    S: Clone,
{
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared))
    }
}

impl<S, Req> Service<Req> for Auth<S>
where
    S: Service<Req> + Clone,
    S::Response: AuthResponse,
    S::Error: Into<BoxError>,
    Req: AuthRequest,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S, Req>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let careful = match self.local_credential.servable(&self.shared) {
            Some(sent_token) => match attach_as_usual(sent_token, &mut request, &self.inner) {
                Ok(sent) => return ResponseFuture::sending(self.inner.call(request), sent),
                Err(sent_token) => self.attach_carefully(&mut request, Some(sent_token)),
            },
            None => self.attach_carefully(&mut request, None),
        };
        match careful {
            Careful::Sent(sent) => ResponseFuture::sending(self.inner.call(request), sent),
            Careful::Unchanged => ResponseFuture::passing(self.inner.call(request)),
            Careful::NeedsState(why) => ResponseFuture::other(self.call_with_state(request, why)),
        }
    }
}

/// The result of handling an unusual request.
enum Careful<S, Req>
where
    Req: AuthRequest,
{
    /// The request has the credential.
    Sent(SentAsUsual<S, Req>),
    /// The request passes unchanged.
    Unchanged,
    NeedsState(NeedsState),
}

/// The reason why a request needs a boxed state.
enum NeedsState {
    /// The request must not be sent.
    Fails(Error),
    /// The request must ask the cache for a token.
    LooksUp,
    /// The credential is made for this request.
    Applies(Arc<SentToken>),
}

/// Attaches the credential if the request is usual, or returns the token. A usual request needs the
/// header of the current token, goes to the usual origin and contains no credential.
#[inline(always)]
pub(crate) fn attach_as_usual<S, Req>(
    sent_token: Arc<SentToken>,
    request: &mut Req,
    inner: &S,
) -> Result<SentAsUsual<S, Req>, Arc<SentToken>>
where
    S: Clone,
    Req: AuthRequest,
{
    let settings = &*sent_token.settings;
    let Some((name, value)) = &sent_token.header else {
        return Err(sent_token);
    };
    let Some(sent_to) = settings.allowed_origins.admit_usual(request) else {
        return Err(sent_token);
    };
    // If a field has several values, insertion returns only the first value. So this function could
    // not restore the caller's values.
    let has_several = request.headers().len() != request.headers().keys_len();
    if has_several {
        return Err(sent_token);
    }
    let mut replay = None;
    if settings.retry {
        // Requests with the caller's own credential are not recorded.
        if request.headers().contains_key(name) {
            return Err(sent_token);
        }
        replay = record(request, inner, settings);
    }
    // One lookup in the header map inserts the value and returns the caller's value, if any.
    let headers = request.headers_mut();
    match headers.try_insert(name, value.clone()) {
        Ok(None) => Ok(SentAsUsual {
            sent_token,
            sent_to,
            replay,
        }),
        Ok(Some(callers)) => {
            // Restores the caller's value, in the same position.
            drop(headers.try_insert(name, callers));
            Err(sent_token)
        }
        Err(_) => Err(sent_token),
    }
}

impl<S> Auth<S>
where
    S: Clone,
{
    /// Attaches the credential, with the checks that [`attach_as_usual`] omits.
    #[cold]
    #[inline(never)]
    fn attach_carefully<Req>(
        &mut self,
        request: &mut Req,
        sent_token: Option<Arc<SentToken>>,
    ) -> Careful<S, Req>
    where
        Req: AuthRequest,
    {
        let settings = &*self.shared.settings;
        // Checks the origin before the request waits for a token or starts a fetch.
        let place = match &sent_token {
            Some(sent_token) => sent_token.token().place(),
            None => settings.cache.place(),
        };
        let sent_to = match settings.admit(request, place) {
            Ok(Admission::Credential(sent_to)) => sent_to,
            Ok(Admission::Unchanged) => return Careful::Unchanged,
            Err(error) => return Careful::NeedsState(NeedsState::Fails(error)),
        };
        let Some(sent_token) = sent_token else {
            return Careful::NeedsState(NeedsState::LooksUp);
        };
        if sent_token.is_per_request() {
            return Careful::NeedsState(NeedsState::Applies(sent_token));
        }
        let replay = record(request, &self.inner, settings);
        match sent_token.attach(request) {
            Ok(_) => Careful::Sent(SentAsUsual {
                sent_token,
                sent_to,
                replay,
            }),
            Err(error) => Careful::NeedsState(NeedsState::Fails(error)),
        }
    }

    /// Returns the state of a request that is not sent in the usual way.
    #[cold]
    #[inline(never)]
    fn call_with_state<Req>(&mut self, request: Req, why: NeedsState) -> OtherState<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        match why {
            NeedsState::Fails(error) => self.fail(error, &request),
            NeedsState::LooksUp => self.look_up(request),
            NeedsState::Applies(sent_token) => {
                Box::pin(send(sent_token, request, Recorded::NotYet, &mut self.inner))
            }
        }
    }

    /// Asks the cache for a token, because no token is fresh or there are refusals.
    fn look_up<Req>(&mut self, mut request: Req) -> OtherState<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        let settings = Arc::clone(&self.shared.settings);
        let mut recorded = Recorded::NotYet;
        let mut caller = Caller::CannotReplay;
        if settings.cache.is_watching() {
            let replay = record(&mut request, &self.inner, &settings);
            if replay.is_some() {
                caller = Caller::CanReplay;
            }
            recorded = Recorded::Already(replay);
        }
        match settings.cache.lookup(caller) {
            Lookup::Never(error) => self.fail(error, &request),
            Lookup::Later(acquire) => {
                release(&mut self.inner);
                let unsent = Some(Unsent {
                    inner: self.inner.clone(),
                    request,
                    settings,
                    recorded,
                });
                Box::pin(RequestState::Acquiring { acquire, unsent })
            }
            Lookup::Now(cached) => {
                let sent_token = SentToken::shared(&settings, cached);
                Box::pin(send(sent_token, request, recorded, &mut self.inner))
            }
        }
    }

    /// Fails the request, and releases the ready service without calling it.
    fn fail<Req>(&mut self, error: Error, request: &Req) -> OtherState<S, Req>
    where
        S: Service<Req>,
        Req: AuthRequest,
    {
        release(&mut self.inner);
        Box::pin(RequestState::failed(error, request))
    }
}
