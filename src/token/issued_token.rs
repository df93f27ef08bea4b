//! Issued tokens, encoded as they are sent.

#[cfg(feature = "fleet")]
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use zeroize::Zeroizing;

use super::extra_fields::ExtraFields;
use super::header_value::{credential_value, sensitive};
use super::per_request::PerRequestCredential;
use super::place::Place;
use crate::error::{Error, Kind};
use crate::quota::{self, Quota};
use crate::sanitize::ServerText;

/// An issued credential. It contains the encoded secret, its expiry and its scope.
///
/// Cloning is cheap. All clones are the *same* token and share a generation number. By this number,
/// the cache identifies a refused token. The header value is marked sensitive. Its bytes are
/// zeroized when the last clone is dropped. [`Debug`](fmt::Debug) redacts the secret.
///
/// A lifetime counts from the *start* of the fetch, because the server can't have issued the token
/// earlier. A token without an expiry is used until a server refuses it.
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
#[doc(alias = "access_token")]
#[doc(alias = "credential")]
pub struct Token {
    inner: Arc<IssuedToken>,
}

#[derive(Clone)]
struct IssuedToken {
    generation: u64,
    place: Place,
    wire: Wire,
    expiry: Expiry,
    refresh_hint: Option<RefreshHint>,
    scope: Option<Arc<str>>,
    /// The parts that no request needs. Many tokens have no details, so this is a thin pointer.
    details: Option<Arc<Details>>,
    quotas: Arc<[Quota]>,
}

/// The parts of a token's response that no request needs.
#[derive(Clone, Default)]
struct Details {
    id_token: Option<SecretString>,
    extra: ExtraFields,
    /// The requested scopes that the server did not grant.
    missing_scope: Option<String>,
    /// Whether the server sent the expiry as a date in place of a lifetime.
    is_expiry_read_as_date: bool,
    /// Why the token couldn't be saved for the other processes of its login.
    not_saved: Option<ServerText>,
}

/// The encoded credential.
#[derive(Clone)]
enum Wire {
    Header {
        value: HeaderValue,
        /// The offset of the secret in `value`, such as the length of `Bearer `.
        secret_at: usize,
    },
    Query {
        secret: SecretString,
        /// The pair `name=secret`, percent-encoded.
        pair: SecretString,
    },
    /// A credential that is made for each request.
    PerRequest {
        secret: SecretString,
        credential: Arc<dyn PerRequestCredential>,
    },
}

/// What the layer attaches to a request.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    Header(&'a HeaderName, &'a HeaderValue),
    /// The name of a query parameter, and the percent-encoded pair `name=secret`.
    Query(&'a str, &'a str),
    PerRequest(&'a dyn PerRequestCredential),
}

/// The data that another process needs besides the secret to restore the token.
#[cfg(feature = "fleet")]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredAs<'a> {
    Header {
        #[serde(borrow)]
        name: Cow<'a, str>,
        /// The text before the secret in the header value.
        #[serde(borrow)]
        scheme: Cow<'a, str>,
    },
    Query {
        #[serde(borrow)]
        name: Cow<'a, str>,
    },
    /// The token is bound to the key that has this thumbprint.
    Bound {
        #[serde(borrow)]
        to: Cow<'a, str>,
    },
}

/// When a token expires, if the source knows the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// The expiry is unknown. The token is used until a server refuses it.
    Never,
    /// The token expires this long after the start of the fetch.
    In(Duration),
    /// The token expires at this wall-clock time.
    At(SystemTime),
}

/// When the source wants its token to be refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefreshHint {
    /// The source wants the refresh this long after the start of the fetch.
    After(Duration),
    /// The source wants the refresh only within this time before the expiry.
    WithinLast(Duration),
}

/// The maximum lifetime: 10 years. This is far below the values at which clock arithmetic
/// overflows.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

impl Token {
    /// Makes a bearer token (RFC 6750 §2.1): `Authorization: Bearer <secret>`.
    ///
    /// # Errors
    ///
    /// [`is_illegal_token`](Error::is_illegal_token) if the secret is empty or contains bytes that
    /// a header may not contain.
    #[doc(alias = "authorization")]
    pub fn bearer(secret: impl Into<SecretString>) -> Result<Self, Error> {
        Self::in_header(AUTHORIZATION, "Bearer ", &secret.into())
    }

