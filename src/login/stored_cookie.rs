//! A cookie as a response set it, with its lifetime (RFC 6265 §5.3).
//!
//! The cookie's lifetime counts by the monotonic clock and the wall clock. This crate doesn't use a
//! `CookieStore`, which knows only the wall clock.

use std::str;
use std::time::{Duration, SystemTime};

use cookie_store::{Cookie, CookieError};
use http::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::cookie_lifetime;
use crate::clock::Moment;
use crate::origin;

/// The maximum size of a cookie with its attributes, in bytes. RFC 6265 §6.1 requires at least this
/// size.
const MAX_COOKIE_SIZE: usize = 4096;

/// The maximum number of cookies. RFC 6265 §6.1 requires at least this number for each host.
const MAX_COOKIES: usize = 50;

#[derive(Clone)]
pub(super) struct StoredCookie {
    /// The name and the attributes. The value is empty here, because `cookie_store` doesn't zeroize
    /// values.
    pub(super) cookie: Cookie<'static>,
    value: SecretString,
    /// `None` if the response stated no expiry.
    pub(super) validity: Option<Validity>,
}

/// How long a cookie is valid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    /// The lifetime that the response stated.
    pub(super) lifetime: Duration,
    pub(super) end: Moment,
}

/// A response that sets cookies.
pub(super) struct SettingResponse<'a> {
    /// The address of the request, from [`address`].
    pub(super) url: &'a Url,
    pub(super) received: Moment,
    /// When the server sent the response: the server's time, or the local time if the response has
    /// no `Date`.
    pub(super) sent: SystemTime,
}

/// The reason why a cookie wasn't stored.
#[derive(Clone, Copy)]
pub(super) enum Rejection {
    Malformed,
    TooLarge,
    TooMany,
    Domain,
    Expired,
    Empty,
    Insecure,
}

impl StoredCookie {
    pub(super) fn name(&self) -> &str {
        self.cookie.name()
    }

    pub(super) fn value(&self) -> &str {
        self.value.expose_secret()
    }

    /// Returns whether the value is empty or `""`.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.value(), "" | "\"\"")
    }

    /// Returns the remaining lifetime. The result is the maximum if the cookie doesn't expire.
    pub(super) fn left(&self, now: Moment) -> Duration {
        self.validity
            .map_or(Duration::MAX, |validity| now.until(validity.end))
    }

    pub(super) fn has_expired(&self, now: Moment) -> bool {
        self.left(now).is_zero()
    }

    /// Returns whether one of these cookies replaces the other (RFC 6265 §5.3, step 11).
    pub(super) fn is_same_cookie(&self, other: &Cookie<'_>) -> bool {
        let cookie = &self.cookie;
        cookie.name() == other.name()
            && *cookie.path == *other.path
            && cookie.domain.as_cow() == other.domain.as_cow()
    }

    /// Returns whether the cookie may go to this host, whatever the path.
    pub(super) fn goes_to_host(&self, url: &Url) -> bool {
        let is_secure = self.cookie.secure().unwrap_or_default();
        self.cookie.domain.matches(url) && (!is_secure || url.scheme() == "https")
    }
}

/// Stores a cookie according to RFC 6265 §5.3. An expired cookie deletes the stored cookie.
pub(super) fn store(
    cookies: &mut Vec<StoredCookie>,
    line: &HeaderValue,
    response: &SettingResponse<'_>,
) -> Result<(), Rejection> {
    if line.len() > MAX_COOKIE_SIZE {
        return Err(Rejection::TooLarge);
    }
    let text = str::from_utf8(line.as_bytes()).map_err(|_| Rejection::Malformed)?;
    let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
    let (name, value) = pair.split_once('=').ok_or(Rejection::Malformed)?;
    let value = SecretString::from(value.trim());
    let without_value = format!("{name}=;{attributes}");
    let cookie = Cookie::parse(without_value, response.url).map_err(|error| match error {
        CookieError::DomainMismatch => Rejection::Domain,
        _ => Rejection::Malformed,
    })?;
    let lifetime = cookie_lifetime::stated_in(text, response.sent);
    let stored = cookies
        .iter()
        .position(|stored| stored.is_same_cookie(&cookie));
    if lifetime.is_some_and(|lifetime| lifetime.is_zero()) {
        let deleted = stored.map(|at| cookies.remove(at));
        return deleted.map(drop).ok_or(Rejection::Expired);
    }
    let validity = lifetime.map(|lifetime| Validity {
        lifetime,
        end: response.received.plus(lifetime),
    });
    let cookie = StoredCookie {
        cookie,
        value,
        validity,
    };
    match stored {
        Some(at) => cookies[at] = cookie,
        None if cookies.len() >= MAX_COOKIES => return Err(Rejection::TooMany),
        None => cookies.push(cookie),
    }
    Ok(())
}

/// Returns the address that decides which cookies match. The scheme is `https` for loopback, which
/// counts as secure. The scheme is also `https` for `wss`, because RFC 6265 doesn't define rules
/// for `wss`.
pub(super) fn address(origin: &str, path: &str) -> Option<Url> {
    let mut url = Url::parse(origin).ok()?;
    let is_secure = origin::is_secure(Some(url.scheme()), url.host_str());
    url.set_scheme(if is_secure { "https" } else { "http" })
        .ok()?;
    url.set_path(path);
    Some(url)
}

impl Rejection {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "a cookie is malformed (RFC 6265 §5.2)",
            Self::TooLarge => "a cookie is larger than 4 KiB",
            Self::TooMany => "there are more than 50 cookies",
            Self::Domain => "a cookie's `Domain` isn't the login's (RFC 6265 §5.3)",
            Self::Expired => "a cookie has expired or is deleted",
            Self::Empty => "a cookie is empty",
            Self::Insecure => {
                "a cookie is `Secure`, but no origin that it may go to is `https` or loopback"
            }
        }
    }
}
