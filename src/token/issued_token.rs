//! An issued credential, prepared as it goes on the wire.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::per_request::PerRequestCredential;
use crate::error::{Error, Kind};
use crate::quota::{self, Quota};

/// An issued credential: the secret in the header value it travels in, its expiry and scope.
///
/// A clone is cheap and is the *same* token: it has the same generation, by which a refusal names
/// the token it was sent with. The header value is marked sensitive and its bytes are zeroized
/// when the last clone of it is dropped. [`Debug`](fmt::Debug) redacts.
///
/// Expiry is counted from when the fetch was *started*, which is never later than the moment the
/// server issued the token. Without one the token is used until a server refuses it.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use tower_auth::Token;
///
/// let token = Token::bearer("eyJhbGciOi")?
///     .expires_in(Duration::from_secs(3600))
///     .with_scope("read:sources");
/// assert_eq!(token.header_value().unwrap(), "Bearer eyJhbGciOi");
/// assert!(!format!("{token:?}").contains("eyJ"));
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone)]
pub struct Token {
    inner: Arc<IssuedToken>,
}

#[derive(Clone)]
struct IssuedToken {
    generation: u64,
    place: Place,
    wire: Wire,
    expiry: Expiry,
    scope: Option<Arc<str>>,
    quotas: Arc<[Quota]>,
}

/// Where in a request a credential goes.
///
/// # Example
///
/// ```
/// use tower_auth::{ApiKey, Place, TokenSource};
///
/// let key = ApiKey::new("secret").query("api_key")?;
/// assert_eq!(key.place(), Place::Query("api_key".into()));
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// A header field, such as `Authorization`.
    Header(HeaderName),
    /// A parameter of the query, such as `api_key`: its name.
    Query(Arc<str>),
    /// The `Cookie` header, beside the caller's own cookies.
    Cookie,
}

/// The credential as it goes there.
#[derive(Clone)]
enum Wire {
    Header {
        value: HeaderValue,
        /// Where in `value` the secret starts: behind `Bearer `.
        secret_at: usize,
    },
    Query {
        secret: SecretString,
        /// `name=secret`, percent-encoded.
        pair: SecretString,
    },
    /// Made for each request.
    PerRequest {
        secret: SecretString,
        by: Arc<dyn PerRequestCredential>,
    },
}

/// What is put on a request.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    Header(&'a HeaderName, &'a HeaderValue),
    /// A name, and the encoded pair that starts with it.
    Query(&'a str, &'a str),
    PerRequest(&'a dyn PerRequestCredential),
}

/// What it takes besides the secret to make the token again in another process.
#[cfg(feature = "fleet")]
pub(crate) enum SharedForm<'a> {
    /// A header, and what stands in it before the secret.
    Header(&'a HeaderName, &'a str),
    /// A parameter of the query.
    Query(&'a str),
    /// What it is bound to.
    Bound(&'a str),
}

/// When a token ends, as its source knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Not known: used until it is refused.
    Never,
    /// So long after the fetch was started.
    In(Duration),
    /// At a time of the wall clock.
    At(SystemTime),
}

