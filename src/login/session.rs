//! A session: a login whose response sets cookies.

use std::fmt;
use std::str;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{join_all, join3};
use http::StatusCode;
use http::header::{COOKIE, HeaderMap};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::cookie_jar::CookieJar;
use super::csrf::CsrfSetting;
use super::json;
use super::login_request::{LoginRequest, address, login_setters};
use super::open_sessions::OpenSessions;
use crate::error::{Error, Kind};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::origin::{self, Origin};
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::{Credential, Token};
use crate::token::per_request::PerRequestCredential;
use crate::token::place::Place;
use crate::token::redact::Redactor;
use crate::token::request_head::RequestHead;

/// Fetches session cookies from an API's own login. The login is a POST of
/// `{"email": …, "password": …}`, and the response has `Set-Cookie`. After the login, each request
/// gets a `Cookie` header (RFC 6265) with the session's cookies and the caller's own cookies.
///
/// | setting | default |
/// | --- | --- |
/// | address of the login | an argument of the constructor |
/// | [`user_field`](Self::user_field), [`password_field`](Self::password_field) | `/email`, `/password` |
/// | [`session_cookie`](Self::session_cookie) | all cookies that the login sets |
/// | [`origin`](Self::origin): where the cookies may go | the login's own origin |
/// | [`log_out_at`](Self::log_out_at) | none: the session expires on its own |
/// | [`csrf_cookie`](Self::csrf_cookie), [`csrf_field`](Self::csrf_field) | none: no CSRF token is sent |
/// | [`timeout`](Self::timeout) of each request | 10 s |
///
/// # Where the cookies go
///
/// Cookies go to allowed origins, if their `Domain`, `Path` and `Secure` allow this (RFC 6265
/// §5.4). A request fails without being sent in two cases:
///
/// - The request goes to another origin.
/// - No cookie of the session matches the request's path.
///
/// Loopback counts as secure, as everywhere in this crate. A request with only a path counts as a
/// request to the login's origin.
///
/// The caller's cookies are kept. If a caller's cookie has the same name as a stored cookie, the
/// layer sends the caller's cookie. If no stored session cookie remains, the credential counts as
/// the caller's own, and the request passes unchanged. With
/// [`replace_existing`](crate::AuthLayer::replace_existing), the layer sends the stored cookies
/// instead.
///
/// # How long the session lasts
///
/// The session lasts until the first session cookie expires by its `Max-Age` or `Expires`. Without
/// these attributes, the session lasts until the server refuses the session. Then the source logs
/// in again.
///
/// Any response may set cookies. Later requests send these cookies (RFC 6265 §5.3). Exception: if
/// the caller has sent a cookie, the source doesn't keep what the response sets in its place. If a
/// response with a success status (2xx or 304) sets the session's cookies with a later expiry, it
/// *renews* the session. The source then doesn't log in again until shortly before that expiry. A
/// session cookie without an expiry also renews the session.
///
/// A background login starts at the earliest in the last quarter of the session's lifetime. A
/// longer [`refresh_before`](crate::cache::TokenCacheBuilder::refresh_before) doesn't change this.
/// If requests renew the session before its last quarter, one login is enough. Some servers, such
/// as ASP.NET Core, renew a session only in the second half of its lifetime. The
/// [`expiry_margin`](crate::cache::TokenCacheBuilder::expiry_margin) is at most an eighth of the
/// lifetime.
///
/// The source reads `Expires` as browsers do (RFC 6265 §5.1.1). So a date may lack `GMT`, or have a
/// day with one digit.
///
/// After a 401, 403, 419 or 440, only a later success can renew the session. Many servers set the
/// cookie of a new session with such a response, and nobody is logged in to that session. If a
/// response deletes or empties the session's cookies, the next request requires a login. At most 50
/// cookies are kept, each of at most 4 KiB (§6.1).
///
/// # Which sessions are logged out
///
/// With [`log_out_at`](Self::log_out_at), [`TokenCache::close`](crate::TokenCache::close) logs out
/// of all sessions that the server still has. If the source logs in before a session ends, the new
/// session replaces the old session. During a later fetch, the source logs out of a replaced
/// session that no request uses anymore. After 60 s, each replaced session counts as unused. If
/// this logout fails, no fetch and no request fails. At most 16 replaced sessions are kept. If
/// there are more, the source logs out of the oldest.
///
/// The source reads the password again for each login. Addresses are `https`, or `http` on
/// loopback. Redirects are not followed: a login whose response is a redirect fails.
///
/// # Example
///
/// ```
/// use tower_auth::login::Session;
/// use tower_auth::{AuthLayer, SecretSource};
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let password = SecretSource::file("/run/secrets/password");
/// let url = "https://api.example.com/v1/session/login";
/// let session = Session::new(url, "me@example.com", password)?
///     .log_out_at("https://api.example.com/v1/session/logout")?;
/// // The source names the origin of its login, so the cookies go only to that origin.
/// let layer = AuthLayer::new(session);
/// # Ok(()) }
/// ```
///
/// An API with other fields, a CSRF token and a second origin:
///
/// ```
/// use tower_auth::SecretSource;
/// use tower_auth::login::Session;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let password = SecretSource::file("/run/secrets/password");
/// let session = Session::new("https://app.example.com/login", "me", password)?
///     .user_field("/name")?
///     .password_field("/secret")?
///     .field("/remember_me", true)?
///     .session_cookie("sid")?
///     .csrf_field("/csrf_token", "X-CSRF-Token")?
///     .origin("https://files.example.com")?;
/// # Ok(()) }
/// ```
pub struct Session {
    login: LoginRequest,
    log_out_at: Option<EndpointUrl>,
    /// The origins that cookies may go to. The first origin is the login's own origin.
    origins: Vec<String>,
    session_cookie: Option<String>,
    csrf: Option<CsrfSetting>,
    sessions: Mutex<OpenSessions>,
    /// The logouts of replaced sessions. Each runs on a task of its own, so that no fetch waits.
    logouts: Mutex<Vec<JoinHandle<()>>>,
}

