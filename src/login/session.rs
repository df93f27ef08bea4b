//! A session: a login whose response sets cookies.

use std::str;
use std::sync::Arc;

use http::StatusCode;
use http::header::{COOKIE, HeaderMap, HeaderValue};

use super::cookie_jar::CookieJar;
use super::json;
use super::login_request::{LoginRequest, address, login_setters};
use crate::error::{Error, Kind};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::redact::Redactor;
use crate::origin::{self, Origin};
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::{Credential, Token};
use crate::token::place::Place;
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
/// Any response may set cookies. Later requests send these cookies (RFC 6265 §5.3), but the cookies
/// don't postpone the next login. If a response deletes the session, the next request requires a
/// login. At most 50 cookies are kept, each of at most 4 KiB (§6.1).
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
#[derive(Debug)]
pub struct Session {
    login: LoginRequest,
    log_out_at: Option<EndpointUrl>,
    /// The origins that cookies may go to. The first origin is the login's own origin.
    origins: Vec<String>,
    session_cookie: Option<String>,
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
        })
    }

    /// Sets the address of the logout. [`TokenCache::close`](crate::TokenCache::close) then ends
    /// the session with a POST to this address. The POST contains an empty JSON object and the
    /// session's cookies.
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
        self.origins.push(origin.serialize().to_owned());
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

    async fn log_in(&self) -> Result<Token, Error> {
        let (request, redactor) = self.login.build().await?;
        let request = self.login.http.request(request).await?;
        let login = RequestHead::of(&request);
        let response = self.login.http.send(request).await?;
        response.done(redactor, "the server refused the login")?;
        let origins = Arc::from(self.origins.as_slice());
        let named = self.session_cookie.as_deref();
        let jar = CookieJar::from_login(origins, named, &login, &response.headers)?;
        let lifetime = jar.lifetime(response.started);
        let token = Token::per_request(Place::Cookie, jar.secret(), Arc::new(jar));
        Ok(match lifetime {
            Some(lifetime) => token.expires_in(lifetime),
            None => token,
        })
    }

    async fn log_out(at: &EndpointClient, session: &Token) -> Result<(), Error> {
        let Credential::PerRequest(by) = session.credential(None) else {
            return Ok(());
        };
        // The body is an empty object, because some servers reject a request without a body.
        let request = EndpointRequest::json(json::object(Vec::new())?);
        let mut request = at.request(request).await?;
        let applied = by.apply(&RequestHead::of(&request), request.headers_mut());
        applied.map_err(Error::not_applied)?;
        let redactor = hiding_cookies(request.headers());
        let response = at.send(request).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            // The session has already ended.
            return Ok(());
        }
        response.done(redactor, "the server refused the logout")
    }
}

/// Returns a redactor that hides the request's cookies in the response, because servers echo parts
/// of a request.
fn hiding_cookies(headers: &HeaderMap) -> Redactor {
    let mut redactor = Redactor::default();
    let line = headers.get(COOKIE).map(HeaderValue::as_bytes);
    let line = str::from_utf8(line.unwrap_or_default()).unwrap_or_default();
    for pair in line.split("; ") {
        redactor.hide(pair.split_once('=').map_or(pair, |(_, value)| value));
    }
    redactor
}

login_setters!(Session);

impl TokenSource for Session {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        self.login.http.within(self.log_in()).await
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let (Some(url), Some(session)) = (&self.log_out_at, last) else {
            return Ok(());
        };
        let at = self.login.client_for(url);
        at.within(Self::log_out(&at, &session)).await
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