/// Longer lifetimes are cut to this: 10 years, far from where clock arithmetic overflows.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Token {
    /// A bearer token (RFC 6750 §2.1): `Authorization: Bearer <secret>`.
    ///
    /// # Errors
    ///
    /// [`is_illegal_token`](Error::is_illegal_token) if the secret is empty or holds bytes that
    /// are illegal in a header.
    pub fn bearer(secret: impl Into<SecretString>) -> Result<Self, Error> {
        Self::in_header(AUTHORIZATION, "Bearer ", &secret.into())
    }

    /// A token in a header of its own, as it stands: `X-API-Key: <secret>`.
    ///
    /// # Errors
    ///
    /// [`is_illegal_token`](Error::is_illegal_token) if the secret is empty or holds bytes that
    /// are illegal in a header.
    pub fn header(name: HeaderName, secret: impl Into<SecretString>) -> Result<Self, Error> {
        Self::in_header(name, "", &secret.into())
    }

    /// A token in the query: `?api_key=<secret>`. For APIs that want it there; a header is better,
    /// for addresses end up in logs, histories and the `Referer` of a redirected request.
    ///
    /// # Errors
    ///
    /// [`is_illegal_token`](Error::is_illegal_token) if the name or the secret is empty.
    pub fn query(
        name: impl Into<Arc<str>>,
        secret: impl Into<SecretString>,
    ) -> Result<Self, Error> {
        let (name, secret) = (name.into(), secret.into());
        let bytes = secret.expose_secret();
        if name.is_empty() || bytes.is_empty() {
            let message = "the token, or the name of its query parameter, is empty; \
                           check what the token source returns";
            return Err(Error::new(Kind::IllegalToken, message));
        }
        // Each byte takes at most three (`%00`), so that nothing is left behind by growing.
        let mut pair = String::with_capacity(3 * (name.len() + bytes.len()) + 1);
        pair.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        pair.push('=');
        pair.extend(form_urlencoded::byte_serialize(bytes.as_bytes()));
        let pair = SecretString::from(pair);
        Ok(Self::new(Place::Query(name), Wire::Query { secret, pair }))
    }

    /// A token that is presented anew with each request. `secret` is what tells it from another.
    #[cfg_attr(
        not(any(feature = "cookies", feature = "dpop")),
        allow(dead_code, reason = "those that are so are behind features")
    )]
    pub(crate) fn per_request(
        place: Place,
        secret: SecretString,
        by: Arc<dyn PerRequestCredential>,
    ) -> Self {
        Self::new(place, Wire::PerRequest { secret, by })
    }

    fn new(place: Place, wire: Wire) -> Self {
        Self {
            inner: Arc::new(IssuedToken {
                generation: next_generation(),
                place,
                wire,
                expiry: Expiry::Never,
                scope: None,
                quotas: Arc::default(),
            }),
        }
    }

    /// A header's token that another process was issued.
    #[cfg(feature = "fleet")]
    pub(crate) fn restore_in_header(name: &str, scheme: &str, secret: &str) -> Result<Self, Error> {
        let name = HeaderName::try_from(name);
        let name = name.map_err(|_| Error::new(Kind::IllegalToken, "no name of a header"))?;
        Self::in_header(name, scheme, &SecretString::from(secret))
    }

    fn in_header(header: HeaderName, scheme: &str, secret: &SecretString) -> Result<Self, Error> {
        let value = prepare(&header, scheme, secret)?;
        let secret_at = scheme.len();
        Ok(Self::new(
            Place::Header(header),
            Wire::Header { value, secret_at },
        ))
    }

    /// Sets the lifetime, counted from when the fetch was started. Cut to 10 years.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.edit(|inner| inner.expiry = Expiry::In(lifetime.min(LONGEST)))
    }

    /// Sets the time at which the token expires, by the wall clock.
    #[must_use]
    pub fn expires_at(self, time: SystemTime) -> Self {
        self.edit(|inner| inner.expiry = Expiry::At(time))
    }

    /// Sets the scope that was granted: space-separated, as RFC 6749 §3.3 writes it.
    #[must_use]
    pub fn with_scope(self, scope: impl Into<Arc<str>>) -> Self {
        self.edit(|inner| inner.scope = Some(scope.into()))
    }

    /// Says what is left of the quotas that it was taken from, 8 at most. It is shown by
    /// [`Status::quotas`](crate::Status::quotas), and heeded: where one runs dry, the refresh behind
    /// this token is put off.
    #[must_use]
    pub fn with_quotas(self, quotas: impl IntoIterator<Item = Quota>) -> Self {
        let quotas = quota::bounded(quotas);
        self.edit(|inner| inner.quotas = quotas)
    }

    fn edit(mut self, change: impl FnOnce(&mut IssuedToken)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    /// Where in a request the token goes: `Authorization` unless it was made otherwise.
    #[inline]
    pub fn place(&self) -> &Place {
        &self.inner.place
    }

    /// The header's value, marked sensitive; `None` of a token that doesn't go in a header, or not as
    /// the same in each request.
    pub fn header_value(&self) -> Option<&HeaderValue> {
        match &self.inner.wire {
            Wire::Header { value, .. } => Some(value),
            Wire::Query { .. } | Wire::PerRequest { .. } => None,
        }
    }

    /// The bare secret, for where the header isn't wanted: a websocket's first message, a shell.
    pub fn secret(&self) -> &str {
        match &self.inner.wire {
            // Built from a `str` at a boundary of it, so this is always valid UTF-8.
            Wire::Header { value, secret_at } => {
                std::str::from_utf8(&value.as_bytes()[*secret_at..]).unwrap_or("")
            }
            Wire::Query { secret, .. } | Wire::PerRequest { secret, .. } => secret.expose_secret(),
        }
    }

    /// What it takes besides the secret to make it again; `None` if no other process could use it.
    #[cfg(feature = "fleet")]
    pub(crate) fn shared_form(&self) -> Option<SharedForm<'_>> {
        match (&self.inner.place, &self.inner.wire) {
            (Place::Header(name), Wire::Header { value, secret_at }) => {
                let scheme = std::str::from_utf8(&value.as_bytes()[..*secret_at]);
                Some(SharedForm::Header(name, scheme.ok()?))
            }
            (Place::Query(name), Wire::Query { .. }) => Some(SharedForm::Query(name)),
            (_, Wire::PerRequest { by, .. }) => by.bound_to().map(SharedForm::Bound),
            _ => None,
        }
    }

    /// What is put on a request, by a header value of one's own if there is one.
    #[inline]
    pub(crate) fn credential<'a>(&'a self, own: Option<&'a HeaderValue>) -> Credential<'a> {
        match (&self.inner.place, &self.inner.wire) {
            (Place::Header(name), Wire::Header { value, .. }) => {
                Credential::Header(name, own.unwrap_or(value))
            }
            (Place::Query(name), Wire::Query { pair, .. }) => {
                Credential::Query(name, pair.expose_secret())
            }
            (_, Wire::PerRequest { by, .. }) => Credential::PerRequest(&**by),
            _ => unreachable!("a token is made with the wire that its place has"),
        }
    }

    /// The scope that was granted, if the server said it: space-separated (RFC 6749 §3.3).
    pub fn scope(&self) -> Option<&str> {
        self.inner.scope.as_deref()
    }

    pub(crate) fn quotas(&self) -> &Arc<[Quota]> {
        &self.inner.quotas
    }

    pub(crate) fn shared_scope(&self) -> Option<Arc<str>> {
        self.inner.scope.clone()
    }

    pub(crate) fn expiry(&self) -> Expiry {
        self.inner.expiry
    }

    /// Which token this is, of all that this process has made. Never 0.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// A copy of the header value that shares no reference count with any other.
    pub(crate) fn private_header_value(&self) -> Option<HeaderValue> {
        let value = self.header_value()?;
        let bytes = Zeroizing::new(value.as_bytes().to_vec());
        Some(sensitive(bytes).unwrap_or_else(|| value.clone()))
    }

    /// Whether a server that refused the one would refuse the other.
    pub(crate) fn is_same_credential(&self, other: &Self) -> bool {
        let (one, other) = (&self.inner, &other.inner);
        Arc::ptr_eq(one, other) || (one.place == other.place && one.wire.is_same(&other.wire))
    }
}

