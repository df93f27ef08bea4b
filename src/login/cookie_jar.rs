//! The cookies of one session (RFC 6265), and the rules that choose the cookies for a request.
//!
//! RFC 6265 lets a cookie go to more hosts than the host that set the cookie, and to all ports.
//! Here, a cookie goes only to allowed origins. Within these origins, a cookie goes only to the
//! paths that RFC 6265 §5.4 allows.
//!
//! Responses may renew the session: they set its cookies again, with a later expiry. Until shortly
//! before this expiry, the source needs no login.

use std::str;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::csrf::CsrfToken;
use super::stored_cookie::{Rejection, SettingResponse, StoredCookie, Validity, address, store};
use crate::clock::Moment;
use crate::error::{BoxError, Error, Kind};
use crate::http_client::token_response::server_time;
use crate::sanitize::ServerText;
use crate::token::header_value::{sensitive, too_many_headers};
use crate::token::per_request::{Applied, Feedback, PerRequestCredential};
use crate::token::request_head::RequestHead;

pub(super) struct CookieJar {
    /// The origins that cookies may go to. The first origin is the login's own origin.
    origins: Arc<[String]>,
    /// The names of the session's cookies. The session doesn't depend on other cookies.
    session: Vec<String>,
    csrf: Option<CsrfToken>,
    /// The start of this jar's monotonic clock. Tokio's clock lets tests pause the time.
    start: Instant,
    state: Mutex<JarState>,
}

struct JarState {
    cookies: Vec<StoredCookie>,
    standing: Standing,
    /// When the latest token expires. `None` if this token doesn't expire.
    token_end: Option<Moment>,
}

/// What the responses so far say about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The login, or a later successful response, set the session's cookies.
    Confirmed,
    /// A response looks as if the session has ended. Many servers then set the cookie of a new
    /// session, in which nobody is logged in.
    Doubted,
    /// A response deleted the session's cookies.
    Ended,
}

/// The parts of a token that depend on the session's cookies.
pub(super) struct TokenParts {
    /// Identifies the session: the session's cookies in the form of a `Cookie` header.
    pub(super) secret: SecretString,
    /// `None` if the session doesn't expire.
    pub(super) lifetime: Option<TokenLifetime>,
}

/// How long a token of a session lasts.
#[derive(Clone, Copy)]
pub(super) struct TokenLifetime {
    /// The remaining lifetime of the session.
    pub(super) left: Duration,
    /// The last part of the session, in which a refresh starts.
    pub(super) last_part: Duration,
}

/// The minimum time by which a response must extend the session. Servers state whole seconds, so an
/// unchanged expiry may seem to move by up to 1 s.
const SMALLEST_RENEWAL: Duration = Duration::from_secs(1);

/// A refresh starts in the last quarter of a session. Some servers, such as ASP.NET Core, renew a
/// session only in the second half of its lifetime. So requests can renew the session in the third
/// quarter of its lifetime.
const LAST_PART: u32 = 4;

/// The remaining lifetime that a session needs for another token. The cache stops sending a token
/// this long before the token's expiry. But this time is at most half of the session's last part.
const EXPIRY_MARGIN: Duration = Duration::from_secs(30);

/// A shorter value may be the same in two sessions, such as a language. The number of a session has
/// at least 64 random bits, which are 16 digits.
const SHORTEST_ID: usize = 16;

