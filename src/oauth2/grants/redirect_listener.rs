//! Catches the browser on its way back from the authorization server, on loopback (RFC 8252 §7.3).

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
use super::authorization_response::{AuthorizationResponse, Redirect};
use crate::error::{Error, Kind};

/// A password, a second factor and a consent take a minute or two, and servers' own login pages are
/// over after five or ten.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Browsers open some in advance, and a stranger on the machine may open more. Whoever comes when all
/// are taken waits until one is given up, which is soon.
const CONNECTIONS: usize = 64;

/// From the first byte to the last, on one machine: whoever takes this long isn't going to ask
/// anything.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// After a connection that couldn't be had.
const PAUSE: Duration = Duration::from_millis(50);

/// A code can be a JWT of a kilobyte or two; the browser adds as much of its own.
const HEAD_LIMIT: usize = 16 * 1024;

/// Waits on loopback for the browser to come back with the answer to an
/// [`AuthorizationRequest`](crate::oauth2::AuthorizationRequest).
///
/// | setting | default |
/// | --- | --- |
/// | port | one of the system's choice; [`bind_port`](Self::bind_port) |
/// | [`path`](Self::path) | `/callback` |
/// | [`timeout`](Self::timeout) | 5 min |
///
/// Only an answer with the right `state` ends it: whatever else is asked for, by a browser that wants
/// an icon or by a stranger on the machine, is told no, and it waits on. The `Host` must be the
/// address that it listens at, so that no page of another's gets in by a name of its own. What the
/// browser sent isn't shown in the page it gets, and the code stays out of caches and referrers.
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
    /// What `Host` has to be.
    authority: String,
    path: String,
    timeout: Duration,
}