impl Wire {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header { value: one, .. }, Self::Header { value: other, .. }) => one == other,
            (Self::Query { pair: one, .. }, Self::Query { pair: other, .. }) => {
                one.expose_secret() == other.expose_secret()
            }
            (Self::PerRequest { secret: one, .. }, Self::PerRequest { secret: other, .. }) => {
                one.expose_secret() == other.expose_secret()
            }
            _ => false,
        }
    }
}

/// The header's value: `scheme`, and the secret behind it.
pub(crate) fn prepare(
    header: &HeaderName,
    scheme: &str,
    secret: &SecretString,
) -> Result<HeaderValue, Error> {
    let secret = secret.expose_secret();
    // Leading and trailing white space would be stripped on the way (RFC 9110 §5.5), and
    // another credential would arrive than the one issued.
    if secret.is_empty() || secret.trim() != secret {
        return Err(illegal(header));
    }
    let mut wire = Zeroizing::new(Vec::with_capacity(scheme.len() + secret.len()));
    wire.extend_from_slice(scheme.as_bytes());
    wire.extend_from_slice(secret.as_bytes());
    sensitive(wire).ok_or_else(|| illegal(header))
}

/// A sensitive header value over bytes that are zeroized when its last clone goes.
pub(crate) fn sensitive(bytes: Zeroizing<Vec<u8>>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn illegal(header: &HeaderName) -> Error {
    let message = format!(
        "the token is empty or holds bytes that are illegal in the `{header}` header; \
         check what the token source returns"
    );
    Error::new(Kind::IllegalToken, message)
}

fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("generation", &self.inner.generation)
            .field("place", &self.inner.place)
            .field("secret", &"[redacted]")
            .field("expiry", &self.inner.expiry)
            .field("scope", &self.inner.scope)
            .finish()
    }
}