impl CookieJar {
    /// Stores the cookies of the response to a login. `session` names the session's cookie; `None`
    /// means that all cookies belong to the session.
    pub(super) fn from_login(
        origins: Arc<[String]>,
        session: Option<&str>,
        csrf: Option<CsrfToken>,
        login: &RequestHead,
        headers: &HeaderMap,
    ) -> Result<Self, Error> {
        let mut jar = Self {
            origins,
            session: Vec::new(),
            csrf,
            start: Instant::now(),
            state: Mutex::new(JarState {
                cookies: Vec::new(),
                standing: Standing::Confirmed,
                token_end: None,
            }),
        };
        let url = jar.url(login)?;
        let mut cookies = Vec::new();
        let mut why = None;
        let response = jar.response(&url, headers);
        for line in headers.get_all(SET_COOKIE) {
            if let Err(rejection) = store(&mut cookies, line, &response) {
                why = Some(rejection);
            }
        }
        let is_usable = |cookie: &&StoredCookie| {
            let mut urls = jar.origins.iter().filter_map(|origin| address(origin, "/"));
            let is_usable = urls.any(|url| cookie.goes_to_host(&url));
            if !is_usable {
                why = Some(Rejection::Insecure);
            }
            if cookie.is_empty() {
                why = Some(Rejection::Empty);
            }
            is_usable && !cookie.is_empty() && session.is_none_or(|name| cookie.name() == name)
        };
        let usable = cookies.iter().filter(is_usable);
        jar.session = usable.map(|cookie| cookie.name().to_owned()).collect();
        if jar.session.is_empty() {
            return Err(no_session(session, why));
        }
        jar.lock().cookies = cookies;
        Ok(jar)
    }

    /// Returns the parts of the first token after the login.
    pub(super) fn first_token(&self) -> TokenParts {
        let now = self.now();
        let mut state = self.lock();
        let validity = self.validity(&state.cookies, now);
        state.token_end = validity.map(|validity| validity.end);
        TokenParts {
            secret: self.secret_of(&state.cookies),
            lifetime: validity.map(|validity| TokenLifetime::new(validity, validity.lifetime)),
        }
    }

    /// Returns the parts of another token, if responses have renewed the session since the latest
    /// token.
    pub(super) fn renewed_token(&self) -> Option<TokenParts> {
        let now = self.now();
        let mut state = self.lock();
        if state.standing != Standing::Confirmed {
            return None;
        }
        let token_end = state.token_end?;
        let validity = self.validity(&state.cookies, now);
        let lifetime =
            validity.map(|validity| TokenLifetime::new(validity, now.until(validity.end)));
        if let (Some(validity), Some(TokenLifetime { left, last_part })) = (validity, lifetime) {
            let put_off = left.saturating_sub(now.until(token_end));
            // Without these limits, the lifetimes of successive tokens would become shorter and
            // shorter. Callers would then have to wait for a login.
            if put_off < SMALLEST_RENEWAL.min(validity.lifetime / 8)
                || left <= EXPIRY_MARGIN.min(last_part / 2)
            {
                return None;
            }
        }
        state.token_end = validity.map(|validity| validity.end);
        let secret = self.secret_of(&state.cookies);
        Some(TokenParts { secret, lifetime })
    }

    /// Returns whether the server probably still has the session. A cookie that expires early, such
    /// as a message for the next page, doesn't end the session at the server.
    pub(super) fn is_alive(&self) -> bool {
        let now = self.now();
        let state = self.lock();
        let mut cookies = state.cookies.iter();
        state.standing != Standing::Ended
            && cookies.any(|cookie| self.is_session(cookie) && !cookie.has_expired(now))
    }

    /// Returns whether both logins opened the same session. Some servers continue a session at the
    /// next login, but set some of its other cookies again, such as the cookie of a load balancer.
    pub(super) fn is_same_session(&self, other: &Self) -> bool {
        let (one, other) = (self.lock(), other.lock());
        let has_id = |cookie: &&StoredCookie| cookie.value().len() >= SHORTEST_ID;
        let mut ids = one.cookies.iter().filter(has_id);
        ids.any(|id| {
            let is_id =
                |cookie: &StoredCookie| cookie.name() == id.name() && cookie.value() == id.value();
            self.is_session(id) && other.cookies.iter().any(is_id)
        }) || self.secret_of(&one.cookies).expose_secret()
            == self.secret_of(&other.cookies).expose_secret()
    }

