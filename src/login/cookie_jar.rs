//! The cookies of one session (RFC 6265): what answers set, and what of it goes where.
//!
//! A cookie may be meant for more hosts than the one that set it, and for any of their ports. Here
//! it goes only to origins that were named, and within those where RFC 6265 §5.4 has it go.

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

use crate::error::{Error, Kind};
use crate::origin;
use crate::token::header_value::{sensitive, too_many_headers};
use crate::token::per_request::{Applied, Feedback, PerRequestCredential};
use crate::token::request_head::RequestHead;

/// What RFC 6265 §6.1 asks of every client at least, and what no server may exceed here: the bytes
/// of a cookie with its attributes, and the cookies of a host.
const LARGEST: usize = 4096;
const MOST: usize = 50;

pub(super) struct Jar {
    /// Where cookies may go at all. The first is the login's own.
    origins: Arc<[String]>,
    /// The names of the cookies that are the session; of the others it doesn't depend.
    session: Vec<String>,
    cookies: Mutex<CookieStore>,
}

impl Jar {
    /// The cookies that the answer to a login set. `session` names the one that is the session: if
    /// none is named, all are.
    pub(super) fn of_login(
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
            if let Err(unkept) = keep(&mut cookies, line, &url) {
                why = Some(unkept);
            }
        }
        let is_of_use = |cookie: &&Cookie<'static>| {
            let mut urls = jar.origins.iter().filter_map(|origin| address(origin, "/"));
            let is_of_use = urls.any(|url| goes_to_host(cookie, &url));
            if !is_of_use {
                why = Some(Unkept::Insecure);
            }
            is_of_use && session.is_none_or(|name| cookie.name() == name)
        };
        let kept = cookies.iter_any().filter(is_of_use);
        jar.session = kept.map(|cookie| cookie.name().to_owned()).collect();
        if jar.session.is_empty() {
            return Err(no_session(session, why));
        }
        jar.cookies = Mutex::new(cookies);
        Ok(jar)
    }

    /// What tells this session from another: its cookies as a header has them.
    pub(super) fn secret(&self) -> SecretString {
        let cookies = self.lock();
        let of_session = cookies.iter_any().filter(|cookie| self.is_session(cookie));
        let mut header = Zeroizing::new(Vec::new());
        append(&mut header, sorted(of_session.collect()).into_iter());
        // Each was read from a text.
        SecretString::from(str::from_utf8(&header).unwrap_or_default())
    }

    /// How long after the login the first of the session's cookies ends, if one says so.
    pub(super) fn lifetime(&self, login: SystemTime) -> Option<Duration> {
        let cookies = self.lock();
        let of_session = cookies.iter_any().filter(|cookie| self.is_session(cookie));
        of_session
            .filter_map(
                |cookie| match (cookie.max_age(), cookie.expires_datetime()) {
                    // `Max-Age` beats `Expires` (RFC 6265 §5.3).
                    (Some(age), _) => Some(Duration::try_from(age).unwrap_or_default()),
                    (None, Some(end)) => {
                        let end = SystemTime::from(end);
                        Some(end.duration_since(login).unwrap_or_default())
                    }
                    (None, None) => None,
                },
            )
            .min()
    }

    fn is_session(&self, cookie: &Cookie<'_>) -> bool {
        self.session.iter().any(|name| name == cookie.name())
    }

    /// Where a request goes, as an address to match cookies with, if cookies may go there at all.
    fn url(&self, target: &RequestHead) -> Result<Url, Error> {
        // A request that is only a path goes where the client below has it go: to the API.
        let origin = target.origin.as_ref().or(self.origins.first());
        origin
            .filter(|origin| self.origins.contains(origin))
            .and_then(|origin| address(origin, &target.path))
            .ok_or_else(|| elsewhere(target))
    }

    /// The cookies that go there, in the order of RFC 6265 §5.4.
    ///
    /// Those of the session go on when they have run out, which only happens if an answer has
    /// shortened their life: the server refuses them, and then there is a login.
    fn going_to<'a>(&self, cookies: &'a CookieStore, url: &Url) -> Vec<&'a Cookie<'static>> {
        let goes = |cookie: &&Cookie<'static>| {
            cookie.matches(url) && (self.is_session(cookie) || !cookie.is_expired())
        };
        sorted(cookies.iter_any().filter(goes).collect())
    }

    fn lock(&self) -> MutexGuard<'_, CookieStore> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PerRequestCredential for Jar {
    fn apply(
        &self,
        target: &RequestHead,
        headers: &mut HeaderMap,
        replaces: bool,
    ) -> Result<Applied, Error> {
        let url = self.url(target)?;
        let cookies = self.lock();
        let mut ours = self.going_to(&cookies, &url);
        if !ours.iter().any(|cookie| self.is_session(cookie)) {
            return Err(not_here(target));
        }
        let mut callers: Vec<&[u8]> = headers
            .get_all(COOKIE)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
            .map(<[u8]>::trim_ascii)
            .filter(|pair| !pair.is_empty())
            .collect();
        let is = |pair: &[u8], cookie: &Cookie<'_>| name(pair) == cookie.name().as_bytes();
        if replaces {
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
        let of_use = cookies.iter_any();
        let of_use = of_use.filter(|cookie| self.is_session(cookie) || !cookie.is_expired());
        let copies = of_use.cloned().map(Ok::<_, Infallible>);
        let Ok(mut next) = CookieStore::from_cookies(copies, true);
        for line in headers.get_all(SET_COOKIE) {
            // One that can't be kept is as if it weren't there (RFC 6265 §5.3).
            let _ = keep(&mut next, line, &url);
        }
        if !next.iter_any().any(|cookie| self.is_session(cookie)) {
            // The old ones are kept: what is sent until the next login is refused, not sent bare.
            return Feedback::TokenEnded;
        }
        *cookies = next;
        Feedback::Nothing
    }
}