    /// Makes a token for basic authentication (RFC 7617):
    /// `Authorization: Basic <user:password in Base64>`.
    ///
    /// The token's [`secret`](Self::secret) is the encoded pair.
    ///
    /// # Errors
    ///
    /// [`is_illegal_token`](Error::is_illegal_token) if the user name contains a colon, or if the
    /// user name or the password contains a control character (RFC 7617 §2).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{AuthLayer, Token};
    ///
    /// let layer = AuthLayer::new(|_| async { Token::basic("me", "the password") })
    ///     .only_to(["https://api.example.com"])?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn basic(user: &str, password: impl Into<SecretString>) -> Result<Self, Error> {
        let password = password.into();
        let password = password.expose_secret();
        if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
            let message = "basic authentication allows no colon in the user name, and no control \
                           character in either part";
            return Err(Error::new(Kind::IllegalToken, message));
        }
        // The capacity is sufficient. A `String` that grows would leave a copy of the secret in
        // memory.
        let mut pair = Zeroizing::new(String::with_capacity(user.len() + 1 + password.len()));
        for part in [user, ":", password] {
            pair.push_str(part);
        }
        let encoded = SecretString::from(STANDARD.encode(pair.as_bytes()));
        Self::in_header(AUTHORIZATION, "Basic ", &encoded)
    }

    /// Makes a token that is the complete value of a header: `X-API-Key: <secret>`.
    ///
    /// # Errors
    ///
    /// [`is_illegal_token`](Error::is_illegal_token) if the secret is empty or contains bytes that
    /// a header may not contain.
    ///
    /// # Example
    ///
    /// ```
    /// use http::HeaderName;
    /// use tower_auth::Token;
    ///
    /// let token = Token::header(HeaderName::from_static("x-vault-token"), "the-secret")?;
    /// assert_eq!(token.header_value().unwrap(), "the-secret");
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn header(name: HeaderName, secret: impl Into<SecretString>) -> Result<Self, Error> {
        Self::in_header(name, "", &secret.into())
    }

    /// Makes a token that is sent in the query: `?api_key=<secret>`.
    ///
    /// If the API accepts a header, prefer the header. URLs end up in logs, in histories and in the
    /// `Referer` of a redirected request.
    ///
    /// # Errors
    ///
    /// [`is_illegal_token`](Error::is_illegal_token) if the name or the secret is empty.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{Place, Token};
    ///
    /// let token = Token::query("api_key", "my-key")?;
    /// assert_eq!(token.place(), &Place::Query("api_key".into()));
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
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
        // The capacity is sufficient, even if each byte becomes `%00`. A `String` that grows would
        // leave a copy of the secret in memory. A `String` with spare capacity would also leave a
        // copy when it becomes a `SecretString`.
        let length = 3 * (name.len() + bytes.len()) + 1;
        let mut pair = Zeroizing::new(String::with_capacity(length));
        pair.extend(form_urlencoded::byte_serialize(name.as_bytes()));
        pair.push('=');
        pair.extend(form_urlencoded::byte_serialize(bytes.as_bytes()));
        let pair = SecretString::from(pair.as_str());
        Ok(Self::new(Place::Query(name), Wire::Query { secret, pair }))
    }

    /// Makes a token with a credential that is made for each request, such as a signature.
    ///
    /// `place` says where the credential goes: a header, or [`Place::Cookie`]. If a request already
    /// has the header of a [`Place::Header`], that header counts as the caller's own credential.
    /// `secret` identifies the token. After a refusal, the cache doesn't use a new token with the
    /// same secret. For a signing key, use a text that changes with the key, such as a key id.
    ///
    /// # Example
    ///
    /// [`PerRequestCredential`] shows a signer.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use http::header::AUTHORIZATION;
    /// use tower_auth::token::PerRequestCredential;
    /// use tower_auth::{Place, Token};
    ///
    /// /// Makes a token for as long as the key with this id is valid.
    /// fn signed(key_id: &str, signer: impl PerRequestCredential) -> Token {
    ///     Token::per_request(Place::Header(AUTHORIZATION), key_id, Arc::new(signer))
    /// }
    /// ```
    pub fn per_request<C>(place: Place, secret: impl Into<SecretString>, credential: Arc<C>) -> Self
    where
        C: PerRequestCredential,
    {
        let secret = secret.into();
        Self::new(place, Wire::PerRequest { secret, credential })
    }

    fn new(place: Place, wire: Wire) -> Self {
        static NEXT_GENERATION: AtomicU64 = AtomicU64::new(1);
        Self {
            inner: Arc::new(IssuedToken {
                generation: NEXT_GENERATION.fetch_add(1, Ordering::Relaxed),
                place,
                wire,
                expiry: Expiry::Never,
                refresh_hint: None,
                scope: None,
                details: None,
                quotas: Arc::default(),
            }),
        }
    }

    /// Restores a token that another process sends in a header.
    #[cfg(feature = "fleet")]
    pub(crate) fn restore_in_header(name: &str, scheme: &str, secret: &str) -> Result<Self, Error> {
        let message = "the stored token has an invalid header name";
        let name = HeaderName::try_from(name);
        let name = name.map_err(|_| Error::new(Kind::IllegalToken, message))?;
        Self::in_header(name, scheme, &SecretString::from(secret))
    }

    fn in_header(header: HeaderName, scheme: &str, secret: &SecretString) -> Result<Self, Error> {
        let value = credential_value(&header, scheme, secret)?;
        let secret_at = scheme.len();
        Ok(Self::new(
            Place::Header(header),
            Wire::Header { value, secret_at },
        ))
    }

    /// Sets the lifetime, at most 10 years. The lifetime counts from the start of the fetch.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        self.edit(|inner| inner.expiry = Expiry::In(lifetime.min(MAX_LIFETIME)))
    }

    /// Sets the secret of a per-request token. The token keeps its generation, so it remains the
    /// same credential.
    #[cfg(feature = "cookies")]
    #[must_use]
    pub(crate) fn with_secret(self, next: SecretString) -> Self {
        self.edit(|inner| {
            if let Wire::PerRequest { secret, .. } = &mut inner.wire {
                *secret = next;
            }
        })
    }

    /// Sets when the token expires.
    #[cfg(any(feature = "gcp", feature = "github", feature = "kubernetes"))]
    pub(crate) fn with_expiry(self, expiry: Expiry) -> Self {
        match expiry {
            Expiry::In(lifetime) => self.expires_in(lifetime),
            Expiry::At(end) => self.expires_at(end),
            Expiry::Never => self,
        }
    }

    /// Sets the wall-clock time at which the token expires.
    #[must_use]
    pub fn expires_at(self, time: SystemTime) -> Self {
        self.edit(|inner| inner.expiry = Expiry::At(time))
    }

    /// Sets when the cache refreshes the token in the background: this long after the start of the
    /// fetch. The duration is shorter than the lifetime. Some servers send this duration as
    /// `refresh_in`. [Jitter](crate::cache::TokenCacheBuilder::jitter) makes the refresh later,
    /// never earlier. The user's own
    /// [`refresh_before`](crate::cache::TokenCacheBuilder::refresh_before) takes precedence.
    ///
    /// Has no effect on a token without an expiry. Default: the cache decides, based on the
    /// lifetime.
    #[must_use]
    pub fn refresh_in(self, after: Duration) -> Self {
        let hint = RefreshHint::After(after.min(MAX_LIFETIME));
        self.edit(|inner| inner.refresh_hint = Some(hint))
    }

    /// Limits background refreshes to this last part of the lifetime. Use this limit for a server
    /// that returns the same token before that part begins. The metadata servers of cloud platforms
    /// do so. The limit also applies to the user's own
    /// [`refresh_before`](crate::cache::TokenCacheBuilder::refresh_before).
    ///
    /// Has no effect on a token without an expiry. Default: the cache decides, based on the
    /// lifetime.
    #[must_use]
    pub fn refresh_within_last(self, left: Duration) -> Self {
        let hint = RefreshHint::WithinLast(left.min(MAX_LIFETIME));
        self.edit(|inner| inner.refresh_hint = Some(hint))
    }

    /// Sets the granted scope: names separated by spaces (RFC 6749 §3.3).
    #[must_use]
    pub fn with_scope(self, scope: impl Into<Arc<str>>) -> Self {
        self.edit(|inner| inner.scope = Some(scope.into()))
    }

    /// Sets the requested scopes that the server did not grant. The scopes are sorted and separated
    /// by spaces.
    #[must_use]
    pub(crate) fn with_missing_scope(self, missing: Option<String>) -> Self {
        match missing {
            Some(missing) => self.with_detail(|details| details.missing_scope = Some(missing)),
            None => self,
        }
    }

    /// Records that the server sent a date in place of a lifetime.
    #[must_use]
    pub(crate) fn with_expiry_read_as_date(self) -> Self {
        self.with_detail(|details| details.is_expiry_read_as_date = true)
    }

    /// Records why the token couldn't be saved for the other processes of its login.
    #[must_use]
    pub(crate) fn with_not_saved(self, why: ServerText) -> Self {
        self.with_detail(|details| details.not_saved = Some(why))
    }

    fn with_detail(self, change: impl FnOnce(&mut Details)) -> Self {
        self.edit(|inner| change(Arc::make_mut(inner.details.get_or_insert_default())))
    }

    /// Sets the ID token that the server issued with this token (OpenID Connect Core §2).
    #[must_use]
    pub fn with_id_token(self, id_token: impl Into<SecretString>) -> Self {
        self.with_detail(|details| details.id_token = Some(id_token.into()))
    }

    /// Adds a field that [`extra`](Self::extra) returns. A field of the same name is replaced.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Token;
    ///
    /// let token = Token::bearer("issued")?
    ///     .with_extra("instance_url", "https://acme.example.com");
    /// let url = token.extra("instance_url").and_then(|url| url.as_str());
    /// assert_eq!(url, Some("https://acme.example.com"));
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    #[must_use]
    pub fn with_extra(self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with_detail(|details| details.extra.insert(name.into(), value.into().into()))
    }

    /// Sets all fields that [`extra`](Self::extra) returns.
    #[must_use]
    pub(crate) fn with_extra_fields(self, extra: ExtraFields) -> Self {
        match extra.is_empty() {
            true => self,
            false => self.with_detail(|details| details.extra = extra),
        }
    }

    /// Sets at most 8 quotas that the server reported with this token.
    ///
    /// [`Status::quotas`](crate::cache::Status::quotas) returns these quotas. If a quota is low,
    /// the cache postpones the background refresh of this token.
    #[must_use]
    pub fn with_quotas(self, quotas: impl IntoIterator<Item = Quota>) -> Self {
        let quotas = quota::bounded(quotas);
        self.edit(|inner| inner.quotas = quotas)
    }

    fn edit(mut self, change: impl FnOnce(&mut IssuedToken)) -> Self {
        change(Arc::make_mut(&mut self.inner));
        self
    }

    /// Returns where in a request the token goes. A bearer token goes in the `Authorization`
    /// header.
    ///
    /// # Example
    ///
    /// ```
    /// use http::header::AUTHORIZATION;
    /// use tower_auth::{Place, Token};
    ///
    /// let token = Token::bearer("secret")?;
    /// assert_eq!(token.place(), &Place::Header(AUTHORIZATION));
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    #[inline]
    pub fn place(&self) -> &Place {
        &self.inner.place
    }

    /// Returns the header value, which is marked sensitive. `None` if the token doesn't go in a
    /// header, or if each request has its own header value.
    pub fn header_value(&self) -> Option<&HeaderValue> {
        match &self.inner.wire {
            Wire::Header { value, .. } => Some(value),
            Wire::Query { .. } | Wire::PerRequest { .. } => None,
        }
    }

    /// Returns the bare secret, for uses without a header. Examples are a WebSocket's first message
    /// and a shell command.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{Error, TokenCache};
    ///
    /// /// The first message of a connection that has no headers.
    /// async fn greeting(cache: &TokenCache) -> Result<String, Error> {
    ///     let token = cache.token().await?;
    ///     Ok(format!("AUTH {}", token.secret()))
    /// }
    /// ```
    pub fn secret(&self) -> &str {
        match &self.inner.wire {
            // The value was built from two `str`s and is cut between them. So the secret is valid
            // UTF-8.
            Wire::Header { value, secret_at } => {
                std::str::from_utf8(&value.as_bytes()[*secret_at..]).unwrap_or("")
            }
            Wire::Query { secret, .. } | Wire::PerRequest { secret, .. } => secret.expose_secret(),
        }
    }

    /// Returns what another process needs, besides the secret, to restore the token. `None` if no
    /// other process could use the token.
    #[cfg(feature = "fleet")]
    pub(crate) fn stored_as(&self) -> Option<StoredAs<'_>> {
        match (&self.inner.place, &self.inner.wire) {
            (Place::Header(name), Wire::Header { value, secret_at }) => {
                let scheme = std::str::from_utf8(&value.as_bytes()[..*secret_at]);
                Some(StoredAs::Header {
                    name: name.as_str().into(),
                    scheme: scheme.ok()?.into(),
                })
            }
            (Place::Query(name), Wire::Query { .. }) => {
                let name = Cow::from(&**name);
                Some(StoredAs::Query { name })
            }
            (_, Wire::PerRequest { credential, .. }) => {
                let to = credential.bound_to()?.into();
                Some(StoredAs::Bound { to })
            }
            _ => None,
        }
    }

    /// Returns what the layer attaches to a request. If `private` contains a copy of the header
    /// value, the layer attaches this copy.
    #[inline]
    pub(crate) fn credential<'a>(&'a self, private: Option<&'a HeaderValue>) -> Credential<'a> {
        match (&self.inner.place, &self.inner.wire) {
            (Place::Header(name), Wire::Header { value, .. }) => {
                Credential::Header(name, private.unwrap_or(value))
            }
            (Place::Query(name), Wire::Query { pair, .. }) => {
                Credential::Query(name, pair.expose_secret())
            }
            (_, Wire::PerRequest { credential, .. }) => Credential::PerRequest(&**credential),
            _ => unreachable!("each constructor pairs a place with its wire encoding"),
        }
    }

    /// Returns the granted scope, if the server named the scope: names separated by spaces (RFC
    /// 6749 §3.3).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Token;
    ///
    /// /// Returns whether the user allowed the program to write.
    /// fn may_write(token: &Token) -> bool {
    ///     let granted = token.scope().unwrap_or_default();
    ///     granted.split(' ').any(|name| name == "write:things")
    /// }
    /// ```
    pub fn scope(&self) -> Option<&str> {
        self.inner.scope.as_deref()
    }

    /// Returns the requested scopes that the server did not grant, if this process knows them.
    pub(crate) fn missing_scope(&self) -> Option<&str> {
        self.details()?.missing_scope.as_deref()
    }

    /// Returns the ID token that the server issued with this token (OpenID Connect Core §2), if
    /// any. This crate doesn't verify the ID token, so don't rely on its claims.
    ///
    /// [`RefreshToken`](crate::oauth2::RefreshToken) keeps the last ID token of its login if a
    /// refresh returns none (§12.2).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Token;
    ///
    /// /// Returns the address where a browser ends the user's session at the server.
    /// fn logout_url(token: &Token) -> Option<String> {
    ///     let hint = token.id_token()?;
    ///     Some(format!("https://id.example.com/logout?id_token_hint={hint}"))
    /// }
    /// ```
    pub fn id_token(&self) -> Option<&str> {
        let id_token = self.details()?.id_token.as_ref();
        id_token.map(SecretString::expose_secret)
    }

    /// Returns a field of the response that contained this token, such as Salesforce's
    /// `instance_url`. The extra fields are the top-level fields for which the token has no method
    /// of its own. They never contain the access token or the refresh token.
    ///
    /// A value may be a secret, so don't log it. The strings are zeroized when the token's last
    /// clone is dropped. [`Debug`](fmt::Debug) shows only the names of the fields. The processes of
    /// a [`Fleet`](crate::docs::fleet) also share the fields.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Token;
    ///
    /// /// Returns the address of the customer's own Salesforce.
    /// fn instance(token: &Token) -> Option<&str> {
    ///     token.extra("instance_url")?.as_str()
    /// }
    /// ```
    #[doc(alias = "instance_url")]
    pub fn extra(&self, name: &str) -> Option<&Value> {
        self.details()?.extra.get(name)
    }

    pub(crate) fn extra_fields(&self) -> Option<&ExtraFields> {
        let extra = &self.details()?.extra;
        (!extra.is_empty()).then_some(extra)
    }

    /// Returns why the token couldn't be saved for the other processes of its login.
    pub(crate) fn not_saved(&self) -> Option<&ServerText> {
        self.details()?.not_saved.as_ref()
    }

    fn details(&self) -> Option<&Details> {
        self.inner.details.as_deref()
    }

    /// Returns whether the server sent the expiry as a date in place of a lifetime.
    pub(crate) fn is_expiry_read_as_date(&self) -> bool {
        let details = self.details();
        details.is_some_and(|details| details.is_expiry_read_as_date)
    }

    pub(crate) fn quotas(&self) -> &Arc<[Quota]> {
        &self.inner.quotas
    }

    pub(crate) fn scope_arc(&self) -> Option<Arc<str>> {
        self.inner.scope.clone()
    }

    pub(crate) fn refresh_hint(&self) -> Option<RefreshHint> {
        self.inner.refresh_hint
    }

    pub(crate) fn expiry(&self) -> Expiry {
        self.inner.expiry
    }

    /// Returns the generation number of the token. The number is unique in this process and never
    /// zero.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.inner.generation
    }

    /// Returns a copy of the header value that shares its reference count with no other copy.
    pub(crate) fn private_header_value(&self) -> Option<HeaderValue> {
        let value = self.header_value()?;
        let bytes = Zeroizing::new(value.as_bytes().to_vec());
        Some(sensitive(bytes).unwrap_or_else(|| value.clone()))
    }

    /// Returns whether both tokens send the same credential. If so, a server that refuses one token
    /// also refuses the other token.
    pub(crate) fn is_same_credential(&self, other: &Self) -> bool {
        let (one, other) = (&self.inner, &other.inner);
        // A session's token keeps its generation when the session's cookies change.
        one.generation == other.generation
            || (one.place == other.place && one.wire.is_same(&other.wire))
    }
}