    fn secret_of(&self, cookies: &[StoredCookie]) -> SecretString {
        let of_session = cookies.iter().filter(|cookie| self.is_session(cookie));
        let mut header = Zeroizing::new(Vec::new());
        append(&mut header, sorted(of_session.collect()).into_iter());
        // The header is always UTF-8, because each cookie was parsed from a string.
        SecretString::from(str::from_utf8(&header).unwrap_or_default())
    }

    /// Returns how long the session is valid, or `None` if it doesn't expire. The session is valid
    /// while each of its cookie names has a valid cookie.
    fn validity(&self, cookies: &[StoredCookie], now: Moment) -> Option<Validity> {
        let left = |cookie: &&StoredCookie| cookie.left(now);
        let latest_of = |name: &String| {
            let named = cookies.iter().filter(|cookie| cookie.name() == name);
            named.max_by_key(left)
        };
        let latest = self.session.iter().filter_map(latest_of);
        latest.min_by_key(left)?.validity
    }

    fn is_session(&self, cookie: &StoredCookie) -> bool {
        self.session.iter().any(|name| name == cookie.name())
    }

    fn now(&self) -> Moment {
        Moment::new(self.start.elapsed(), SystemTime::now())
    }

    fn response<'a>(&self, url: &'a Url, headers: &HeaderMap) -> SettingResponse<'a> {
        SettingResponse {
            url,
            received: self.now(),
            sent: server_time(headers).unwrap_or_else(SystemTime::now),
        }
    }

    /// Returns the address that decides which cookies a request gets. Fails if the request's origin
    /// isn't allowed.
    fn url(&self, target: &RequestHead) -> Result<Url, Error> {
        // If a request has only a path, the client below sends it to the API.
        let origin = target.origin.as_ref().or(self.origins.first());
        origin
            .filter(|origin| self.origins.contains(origin))
            .and_then(|origin| address(origin, &target.path))
            .ok_or_else(|| other_origin(target))
    }

    /// Returns the cookies for this address, in the order of RFC 6265 §5.4.
    ///
    /// An expired session cookie is still sent if no valid cookie has its name. A session cookie
    /// expires before the session's token only if a response has shortened the cookie's lifetime.
    /// The server then refuses the expired cookie, and the source logs in again.
    fn matching<'a>(&self, cookies: &'a [StoredCookie], url: &Url) -> Vec<&'a StoredCookie> {
        let now = self.now();
        let matches = cookies.iter().filter(|stored| stored.cookie.matches(url));
        let matches: Vec<_> = matches.collect();
        let is_sent = |cookie: &&&StoredCookie| {
            let name = cookie.name();
            let mut valid = matches.iter().filter(|other| !other.has_expired(now));
            !cookie.has_expired(now)
                || (self.is_session(cookie) && valid.all(|other| other.name() != name))
        };
        sorted(matches.iter().filter(is_sent).copied().collect())
    }

    fn lock(&self) -> MutexGuard<'_, JarState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PerRequestCredential for CookieJar {
    fn apply(&self, target: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        let url = self.url(target)?;
        let state = self.lock();
        let mut ours = self.matching(&state.cookies, &url);
        if !ours.iter().any(|cookie| self.is_session(cookie)) {
            return Err(no_matching_cookie(target).into());
        }
        let mut callers: Vec<&[u8]> = pairs(headers.get_all(COOKIE)).collect();
        let is = |pair: &[u8], cookie: &StoredCookie| name(pair) == cookie.name().as_bytes();
        if target.replaces_existing {
            callers.retain(|pair| !ours.iter().any(|cookie| is(pair, cookie)));
        } else {
            ours.retain(|cookie| !callers.iter().any(|pair| is(pair, cookie)));
            if !ours.iter().any(|cookie| self.is_session(cookie)) {
                return Ok(Applied::CallersOwn);
            }
        }
        let csrf = self.csrf.as_ref().filter(|csrf| {
            let is_callers = !target.replaces_existing && headers.contains_key(&csrf.header);
            !is_safe(&target.method) && !is_callers
        });
        let csrf = match csrf {
            // If several cookies have this name, the server compares the header with the first.
            Some(csrf) => csrf.value(|wanted| {
                let own = callers.iter().find(|pair| name(pair) == wanted.as_bytes());
                let stored = || ours.iter().find(|cookie| cookie.name() == wanted);
                own.map(|pair| value(pair))
                    .or_else(|| Some(stored()?.value().as_bytes()))
            })?,
            None => None,
        };
        let mut header = Zeroizing::new(callers.join(&b"; "[..]));
        append(&mut header, ours.into_iter());
        drop(state);
        let cookies = sensitive(header).ok_or_else(illegal)?;
        headers
            .try_insert(COOKIE, cookies)
            .map_err(too_many_headers)?;
        if let Some((csrf, value)) = self.csrf.as_ref().zip(csrf) {
            headers
                .try_insert(csrf.header.clone(), value)
                .map_err(too_many_headers)?;
        }
        Ok(Applied::Done)
    }

    fn observe(&self, target: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback {
        let denies = denies_login(status);
        if !denies && !headers.contains_key(SET_COOKIE) {
            return Feedback::Nothing;
        }
        let Ok(url) = self.url(target) else {
            return Feedback::Nothing;
        };
        let response = self.response(&url, headers);
        let now = response.received;
        let mut state = self.lock();
        let kept = state.cookies.iter();
        let kept = kept.filter(|cookie| self.is_session(cookie) || !cookie.has_expired(now));
        let mut next: Vec<_> = kept.cloned().collect();
        for line in headers.get_all(SET_COOKIE) {
            if is_callers(target, &next, line) {
                continue;
            }
            // Ignores a rejected cookie (RFC 6265 §5.3).
            let _ = store(&mut next, line, &response);
        }
        // Some servers delete a cookie by an empty value, without an expiry.
        let is_left = |cookie: &StoredCookie| self.is_session(cookie) && !cookie.is_empty();
        if !next.iter().any(is_left) {
            // Keeps the old cookies. Until the next login, requests contain these cookies, and the
            // server refuses them.
            state.standing = Standing::Ended;
            return Feedback::TokenEnded;
        }
        let of_session = next.iter_mut().filter(|cookie| self.is_session(cookie));
        let shown = state.compare(of_session, status, now);
        state.cookies = next;
        if state.standing != Standing::Ended {
            state.standing = match denies {
                true => Standing::Doubted,
                false => shown.unwrap_or(state.standing),
            };
        }
        Feedback::Nothing
    }
}

