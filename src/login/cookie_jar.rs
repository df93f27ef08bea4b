//! The cookies of one session (RFC 6265), and the rules that choose the cookies for a request.
//!
//! RFC 6265 lets a cookie go to more hosts than the host that set the cookie, and to all ports.
//! Here, a cookie goes only to allowed origins. Within these origins, a cookie goes only to the
//! paths that RFC 6265 §5.4 allows.

use std::convert::Infallible;
use std::str;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use cookie_store::{Cookie, CookieError, CookieStore};
use http::StatusCode;
use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use secrecy::SecretString;
use url::Url;
use zeroize::Zeroizing;

use crate::error::{BoxError, Error, Kind};
use crate::origin;
use crate::token::header_value::{sensitive, too_many_headers};
use crate::token::per_request::{Applied, Feedback, PerRequestCredential};
use crate::token::request_head::RequestHead;

/// The maximum size of a cookie with its attributes, in bytes. RFC 6265 §6.1 requires at least this
/// size.
const MAX_COOKIE_SIZE: usize = 4096;

/// The maximum number of cookies. RFC 6265 §6.1 requires at least this number for each host.
const MAX_COOKIES: usize = 50;

pub(super) struct CookieJar {
    /// The origins that cookies may go to. The first origin is the login's own origin.
    origins: Arc<[String]>,
    /// The names of the session's cookies. The session doesn't depend on other cookies.
    session: Vec<String>,
    cookies: Mutex<CookieStore>,
}