impl Session {
    /// Creates a source that logs in at `url`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext, or if the user
    /// or the password is empty.
    pub fn new<U>(
        url: U,
        user: impl Into<String>,
        password: impl Into<SecretSource>,
    ) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        let login = LoginRequest::new(url, user, password)?;
        let origin = login.http.url.address().map(origin::serialize_uri);
        Ok(Self {
            origins: origin.into_iter().collect(),
            login,
            log_out_at: None,
            session_cookie: None,
            csrf: None,
            sessions: Mutex::default(),
            logouts: Mutex::default(),
        })
    }

    /// Sets the address of the logout. [`TokenCache::close`](crate::TokenCache::close) then ends
    /// the session with a POST to this address. The POST contains an empty JSON object and the
    /// session's cookies. [Replaced sessions](Self#which-sessions-are-logged-out) end in the same
    /// way.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the address is invalid or cleartext.
    pub fn log_out_at<U>(mut self, url: U) -> Result<Self, Error>
    where
        U: TryInto<EndpointUrl>,
        Error: From<U::Error>,
    {
        self.log_out_at = Some(address(url)?);
        Ok(self)
    }

    /// Also allows the cookies to go to another origin, if their `Domain` covers both hosts.
    /// Examples of such an origin are `https://files.example.com` and another port of the same
    /// host. Default: only the login's origin.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the origin isn't `scheme://host[:port]`.
    pub fn origin(mut self, origin: impl AsRef<str>) -> Result<Self, Error> {
        let origin: Origin = origin.as_ref().parse()?;
        self.origins.push(origin.as_ref().to_owned());
        Ok(self)
    }

    /// Sets the name of the session's cookie. A login that doesn't set this cookie fails. Only the
    /// expiry of this cookie ends the session. Default: all cookies that the login sets.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is empty.
    pub fn session_cookie(mut self, name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        if name.is_empty() {
            return Err(Error::new(Kind::Config, "the session cookie has no name"));
        }
        self.session_cookie = Some(name);
        Ok(self)
    }

    /// Copies a cookie into a header of each unsafe request. The API compares the header with the
    /// cookie to prevent cross-site request forgery (CSRF). Many frameworks use the cookie
    /// `XSRF-TOKEN` and the header `X-XSRF-TOKEN`. Default: no such header.
    ///
    /// A request is unsafe unless its method is GET, HEAD, OPTIONS or TRACE (RFC 9110 §9.2.1). The
    /// logout also gets the header. The header contains the current value of the cookie,
    /// percent-decoded as in axios and Angular. The caller's own cookie has precedence over the
    /// stored cookie, as in the `Cookie` header. If both cookies are missing, the request is sent
    /// without the header.
    ///
    /// If the caller has set the header, the caller's value stays. With
    /// [`replace_existing`](crate::AuthLayer::replace_existing), the header is replaced. A value
    /// that is illegal in a header is an error ([`is_illegal_token`](Error::is_illegal_token)). The
    /// last call of this method or of [`csrf_field`](Self::csrf_field) counts. If a client below
    /// the layer follows a redirect to another origin, the client may send the header there: see
    /// [redirects](crate::docs::composing#redirects).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a name is invalid, or if the header is `Cookie`.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::login::Session;
    ///
    /// # fn example(password: String) -> Result<(), tower_auth::Error> {
    /// let url = "https://api.example.com/login";
    /// let session = Session::new(url, "me@example.com", password)?
    ///     .session_cookie("sid")?
    ///     .csrf_cookie("XSRF-TOKEN", "X-XSRF-TOKEN")?;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "xsrf")]
    pub fn csrf_cookie(
        mut self,
        cookie: impl Into<String>,
        header: impl AsRef<str>,
    ) -> Result<Self, Error> {
        self.csrf = Some(CsrfSetting::cookie(cookie.into(), header.as_ref())?);
        Ok(self)
    }

    /// Puts a string from the login's response into a header of each unsafe request, against
    /// cross-site request forgery (CSRF). `pointer` is the location of the string in the JSON, such
    /// as `/csrf_token`. Default: no such header.
    ///
    /// The header follows the rules of [`csrf_cookie`](Self::csrf_cookie). The token stays the same
    /// for the whole session. A login whose response has no such string fails.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if `pointer` isn't a JSON pointer (RFC 6901) to a field, if
    /// the header's name is invalid, or if the header is `Cookie`.
    #[doc(alias = "xsrf")]
    pub fn csrf_field(
        mut self,
        pointer: impl Into<String>,
        header: impl AsRef<str>,
    ) -> Result<Self, Error> {
        self.csrf = Some(CsrfSetting::field(pointer.into(), header.as_ref())?);
        Ok(self)
    }

    async fn log_in(&self) -> Result<CookieJar, Error> {
        let (request, redactor) = self.login.build().await?;
        let request = self.login.http.request(request).await?;
        let login = RequestHead::of(&request);
        let response = self.login.http.send(request).await?;
        response.done(redactor, "the server refused the login")?;
        let csrf = self.csrf.as_ref();
        let csrf = csrf.map(|csrf| csrf.token(&response)).transpose()?;
        let origins = Arc::from(self.origins.as_slice());
        let named = self.session_cookie.as_deref();
        CookieJar::from_login(origins, named, csrf, &login, &response.headers)
    }

    /// Logs out of the replaced sessions that no request uses anymore, each on a task of its own.
    fn log_out_replaced(&self) {
        let Some(url) = &self.log_out_at else {
            return self.sessions().forget_replaced();
        };
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let at = self.login.client_for(url);
        let unused = self.sessions().take_unused();
        let started: Vec<_> = unused
            .into_iter()
            .map(|session| {
                let at = at.clone();
                runtime.spawn(async move {
                    // The session expires on its own, so a failure has no consequence.
                    let _ = at.within(log_out(&at, &*session)).await;
                })
            })
            .collect();
        let mut logouts = self.logouts();
        logouts.retain(|logout| !logout.is_finished());
        logouts.extend(started);
    }

    fn logouts(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.logouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, OpenSessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a session. A session that has already ended is no error.
async fn log_out(at: &EndpointClient, session: &dyn PerRequestCredential) -> Result<(), Error> {
    // The body is an empty object, because some servers reject a request without a body.
    let request = EndpointRequest::json(json::object(Vec::new())?);
    let mut request = at.request(request).await?;
    let applied = session.apply(&RequestHead::of(&request), request.headers_mut());
    applied.map_err(Error::not_applied)?;
    let redactor = hiding_credentials(request.headers());
    let response = at.send(request).await?;
    if response.status == StatusCode::UNAUTHORIZED {
        return Ok(());
    }
    response.done(redactor, "the server refused the logout")
}

/// Returns a redactor that hides the request's cookies and its CSRF token in the response, because
/// servers echo parts of a request.
fn hiding_credentials(headers: &HeaderMap) -> Redactor {
    let mut redactor = Redactor::default();
    for (name, value) in headers.iter().filter(|(_, value)| value.is_sensitive()) {
        let text = str::from_utf8(value.as_bytes()).unwrap_or_default();
        match *name == COOKIE {
            false => redactor.hide(text),
            true => text.split("; ").for_each(|pair| {
                redactor.hide(pair.split_once('=').map_or(pair, |(_, value)| value));
            }),
        }
    }
    redactor
}

/// Returns whether the token belongs to this session.
fn is_token_of(token: &Token, session: &CookieJar) -> bool {
    match token.credential(None) {
        Credential::PerRequest(of_token) => std::ptr::addr_eq(of_token, session),
        Credential::Header(..) | Credential::Query(..) => false,
    }
}

login_setters!(Session);

impl TokenSource for Session {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let renewed = self.sessions().renewed(reason);
        let token = match renewed {
            Some(token) => token,
            None => {
                let jar = self.login.http.within(self.log_in()).await?;
                self.sessions().opened(jar)
            }
        };
        self.log_out_replaced();
        Ok(token)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let mut others = self.sessions().close();
        let running = std::mem::take(&mut *self.logouts());
        let Some(url) = &self.log_out_at else {
            return Ok(());
        };
        let at = self.login.client_for(url);
        if let Some(last) = &last {
            others.retain(|session| !is_token_of(last, session));
        }
        let others = others
            .iter()
            .map(|session| at.within(log_out(&at, &**session)));
        let log_out_last = async {
            match last.as_ref().map(|last| last.credential(None)) {
                Some(Credential::PerRequest(session)) => at.within(log_out(&at, session)).await,
                _ => Ok(()),
            }
        };
        let (last, others, _) = join3(log_out_last, join_all(others), join_all(running)).await;
        last.and(others.into_iter().collect())
    }

    fn place(&self) -> Place {
        Place::Cookie
    }

    /// Returns the login's own origin, and the origins that [`origin`](Self::origin) added.
    fn origins(&self) -> Vec<Origin> {
        let texts = self.origins.iter();
        texts.filter_map(|origin| origin.parse().ok()).collect()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("login", &self.login)
            .field("log_out_at", &self.log_out_at)
            .field("origins", &self.origins)
            .field("session_cookie", &self.session_cookie)
            .field("csrf", &self.csrf)
            .finish_non_exhaustive()
    }
}