impl TokenLifetime {
    fn new(validity: Validity, left: Duration) -> Self {
        let last_part = validity.lifetime / LAST_PART;
        Self { left, last_part }
    }
}

impl JarState {
    /// Compares the session's cookies before and after a response. Returns what the response shows
    /// about the session. Only a success can extend the validity of a cookie.
    fn compare<'a>(
        &self,
        next: impl Iterator<Item = &'a mut StoredCookie>,
        status: StatusCode,
        now: Moment,
    ) -> Option<Standing> {
        let is_success = status.is_success() || status == StatusCode::NOT_MODIFIED;
        let mut shown = None;
        for next in next {
            let mut before = self.cookies.iter();
            let before = before.find(|before| before.is_same_cookie(&next.cookie));
            let has_new_value = before.is_none_or(|before| before.value() != next.value());
            let has_new_end = before.is_none_or(|before| before.validity != next.validity);
            match is_success {
                true if has_new_value || has_new_end => shown = Some(Standing::Confirmed),
                true => {}
                false => {
                    if has_new_value {
                        shown = Some(Standing::Doubted);
                    }
                    if let Some(before) = before
                        && before.left(now) < next.left(now)
                    {
                        next.validity = before.validity;
                    }
                }
            }
        }
        shown
    }
}

/// Returns whether CSRF protections ignore requests with this method (RFC 9110 §9.2.1).
/// `Method::is_safe` may also accept newer methods, such as QUERY.
fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// Returns whether servers use this status for a request without a login. Some frameworks use the
/// unregistered statuses 419 and 440.
fn denies_login(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 419 | 440)
}