impl CookieJar {
    /// Stores the cookies of the response to a login. `session` names the session's cookie; `None`
    /// means that all cookies belong to the session.
    pub(super) fn from_login(
        origins: Arc<[String]>,
        session: Option<&str>,
        login: &RequestHead,
        headers: &HeaderMap,
    ) -> Result<Self, Error> {
        let mut jar = Self {
            origins,
            session: Vec::new(),
            cookies: Mutex::default(),
        };
        let url = jar.url(login)?;
        let mut cookies = CookieStore::default();
        let mut why = None;
        for line in headers.get_all(SET_COOKIE) {
            if let Err(rejection) = store(&mut cookies, line, &url) {
                why = Some(rejection);
            }
        }
        let is_usable = |cookie: &&Cookie<'static>| {
            let mut urls = jar.origins.iter().filter_map(|origin| address(origin, "/"));
            let is_usable = urls.any(|url| goes_to_host(cookie, &url));
            if !is_usable {
                why = Some(Rejection::Insecure);
            }
            is_usable && session.is_none_or(|name| cookie.name() == name)
        };
        let usable = cookies.iter_any().filter(is_usable);
        jar.session = usable.map(|cookie| cookie.name().to_owned()).collect();
        if jar.session.is_empty() {
            return Err(no_session(session, why));
        }
        jar.cookies = Mutex::new(cookies);
        Ok(jar)
    }

    /// Returns the secret that identifies this session: the session's cookies in the form of a
    /// `Cookie` header.
    pub(super) fn secret(&self) -> SecretString {
        let cookies = self.lock();
        let of_session = cookies.iter_any().filter(|cookie| self.is_session(cookie));
        let mut header = Zeroizing::new(Vec::new());
        append(&mut header, sorted(of_session.collect()).into_iter());
        // The header is always UTF-8, because each cookie was parsed from a string.
        SecretString::from(str::from_utf8(&header).unwrap_or_default())
    }

    /// Returns the time from the login until the first session cookie expires, or `None` if no
    /// session cookie expires.
    pub(super) fn lifetime(&self, login: SystemTime) -> Option<Duration> {
        let cookies = self.lock();
        let of_session = cookies.iter_any().filter(|cookie| self.is_session(cookie));
        let lifetimes = of_session.filter_map(|cookie| {
            // `Max-Age` has precedence over `Expires` (RFC 6265 §5.3).
            if let Some(age) = cookie.max_age() {
                return Some(Duration::try_from(age).unwrap_or_default());
            }
            let end = SystemTime::from(cookie.expires_datetime()?);
            Some(end.duration_since(login).unwrap_or_default())
        });
        lifetimes.min()
    }

    fn is_session(&self, cookie: &Cookie<'_>) -> bool {
        self.session.iter().any(|name| name == cookie.name())
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
    /// Expired session cookies are still sent. A session cookie expires before the end of the
    /// session only if a response has shortened the cookie's lifetime. The server then refuses the
    /// expired cookie, and the source logs in again.
    fn matching<'a>(&self, cookies: &'a CookieStore, url: &Url) -> Vec<&'a Cookie<'static>> {
        let matches = |cookie: &&Cookie<'static>| {
            cookie.matches(url) && (self.is_session(cookie) || !cookie.is_expired())
        };
        sorted(cookies.iter_any().filter(matches).collect())
    }

    fn lock(&self) -> MutexGuard<'_, CookieStore> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PerRequestCredential for CookieJar {
    fn apply(&self, target: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        let url = self.url(target)?;
        let cookies = self.lock();
        let mut ours = self.matching(&cookies, &url);
        if !ours.iter().any(|cookie| self.is_session(cookie)) {
            return Err(no_matching_cookie(target).into());
        }
        let mut callers: Vec<&[u8]> = headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty())
            .collect();
        let is = |pair: &[u8], cookie: &Cookie<'_>| name(pair) == cookie.name().as_bytes();
        if target.replaces_existing {
            callers.retain(|pair| !ours.iter().any(|cookie| is(pair, cookie)));
        } else {
            ours.retain(|cookie| !callers.iter().any(|pair| is(pair, cookie)));
            if !ours.iter().any(|cookie| self.is_session(cookie)) {
                return Ok(Applied::CallersOwn);
            }
        }
        let mut header = Zeroizing::new(callers.join(&b"; "[..]));
        append(&mut header, ours.into_iter());
        drop(cookies);
        let value = sensitive(header).ok_or_else(illegal)?;
        headers
            .try_insert(COOKIE, value)
            .map_err(too_many_headers)?;
        Ok(Applied::Done)
    }

    fn observe(&self, target: &RequestHead, _: StatusCode, headers: &HeaderMap) -> Feedback {
        if !headers.contains_key(SET_COOKIE) {
            return Feedback::Nothing;
        }
        let Ok(url) = self.url(target) else {
            return Feedback::Nothing;
        };
        let mut cookies = self.lock();
        let kept = cookies.iter_any();
        let kept = kept.filter(|cookie| self.is_session(cookie) || !cookie.is_expired());
        let copies = kept.cloned().map(Ok::<_, Infallible>);
        let Ok(mut next) = CookieStore::from_cookies(copies, true);
        for line in headers.get_all(SET_COOKIE) {
            // Ignores a rejected cookie (RFC 6265 §5.3).
            let _ = store(&mut next, line, &url);
        }
        if !next.iter_any().any(|cookie| self.is_session(cookie)) {
            // Keeps the old cookies. Until the next login, requests contain these cookies, and the
            // server refuses them.
            return Feedback::TokenEnded;
        }
        *cookies = next;
        Feedback::Nothing
    }
}

/// The reason why a cookie wasn't stored.
#[derive(Clone, Copy)]
enum Rejection {
    Malformed,
    TooLarge,
    TooMany,
    Domain,
    Expired,
    Insecure,
}

/// Stores a cookie according to RFC 6265 §5.3. An expired cookie deletes the stored cookie.
fn store(cookies: &mut CookieStore, line: &HeaderValue, url: &Url) -> Result<(), Rejection> {
    if line.len() > MAX_COOKIE_SIZE {
        return Err(Rejection::TooLarge);
    }
    let text = str::from_utf8(line.as_bytes()).map_err(|_| Rejection::Malformed)?;
    let cookie = Cookie::parse(text, url).map_err(|error| match error {
        CookieError::DomainMismatch => Rejection::Domain,
        _ => Rejection::Malformed,
    })?;
    let cookie = cookie.into_owned();
    let domain = cookie.domain.as_cow().unwrap_or_default().into_owned();
    let path = String::from(&cookie.path);
    if cookie.is_expired() {
        let deleted = cookies.remove(&domain, &path, cookie.name());
        return deleted.map(drop).ok_or(Rejection::Expired);
    }
    let is_new = !cookies.contains_any(&domain, &path, cookie.name());
    if is_new && cookies.iter_any().count() >= MAX_COOKIES {
        return Err(Rejection::TooMany);
    }
    let stored = cookies.insert(cookie, url);
    stored.map(drop).map_err(|_| Rejection::Malformed)
}

