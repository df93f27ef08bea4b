//! A listener on loopback that receives the browser's redirect from the authorization server (RFC
//! 8252 §7.3).

use std::convert::Infallible;
use std::future::{self, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::authorization_request::AuthorizationRequest;
use super::authorization_response::{AuthorizationResponse, RedirectParams};
use crate::error::{Error, Kind};

/// The default time to wait for the user. Users need 1 to 2 min for a password, a second factor and
/// a consent. Login pages expire after 5 or 10 min.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The maximum number of open connections. Browsers open some connections in advance, and other
/// programs may open more. At the limit, a new connection waits until another connection ends. The
/// wait is at most [`CONNECTION_TIMEOUT`].
const MAX_CONNECTIONS: usize = 64;

/// The timeout of a whole connection. A request from the same machine takes milliseconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after the listener fails to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The limit of a request's head in bytes. A code can be a JWT of 1 to 2 KiB, and the browser's
/// headers can have the same size.
const HEAD_LIMIT: usize = 16 * 1024;

/// Waits on loopback for the browser's redirect with the response to an
/// [`AuthorizationRequest`](crate::oauth2::AuthorizationRequest).
///
/// | setting | default |
/// | --- | --- |
/// | port | the system chooses; [`bind_port`](Self::bind_port) |
/// | [`path`](Self::path) | `/callback` |
/// | [`timeout`](Self::timeout) | 5 min |
///
/// Only a request with the right `state` ends the wait. Any other request, such as a browser's
/// request for an icon, gets an error page. The `Host` must be the listener's address, so that
/// another site can't reach the listener through the site's own name. The page shows no text from
/// the request. The page's headers keep the code out of caches and referrers.
///
/// # Example
///
/// ```no_run
/// use tower_auth::oauth2::{AuthorizationCode, RedirectListener, RefreshToken};
///
/// # async fn example(login: AuthorizationCode) -> Result<RefreshToken, tower_auth::Error> {
/// let listener = RedirectListener::bind().await?;
/// let request = login.begin(listener.redirect_uri()).await?;
/// println!("Log in at {}", request.url());
/// let response = listener.accept(&request).await?;
/// login.finish(request, response).await
/// # }
/// ```
#[derive(Debug)]
pub struct RedirectListener {
    listener: TcpListener,
    /// The `Host` that a request must have.
    authority: String,
    path: String,
    timeout: Duration,
}

impl RedirectListener {
    /// Listens on `127.0.0.1`, on a port that the system chooses. Servers must allow any port in a
    /// redirect URI on loopback (RFC 8252 §7.3).
    ///
    /// # Errors
    ///
    /// - [`is_runtime`](Error::is_runtime) outside of a Tokio runtime.
    /// - [`is_transport`](Error::is_transport) if no port is free.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn bind() -> Result<Self, Error> {
        Self::bind_port(0).await
    }

    /// Listens on a given port. Use this constructor for servers that allow only the registered
    /// port.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`bind`](Self::bind).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::RedirectListener;
    ///
    /// # async fn example() -> Result<(), tower_auth::Error> {
    /// let listener = RedirectListener::bind_port(8400).await?;
    /// assert_eq!(listener.redirect_uri(), "http://127.0.0.1:8400/callback");
    /// # Ok(()) }
    /// ```
    pub async fn bind_port(port: u16) -> Result<Self, Error> {
        // Without a runtime, Tokio's sockets would panic.
        if Handle::try_current().is_err() {
            let message = "the redirect listener needs a Tokio runtime; call it within one";
            return Err(Error::new(Kind::Runtime, message));
        }
        let unbound = |error: io::Error| {
            let message = format!("could not listen on 127.0.0.1:{port}");
            Error::new(Kind::Transport, message).with_source(error)
        };
        // Listens on an address, because `localhost` may be another interface (RFC 8252 §8.3).
        let address = (Ipv4Addr::LOCALHOST, port);
        let listener = TcpListener::bind(address).await.map_err(unbound)?;
        let authority = match listener.local_addr().map_err(unbound)? {
            // A browser omits the default port of `http`.
            address if address.port() == 80 => address.ip().to_string(),
            address => address.to_string(),
        };
        Ok(Self {
            listener,
            authority,
            path: String::from("/callback"),
            timeout: TIMEOUT,
        })
    }

    /// Sets the path of the redirect URI. Default: `/callback`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the path doesn't start with `/`, or contains characters
    /// that must be encoded.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::RedirectListener;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let listener = RedirectListener::bind().await?.path("/signed-in")?;
    /// assert!(listener.redirect_uri().ends_with("/signed-in"));
    /// # Ok(()) }
    /// ```
    pub fn path(mut self, path: impl Into<String>) -> Result<Self, Error> {
        let path = path.into();
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        if !path.starts_with('/') || !path.bytes().all(is_plain) {
            let message = "the path of the redirect URI must start with `/`, and contain only \
                           letters, digits and `/-._~`";
            return Err(Error::new(Kind::Config, message));
        }
        self.path = path;
        Ok(self)
    }

    /// Sets how long the listener waits for the user. Default: 5 min.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the redirect URI for [`begin`](crate::oauth2::AuthorizationCode::begin):
    /// `http://127.0.0.1:PORT/callback`.
    pub fn redirect_uri(&self) -> String {
        format!("http://{}{}", self.authority, self.path)
    }

    /// Waits for the response to `request`, and shows the user a page. The listener is closed when
    /// this method returns.
    ///
    /// # Errors
    ///
    /// - The errors of [`AuthorizationRequest::read`]. A response with another `state` is not an
    ///   error, and the wait continues.
    /// - [`is_timeout`](Error::is_timeout) if no response arrives in time.
    /// - [`is_config`](Error::is_config) if the request has another redirect URI.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener, so the browser can no longer reach the listener.
    pub async fn accept(
        self,
        request: &AuthorizationRequest,
    ) -> Result<AuthorizationResponse, Error> {
        if request.redirect_uri() != self.redirect_uri() {
            let message = "the authorization request has another redirect URI than the listener; \
                           begin the login with `listener.redirect_uri()`";
            return Err(Error::new(Kind::Config, message));
        }
        let timed_out = |_| {
            let message = format!(
                "the browser sent no response within {:?}; begin the login again",
                self.timeout
            );
            Err(Error::new(Kind::Timeout, message))
        };
        let response = timeout(self.timeout, self.wait(request)).await;
        response.unwrap_or_else(timed_out)
    }

    /// Serves several connections at once, until a request contains the response.
    async fn wait(&self, request: &AuthorizationRequest) -> Result<AuthorizationResponse, Error> {
        let mut connections = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(served)) = connections.poll_next_unpin(cx) {
                    if let Some(response) = served {
                        return Poll::Ready(response);
                    }
                }
                if connections.len() == MAX_CONNECTIONS {
                    return Poll::Pending;
                }
                let accepted = ready!(self.listener.poll_accept(cx));
                connections.push(self.serve(accepted, request));
            }
        })
        .await
    }

    /// Serves one request. Returns the response if the request contains it. Sends the page before
    /// it returns, because the process may end soon after the return.
    async fn serve(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        request: &AuthorizationRequest,
    ) -> Option<Result<AuthorizationResponse, Error>> {
        let Ok((connection, _)) = accepted else {
            // Accepting fails if the browser closed the connection, or if the process has too many
            // open files. In the second case, the pause avoids a busy loop.
            sleep(ACCEPT_PAUSE).await;
            return None;
        };
        let response = Mutex::new(None);
        let page = service_fn(|browser: Request<hyper::body::Incoming>| {
            let (page, outcome) = self.answer(&browser, request);
            if outcome.is_some() {
                *response.lock().unwrap_or_else(PoisonError::into_inner) = outcome;
            }
            future::ready(Ok::<_, Infallible>(page.into_response()))
        });
        let served = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            // Allows one request for each connection, so that the connection ends after the page.
            .keep_alive(false)
            .serve_connection(TokioIo::new(connection), page);
        // The response is valid even if the browser doesn't read the page.
        let _ = timeout(CONNECTION_TIMEOUT, served).await;
        response
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<B>(
        &self,
        browser: &Request<B>,
        request: &AuthorizationRequest,
    ) -> (Page, Option<Result<AuthorizationResponse, Error>>) {
        if !self.has_own_host(browser) {
            return (Page::Misdirected, None);
        }
        if browser.uri().path() != self.path {
            return (Page::NotFound, None);
        }
        if browser.method() != Method::GET {
            return (Page::MethodNotAllowed, None);
        }
        let params = RedirectParams::of_query(browser.uri().query().unwrap_or_default());
        if !request.has_state_of(&params) {
            return (Page::WrongState, None);
        }
        match request.verify(params) {
            Ok(response) => (Page::LoggedIn, Some(Ok(response))),
            Err(error) => (Page::Failed, Some(Err(error))),
        }
    }

    /// Returns whether the browser used the listener's address. A request for another name may come
    /// from a site that points its own name at this machine (DNS rebinding).
    fn has_own_host<B>(&self, browser: &Request<B>) -> bool {
        let mut hosts = browser.headers().get_all(header::HOST).iter();
        let is_own = |host: &HeaderValue| host.as_bytes() == self.authority.as_bytes();
        let (host, other) = (hosts.next(), hosts.next());
        let target = browser.uri().authority();
        host.is_some_and(is_own)
            && other.is_none()
            && target.is_none_or(|target| target.as_str() == self.authority)
    }
}

/// The page that the browser gets. The page contains no text from the request.
#[derive(Clone, Copy)]
enum Page {
    LoggedIn,
    /// The server sent an error response.
    Failed,
    /// `state` doesn't match the request.
    WrongState,
    NotFound,
    MethodNotAllowed,
    /// The request is for another host.
    Misdirected,
}

impl Page {
    fn status(self) -> StatusCode {
        match self {
            Self::LoggedIn | Self::Failed => StatusCode::OK,
            Self::WrongState => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::LoggedIn => "Return to the application to continue. You can close this window.",
            Self::Failed => {
                "You are not logged in. The application shows why. You can close this window."
            }
            Self::WrongState => "This is not the login that the application is waiting for.",
            Self::NotFound | Self::MethodNotAllowed | Self::Misdirected => "There is nothing here.",
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Login</title>\
             </head><body><p>{}</p></body></html>\n",
            self.text()
        );
        let mut response = Response::new(Full::from(page));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        self.add_headers(headers);
        response
    }

    fn add_headers(self, headers: &mut HeaderMap) {
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            // The page's address contains the code, so the page is neither cached nor named as a
            // referrer.
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if matches!(self, Self::MethodNotAllowed) {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
    }
}