/// Sorts the cookies by path, with the longest path first (RFC 6265 §5.4), and then by name.
fn sorted(mut cookies: Vec<&StoredCookie>) -> Vec<&StoredCookie> {
    cookies.sort_by_key(|stored| {
        let path = &*stored.cookie.path;
        (std::cmp::Reverse(path.len()), stored.name(), path)
    });
    cookies
}

fn append<'a>(
    header: &mut Zeroizing<Vec<u8>>,
    cookies: impl Iterator<Item = &'a StoredCookie> + Clone,
) {
    // The buffer has its final capacity, because a buffer that grows frees memory without zeroizing
    // it.
    let lengths = cookies.clone();
    let lengths = lengths.map(|cookie| cookie.name().len() + cookie.value().len() + 3);
    let mut whole = Zeroizing::new(Vec::with_capacity(header.len() + lengths.sum::<usize>()));
    whole.extend_from_slice(header);
    for cookie in cookies {
        if !whole.is_empty() {
            whole.extend_from_slice(b"; ");
        }
        whole.extend_from_slice(cookie.name().as_bytes());
        whole.push(b'=');
        whole.extend_from_slice(cookie.value().as_bytes());
    }
    *header = whole;
}

/// Returns the pairs `name=value` of these `Cookie` headers.
fn pairs<'a>(lines: impl IntoIterator<Item = &'a HeaderValue>) -> impl Iterator<Item = &'a [u8]> {
    let pairs = lines.into_iter();
    let pairs = pairs.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let pairs = pairs.map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty())
}

/// Returns whether this `Set-Cookie` changes a cookie that the caller sent. The cookie isn't stored,
/// because other callers would then send it.
fn is_callers(target: &RequestHead, cookies: &[StoredCookie], line: &HeaderValue) -> bool {
    let set = name(line.as_bytes());
    let is_replaced = || cookies.iter().any(|it| it.name().as_bytes() == set);
    pairs(&target.callers_cookies).any(|pair| name(pair) == set)
        && !(target.replaces_existing && is_replaced())
}

/// Returns the name in `name=value`.
fn name(pair: &[u8]) -> &[u8] {
    let name = pair.split(|byte| *byte == b'=').next();
    name.unwrap_or_default().trim_ascii()
}

/// Returns the value in `name=value`.
fn value(pair: &[u8]) -> &[u8] {
    let at = pair.iter().position(|byte| *byte == b'=');
    at.map_or(&[][..], |at| pair[at + 1..].trim_ascii())
}

/// Returns the error of a login that opened no session. The message contains no text from the
/// server, because any such text may be a secret.
fn no_session(named: Option<&str>, why: Option<Rejection>) -> Error {
    let what = match (named, why) {
        (None, None) => String::from("sets no cookie (`Set-Cookie`)"),
        (Some(name), None) => format!("sets no cookie `{}`", name.escape_debug()),
        (_, Some(why)) => format!("sets no usable session cookie; {}", why.as_str()),
    };
    Error::new(Kind::Reply, format!("the response to the login {what}"))
}

fn other_origin(target: &RequestHead) -> Error {
    let origin = ServerText::new(target.origin.as_deref().unwrap_or("(no origin)"));
    let message = format!(
        "the session's cookies may not go to {origin}, which isn't the login's origin; \
         allow it with `Session::origin`"
    );
    Error::new(Kind::Origin, message)
}

fn no_matching_cookie(target: &RequestHead) -> Error {
    let origin = ServerText::new(target.origin.as_deref().unwrap_or("the login's origin"));
    let message = format!(
        "no cookie of the session matches this request's path at {origin}; check the `Path`, \
         `Domain` and `Secure` that the login sets (RFC 6265 §5.4)"
    );
    Error::new(Kind::Origin, message)
}

fn illegal() -> Error {
    let message = "the session's cookies contain bytes that are illegal in a header";
    Error::new(Kind::IllegalToken, message)
}