/// Returns the address that decides which cookies match. The scheme is `https` for loopback, which
/// counts as secure. The scheme is also `https` for `wss`, because RFC 6265 doesn't define rules
/// for `wss`.
fn address(origin: &str, path: &str) -> Option<Url> {
    let mut url = Url::parse(origin).ok()?;
    let is_secure = origin::is_secure(Some(url.scheme()), url.host_str());
    url.set_scheme(if is_secure { "https" } else { "http" })
        .ok()?;
    url.set_path(path);
    Some(url)
}

/// Returns whether a cookie may go to this host, on any path.
fn goes_to_host(cookie: &Cookie<'_>, url: &Url) -> bool {
    let is_secure = cookie.secure().unwrap_or_default();
    cookie.domain.matches(url) && (!is_secure || url.scheme() == "https")
}

/// Sorts the cookies by path, with the longest path first (RFC 6265 §5.4), and then by name.
fn sorted<'a>(mut cookies: Vec<&'a Cookie<'static>>) -> Vec<&'a Cookie<'static>> {
    cookies.sort_by_key(|cookie| {
        let length = cookie.path.len();
        (std::cmp::Reverse(length), cookie.name(), &*cookie.path)
    });
    cookies
}

fn append<'a>(
    header: &mut Zeroizing<Vec<u8>>,
    cookies: impl Iterator<Item = &'a Cookie<'static>> + Clone,
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

/// Returns the name in `name=value`.
fn name(pair: &[u8]) -> &[u8] {
    let name = pair.split(|byte| *byte == b'=').next();
    name.unwrap_or_default().trim_ascii()
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

impl Rejection {
    fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "a cookie is malformed (RFC 6265 §5.2)",
            Self::TooLarge => "a cookie is larger than 4 KiB",
            Self::TooMany => "there are more than 50 cookies",
            Self::Domain => "a cookie's `Domain` isn't the login's (RFC 6265 §5.3)",
            Self::Expired => "a cookie has expired or is deleted",
            Self::Insecure => {
                "a cookie is `Secure`, but no origin that it may go to is `https` or loopback"
            }
        }
    }
}

fn other_origin(target: &RequestHead) -> Error {
    let origin = target.origin.as_deref().unwrap_or("(no origin)");
    let message = format!(
        "the session's cookies may not go to {origin}, which isn't the login's origin; \
         allow it with `Session::origin`"
    );
    Error::new(Kind::Origin, message)
}

fn no_matching_cookie(target: &RequestHead) -> Error {
    let origin = target.origin.as_deref().unwrap_or("the login's origin");
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

/// This is a unit test because cookies expire by the system clock, and tests can't set that clock.
#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    #[allow(clippy::unwrap_used, reason = "it is a test")]
    fn what_has_run_out_is_not_sent_and_not_kept_unless_it_is_the_session() {
        let url = Url::parse("https://api.example.com/").unwrap();
        let lines = ["sid=1; Max-Age=0", "other=2; Max-Age=0", "kept=3"];
        let cookies = lines.map(|line| Cookie::parse(line, &url));
        let jar = CookieJar {
            origins: Arc::from([String::from("https://api.example.com")]),
            session: vec![String::from("sid")],
            cookies: Mutex::new(CookieStore::from_cookies(cookies, true).unwrap()),
        };
        let request = http::Request::new(());
        let target = RequestHead::of(&request);
        let mut headers = HeaderMap::new();
        jar.apply(&target, &mut headers).unwrap();
        assert_eq!(headers[COOKIE], "kept=3; sid=1");

        let set = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("new=4"))]);
        let feedback = jar.observe(&target, StatusCode::OK, &set);
        assert_eq!(feedback, Feedback::Nothing);
        assert_eq!(jar.lock().iter_any().count(), 3);
    }
}