impl RedirectListener {
    /// Listens at `127.0.0.1`, on a port of the system's choice. A server must allow any port where
    /// the redirect URI is on loopback (RFC 8252 §7.3).
    ///
    /// # Errors
    ///
    /// [`is_runtime`](Error::is_runtime) outside of a Tokio runtime,
    /// [`is_transport`](Error::is_transport) if no port can be had.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn bind() -> Result<Self, Error> {
        Self::bind_port(0).await
    }

    /// Listens on a certain port, for servers that allow none but the one that was registered.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn bind_port(port: u16) -> Result<Self, Error> {
        // Tokio's sockets would panic.
        if Handle::try_current().is_err() {
            let message = "a browser can only be waited for within a Tokio runtime";
            return Err(Error::new(Kind::Runtime, message));
        }
        let unbound = |error: io::Error| {
            let message = format!("nothing can listen at port {port} of 127.0.0.1");
            Error::new(Kind::Transport, message).with_source(error)
        };
        // Not by the name `localhost`, which may be another interface's (RFC 8252 §8.3).
        let address = (Ipv4Addr::LOCALHOST, port);
        let listener = TcpListener::bind(address).await.map_err(unbound)?;
        let authority = match listener.local_addr().map_err(unbound)? {
            // A browser leaves out the port that `http` has anyway.
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

    /// The path that the browser comes back to, if the server wants another; default `/callback`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it doesn't start with `/`, or has characters that would
    /// have to be encoded.
    pub fn path(mut self, path: impl Into<String>) -> Result<Self, Error> {
        let path = path.into();
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        if !path.starts_with('/') || !path.bytes().all(is_plain) {
            let message = "the path of the redirect URI must start with `/`, and be of letters, \
                           digits and `/-._~`";
            return Err(Error::new(Kind::Config, message));
        }
        self.path = path;
        Ok(self)
    }

    /// How long the person may take; default 5 min.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What to [begin](crate::oauth2::AuthorizationCode::begin) the login with:
    /// `http://127.0.0.1:PORT/callback`.
    pub fn redirect_uri(&self) -> String {
        format!("http://{}{}", self.authority, self.path)
    }

    /// Waits for the answer to `request`, and shows the person a page that sends them back. Nobody
    /// listens any more when this returns.
    ///
    /// # Errors
    ///
    /// Those of [`AuthorizationRequest::read`], but that an answer with another `state` isn't one:
    /// it is waited on. [`is_timeout`](Error::is_timeout) if nobody came,
    /// [`is_config`](Error::is_config) if the request was begun with another redirect URI, where
    /// nobody ever would.
    ///
    /// # Cancel safety
    ///
    /// Nobody listens any more; the browser finds nothing where it was sent to.
    pub async fn accept(
        self,
        request: &AuthorizationRequest,
    ) -> Result<AuthorizationResponse, Error> {
        if request.redirect_uri() != self.redirect_uri() {
            let message = "the login was begun with another redirect URI than the listener's; \
                           begin it with `listener.redirect_uri()`";
            return Err(Error::new(Kind::Config, message));
        }
        let nobody = |_| {
            let message = format!(
                "the browser didn't come back within {:?}; begin the login anew",
                self.timeout
            );
            Err(Error::new(Kind::Timeout, message))
        };
        let answer = timeout(self.timeout, self.wait(request)).await;
        answer.unwrap_or_else(nobody)
    }

    /// Serves several connections at once, until one has brought the answer.
    async fn wait(&self, request: &AuthorizationRequest) -> Result<AuthorizationResponse, Error> {
        let mut connections = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some(served)) = connections.poll_next_unpin(cx) {
                    if let Some(answer) = served {
                        return Poll::Ready(answer);
                    }
                }
                if connections.len() == CONNECTIONS {
                    return Poll::Pending;
                }
                let accepted = ready!(self.listener.poll_accept(cx));
                connections.push(self.serve(accepted, request));
            }
        })
        .await
    }

    /// Serves one request, and returns the answer if that was it: when the page has been sent, and
    /// not before, for the process may end then.
    async fn serve(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        request: &AuthorizationRequest,
    ) -> Option<Result<AuthorizationResponse, Error>> {
        let Ok((connection, _)) = accepted else {
            // It was closed again before it got here, or the process has too many files open: that
            // may pass, and must not keep a processor busy until then.
            sleep(PAUSE).await;
            return None;
        };
        let answer = Mutex::new(None);
        let keep = |outcome| *answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        let page = service_fn(|asked: Request<hyper::body::Incoming>| {
            let (page, outcome) = self.answer(&asked, request);
            if let Some(outcome) = outcome {
                keep(outcome);
            }
            future::ready(Ok::<_, Infallible>(page.into_response()))
        });
        let served = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            // One request each, so that the end of a connection is the end of its page.
            .keep_alive(false)
            .serve_connection(TokioIo::new(connection), page);
        // A browser that doesn't read its page is no less back.
        let _ = timeout(CONNECTION_TIMEOUT, served).await;
        answer.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<B>(
        &self,
        asked: &Request<B>,
        request: &AuthorizationRequest,
    ) -> (Page, Option<Result<AuthorizationResponse, Error>>) {
        if !self.is_meant(asked) {
            return (Page::Misdirected, None);
        }
        if asked.uri().path() != self.path {
            return (Page::NotFound, None);
        }
        if asked.method() != Method::GET {
            return (Page::NotAllowed, None);
        }
        let redirect = Redirect::of_query(asked.uri().query().unwrap_or_default());
        if !request.has_state_of(&redirect) {
            return (Page::Stranger, None);
        }
        match request.judge(redirect) {
            Ok(response) => (Page::Back, Some(Ok(response))),
            Err(error) => (Page::Failed, Some(Err(error))),
        }
    }

    /// Whether the browser was led here by the address that it was given, and not by a name that
    /// somebody else has pointed at this machine (DNS rebinding).
    fn is_meant<B>(&self, asked: &Request<B>) -> bool {
        let mut hosts = asked.headers().get_all(header::HOST).iter();
        let is_own = |host: &HeaderValue| host.as_bytes() == self.authority.as_bytes();
        let (host, other) = (hosts.next(), hosts.next());
        let target = asked.uri().authority();
        host.is_some_and(is_own)
            && other.is_none()
            && target.is_none_or(|target| target.as_str() == self.authority)
    }
}

/// What the browser is told. None has anything in it of what the browser has said.
#[derive(Clone, Copy)]
enum Page {
    /// The answer is here.
    Back,
    /// The answer is here, and is a no.
    Failed,
    /// `state` isn't that of the request.
    Stranger,
    NotFound,
    NotAllowed,
    /// It was sent to another host.
    Misdirected,
}

impl Page {
    fn status(self) -> StatusCode {
        match self {
            Self::Back | Self::Failed => StatusCode::OK,
            Self::Stranger => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Back => "The login goes on in the application. You can close this window.",
            Self::Failed => {
                "You are not logged in. The application says why. You can close this window."
            }
            Self::Stranger => "This is not the login that the application is waiting for.",
            Self::NotFound | Self::NotAllowed | Self::Misdirected => "There is nothing here.",
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
            // The address has the code in it.
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if matches!(self, Self::NotAllowed) {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
    }
}