/// Why a cookie isn't kept.
#[derive(Clone, Copy)]
enum Unkept {
    Malformed,
    TooLarge,
    TooMany,
    Domain,
    Expired,
    Insecure,
}

/// Stores a cookie as RFC 6265 §5.3 has it, or deletes the one that it is in the place of.
fn keep(cookies: &mut CookieStore, line: &HeaderValue, url: &Url) -> Result<(), Unkept> {
    if line.len() > LARGEST {
        return Err(Unkept::TooLarge);
    }
    let text = str::from_utf8(line.as_bytes()).map_err(|_| Unkept::Malformed)?;
    let cookie = Cookie::parse(text, url).map_err(|error| match error {
        CookieError::DomainMismatch => Unkept::Domain,
        _ => Unkept::Malformed,
    })?;
    let cookie = cookie.into_owned();
    let domain = cookie.domain.as_cow().unwrap_or_default().into_owned();
    let path = String::from(&cookie.path);
    if cookie.is_expired() {
        let deleted = cookies.remove(&domain, &path, cookie.name());
        return deleted.map(drop).ok_or(Unkept::Expired);
    }
    let is_new = !cookies.contains_any(&domain, &path, cookie.name());
    if is_new && cookies.iter_any().count() >= MOST {
        return Err(Unkept::TooMany);
    }
    let stored = cookies.insert(cookie, url);
    stored.map(drop).map_err(|_| Unkept::Malformed)
}

/// An address to match cookies with. Its scheme says whether what is sent there can be read on the
/// way: loopback is as good as `https`, and cookies know nothing of `wss`.
fn address(origin: &str, path: &str) -> Option<Url> {
    let mut url = Url::parse(origin).ok()?;
    let is_secure = origin::is_secure(Some(url.scheme()), url.host_str());
    url.set_scheme(if is_secure { "https" } else { "http" })
        .ok()?;
    url.set_path(path);
    Some(url)
}

/// Whether it may go to this host, on some path.
fn goes_to_host(cookie: &Cookie<'_>, url: &Url) -> bool {
    let is_secure = cookie.secure().unwrap_or_default();
    cookie.domain.matches(url) && (!is_secure || url.scheme() == "https")
}

/// The longest path first (RFC 6265 §5.4), and else always in the same order.
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
    // Room for all at once: what a growing text leaves behind isn't zeroized.
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

/// The name in `name=value`.
fn name(pair: &[u8]) -> &[u8] {
    let name = pair.split(|byte| *byte == b'=').next();
    name.unwrap_or_default().trim_ascii()
}

/// Holds nothing that the server said, for any text of it may be a secret.
fn no_session(named: Option<&str>, why: Option<Unkept>) -> Error {
    let what = match (named, why) {
        (None, None) => String::from("sets no cookie (`Set-Cookie`)"),
        (Some(name), None) => format!("sets no cookie `{}`", name.escape_debug()),
        (_, Some(why)) => format!("sets no cookie that can be the session: {}", why.as_str()),
    };
    Error::new(Kind::Reply, format!("the answer to the login {what}"))
}

impl Unkept {
    fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "one is malformed (RFC 6265 §5.2)",
            Self::TooLarge => "one is larger than 4 KiB",
            Self::TooMany => "there are more than 50",
            Self::Domain => "the `Domain` of one isn't the login's (RFC 6265 §5.3)",
            Self::Expired => "one has expired or is deleted",
            Self::Insecure => "one is `Secure`, and no origin it may go to is `https` or loopback",
        }
    }
}

fn elsewhere(target: &RequestHead) -> Error {
    let origin = target.origin.as_deref().unwrap_or("(no origin)");
    let message = format!(
        "no cookie is sent to {origin}: it isn't the login's origin; \
         name it with `Session::origin` to allow it"
    );
    Error::new(Kind::Origin, message)
}

fn not_here(target: &RequestHead) -> Error {
    let origin = target.origin.as_deref().unwrap_or("the login's origin");
    let message = format!(
        "no cookie of the session may go to this request's path at {origin}: the `Path`, `Domain` \
         or `Secure` it was set with is of elsewhere (RFC 6265 §5.4)"
    );
    Error::new(Kind::Origin, message)
}

fn illegal() -> Error {
    let message = "the session's cookies hold bytes that are illegal in a header";
    Error::new(Kind::IllegalToken, message)
}

/// Inside, because a cookie runs out by the system's clock, and a test can't set that.
#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    #[allow(clippy::unwrap_used, reason = "it is a test")]
    fn what_has_run_out_is_not_sent_and_not_kept_unless_it_is_the_session() {
        let url = Url::parse("https://api.example.com/").unwrap();
        let lines = ["sid=1; Max-Age=0", "other=2; Max-Age=0", "kept=3"];
        let cookies = lines.map(|line| Cookie::parse(line, &url));
        let jar = Jar {
            origins: Arc::from([String::from("https://api.example.com")]),
            session: vec![String::from("sid")],
            cookies: Mutex::new(CookieStore::from_cookies(cookies, true).unwrap()),
        };
        let target = RequestHead {
            method: Method::GET,
            origin: None,
            path: String::from("/"),
        };
        let mut headers = HeaderMap::new();
        jar.apply(&target, &mut headers, false).unwrap();
        assert_eq!(headers[COOKIE], "kept=3; sid=1");

        let set = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("new=4"))]);
        let feedback = jar.observe(&target, StatusCode::OK, &set);
        assert_eq!(feedback, Feedback::Nothing);
        assert_eq!(jar.lock().iter_any().count(), 3);
    }
}