impl Wire {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Header { value: one, .. }, Self::Header { value: other, .. }) => one == other,
            (Self::Query { pair: one, .. }, Self::Query { pair: other, .. })
            | (Self::PerRequest { secret: one, .. }, Self::PerRequest { secret: other, .. }) => {
                one.expose_secret() == other.expose_secret()
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Token");
        debug
            .field("generation", &self.inner.generation)
            .field("place", &self.inner.place)
            .field("secret", &"[redacted]")
            .field("expiry", &self.inner.expiry)
            .field("refresh_hint", &self.inner.refresh_hint)
            .field("scope", &self.scope().map(ServerText::new));
        if let Some(details) = self.details() {
            debug
                .field("has_id_token", &details.id_token.is_some())
                .field("extra", &details.extra);
        }
        debug.finish()
    }
}

/// A unit test, because only this crate can change a token's secret.
#[cfg(all(test, feature = "cookies"))]
mod tests {
    use http::StatusCode;
    use http::header::HeaderMap;

    use super::*;
    use crate::error::BoxError;
    use crate::token::per_request::{Applied, Feedback};
    use crate::token::request_head::RequestHead;

    struct Nothing;

    impl PerRequestCredential for Nothing {
        fn apply(&self, _: &RequestHead, _: &mut HeaderMap) -> Result<Applied, BoxError> {
            Ok(Applied::Done)
        }

        fn observe(&self, _: &RequestHead, _: StatusCode, _: &HeaderMap) -> Feedback {
            Feedback::Nothing
        }
    }

    #[test]
    fn a_token_with_another_secret_is_the_same_token() {
        let token = || Token::per_request(Place::Cookie, "sid=1", Arc::new(Nothing));
        let first = token();
        let next = first.clone().with_secret("sid=2".into());
        assert_eq!((next.secret(), first.secret()), ("sid=2", "sid=1"));
        assert!(next.is_same_credential(&first));
        assert!(!next.is_same_credential(&token()));
    }
}
