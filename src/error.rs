//! The error of this crate: opaque, and a cheap clone for all callers that waited for the same fetch.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, StatusCode};

use crate::sanitize::sanitize;

/// Any error of another crate, as Tower's own layers carry it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why there is no token, or why a request was not sent.
///
/// One failed fetch has many waiters, so the error is a cheap clone. It is opaque: query it with
/// the `is_*` methods, and read what the authorization server said with [`status`](Error::status),
/// [`code`](Error::code) and [`description`](Error::description). [`Display`](fmt::Display) prints
/// this level only; the cause is behind [`source`](StdError::source).
///
/// No text of it contains a secret or a token. Of a server's reply it shows only the fields of RFC 6749
/// §5.2, without control characters and cut to a bounded length.
///
/// # Example
///
/// ```
/// use tower_auth::{Error, Token};
///
/// let error: Error = Token::bearer("two\nlines").unwrap_err();
/// assert!(error.is_illegal_token());
/// assert!(!error.is_timeout());
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<ErrorInner>,
}

struct ErrorInner {
    kind: Kind,
    message: Cow<'static, str>,
    reply: Option<Reply>,
    retry_after: Option<Duration>,
    /// What other parts of the crate attach to an error, by type.
    attached: Extensions,
    source: Option<BoxError>,
}

/// What happened, in one word; each `is_*` method of [`Error`] says what its kind means. Private: new
/// kinds are no breaking change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Config,
    Source,
    /// A [`Source`](Self::Source) failed in a way that may pass.
    Transient,
    Closed,
    Timeout,
    Panic,
    Runtime,
    IllegalToken,
    Expired,
    Origin,
    Transport,
    Denied,
    Reply,
    LoginRequired,
}

/// What the token endpoint answered, as far as it is safe to keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// `None` if the reply came through a browser, which shows no status.
    pub(crate) status: Option<StatusCode>,
    pub(crate) code: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

/// Codes that are permanent whatever the status (RFC 6749 §5.2).
const PERMANENT: &[&str] = &[
    "invalid_client",
    "unauthorized_client",
    "invalid_scope",
    "unsupported_grant_type",
];

/// Codes of a server that has a problem or limits the rate (RFC 6749 §4.1.2.1, RFC 8628
/// §3.5), or that has just changed the nonce it wants (RFC 9449 §8), for which some send a 400.
const PASSING: &[&str] = &[
    "temporarily_unavailable",
    "server_error",
    "slow_down",
    "use_dpop_nonce",
];

/// The other codes of RFC 6749 §5.2 and §4.1.2.1 and of RFC 9449 §5. With these the status decides
/// whether the error may pass.
const OTHER_CODES: &[&str] = &[
    "invalid_request",
    "invalid_grant",
    "access_denied",
    "invalid_dpop_proof",
];

impl Error {
    /// Wraps the error of a [`TokenSource`](crate::TokenSource) of your own.
    ///
    /// # Example
    ///
    /// ```
    /// let error = tower_auth::Error::other("the vault is sealed");
    /// assert!(error.is_source());
    /// assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the vault is sealed");
    /// ```
    pub fn other(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Source, "the token source failed").with_source(source)
    }

    /// Wraps an error of a [`TokenSource`](crate::TokenSource) of your own that may pass by itself,
    /// such as a broken connection: the cache makes another attempt within the same fetch.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let error = tower_auth::Error::transient("the vault is busy")
    ///     .with_retry_after(Duration::from_secs(2));
    /// assert!(error.is_source() && error.is_transient());
    /// assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    /// ```
    pub fn transient(source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Transient, "the token source failed").with_source(source)
    }

    /// The error of a [`PerRequestCredential`](crate::token::PerRequestCredential) that failed.
    pub(crate) fn not_applied(source: BoxError) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => *error,
            Err(source) => {
                let message = "the credential for the request could not be made";
                Self::new(Kind::Source, message).with_source(source)
            }
        }
    }

    /// Says how long to wait before the next attempt, as a server told a source of your own. No effect on an error that has clones.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(wait))
    }

    pub(crate) fn new(kind: Kind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Arc::new(ErrorInner {
                kind,
                message: message.into(),
                reply: None,
                retry_after: None,
                attached: Extensions::new(),
                source: None,
            }),
        }
    }

    /// An error response of the token endpoint. The server's texts are sanitized here, so that no caller
    /// can forget to.
    pub(crate) fn denied(message: impl Into<Cow<'static, str>>, reply: Reply) -> Self {
        Self::new(Kind::Denied, message).with_reply(reply)
    }

    pub(crate) fn with_reply(self, mut reply: Reply) -> Self {
        reply.code = reply.code.as_deref().map(sanitize);
        reply.description = reply.description.as_deref().map(sanitize);
        self.edit(|inner| inner.reply = Some(reply))
    }

    pub(crate) fn with_source(self, source: impl Into<BoxError>) -> Self {
        self.edit(|inner| inner.source = Some(source.into()))
    }

    /// Attaches a value; replaces one of the same type. No effect on an error that has clones.
    pub(crate) fn attach<T>(self, value: T) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        self.edit(|inner| {
            inner.attached.insert(value);
        })
    }

    /// The value of this type that was attached.
    pub(crate) fn attached<T>(&self) -> Option<&T>
    where
        T: Send + Sync + 'static,
    {
        self.inner.attached.get()
    }

    /// Only for a new error, which has no clones yet.
    fn edit(mut self, change: impl FnOnce(&mut ErrorInner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            change(inner);
        }
        self
    }

    fn is(&self, kind: Kind) -> bool {
        self.inner.kind == kind
    }

    fn has_code(&self, code: &str) -> bool {
        self.code() == Some(code)
    }

    fn reply(&self) -> Option<&Reply> {
        self.inner.reply.as_ref()
    }

    /// A setting can't be used as it was given: an address without a host, a name that is no
    /// header name.
    pub fn is_config(&self) -> bool {
        self.is(Kind::Config)
    }

    /// A [`TokenSource`](crate::TokenSource) of your own failed, or a
    /// [`PerRequestCredential`](crate::token::PerRequestCredential); its error is the
    /// [`source`](StdError::source).
    pub fn is_source(&self) -> bool {
        self.is(Kind::Source) || self.is(Kind::Transient)
    }

    /// The [`TokenCache`](crate::TokenCache) was [closed](crate::TokenCache::close): there are no
    /// more tokens.
    pub fn is_closed(&self) -> bool {
        self.is(Kind::Closed)
    }

    /// It may pass by itself within seconds: no connection, no answer in time, status 408, 425,
    /// 429 or 5xx, the codes `temporarily_unavailable`, `server_error`, `slow_down` and
    /// `use_dpop_nonce`, or what a source of your own calls [`transient`](Self::transient). Such a fetch is tried again.
    pub fn is_transient(&self) -> bool {
        match self.inner.kind {
            Kind::Transport | Kind::Timeout | Kind::Transient => true,
            Kind::Denied => !self.has_permanent_code() && self.is_passing_denial(),
            _ => false,
        }
    }

    /// It stays until somebody changes a setting, here or at the server: the server has refused (`invalid_client`, `unauthorized_client`, `invalid_scope`,
    /// `unsupported_grant_type`, any other 4xx).
    pub fn is_permanent(&self) -> bool {
        match self.inner.kind {
            Kind::Config | Kind::LoginRequired => true,
            Kind::Denied => !self.is_transient(),
            _ => false,
        }
    }

    fn has_permanent_code(&self) -> bool {
        PERMANENT.iter().any(|code| self.has_code(code))
    }

    fn is_passing_denial(&self) -> bool {
        let passes = |status: StatusCode| {
            status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
        };
        self.status().is_some_and(passes) || PASSING.iter().any(|code| self.has_code(code))
    }

    /// The fetch took longer than it may: the limit of the whole fetch, or that of the token endpoint.
    pub fn is_timeout(&self) -> bool {
        self.is(Kind::Timeout)
    }

    /// The source panicked. The panic was caught on the task of the fetch; the next attempt isn't
    /// affected.
    pub fn is_panic(&self) -> bool {
        self.is(Kind::Panic)
    }

    /// There is no Tokio runtime to fetch on, or it is shutting down.
    pub fn is_runtime(&self) -> bool {
        self.is(Kind::Runtime)
    }

    /// The token holds bytes that are illegal in a header (RFC 9110 §5.5).
    pub fn is_illegal_token(&self) -> bool {
        self.is(Kind::IllegalToken)
    }

    /// The token had expired by the time it arrived, so it was never sent.
    pub fn is_expired(&self) -> bool {
        self.is(Kind::Expired)
    }

    /// The credential would have gone over cleartext or to an origin it doesn't belong to. The
    /// request was not sent.
    pub fn is_origin(&self) -> bool {
        self.is(Kind::Origin)
    }

    /// The token endpoint could not be reached, or the connection broke before its answer.
    pub fn is_transport(&self) -> bool {
        self.is(Kind::Transport)
    }

    /// The token endpoint answered with an error: a status that isn't a success, or a 200 that
    /// carries `error`.
    pub fn is_denied(&self) -> bool {
        self.is(Kind::Denied)
    }

    /// The server's answer can't be understood: not JSON, no `access_token`, too large, a redirect.
    /// Or what a browser brought back isn't the answer to the request that it was sent with.
    pub fn is_reply(&self) -> bool {
        self.is(Kind::Reply)
    }

    /// The authorization server doesn't know this client or its secret (`invalid_client`,
    /// RFC 6749 §5.2).
    pub fn is_invalid_client(&self) -> bool {
        self.has_code("invalid_client")
    }

    /// The requested scope is unknown or not allowed (`invalid_scope`, RFC 6749 §5.2).
    pub fn is_invalid_scope(&self) -> bool {
        self.has_code("invalid_scope")
    }

    /// The grant (a code, a refresh token, an assertion) is wrong, expired or revoked
    /// (`invalid_grant`, RFC 6749 §5.2).
    pub fn is_invalid_grant(&self) -> bool {
        self.has_code("invalid_grant")
    }

    /// A person has to log in again: the grant of an earlier login is used up, revoked or
    /// expired (`invalid_grant`, RFC 6749 §5.2), or there is none. Trying again won't help.
    pub fn is_login_required(&self) -> bool {
        self.is(Kind::LoginRequired)
    }

    /// The person, or the authorization server for them, has said no (`access_denied`, RFC 6749
    /// §4.1.2.1, RFC 8628 §3.5).
    pub fn is_access_denied(&self) -> bool {
        self.has_code("access_denied")
    }

    /// The server wants a nonce in the proof, or another (RFC 9449 §8).
    pub(crate) fn wants_nonce(&self) -> bool {
        self.has_code("use_dpop_nonce")
    }

    /// The client may not use this grant (`unauthorized_client`, RFC 6749 §5.2).
    pub fn is_unauthorized_client(&self) -> bool {
        self.has_code("unauthorized_client")
    }

    /// The status of the token endpoint's answer, if it answered.
    pub fn status(&self) -> Option<StatusCode> {
        self.reply()?.status
    }

    /// The `error` code of the token endpoint's answer (RFC 6749 §5.2), such as `invalid_client`.
    pub fn code(&self) -> Option<&str> {
        self.reply()?.code.as_deref()
    }

    /// The `error_description` of the token endpoint's answer (RFC 6749 §5.2), without control
    /// characters, at most 256 bytes of it.
    pub fn description(&self) -> Option<&str> {
        self.reply()?.description.as_deref()
    }

    /// How long to wait before the next request, by the token endpoint's response (`Retry-After`, RFC 9110 §10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        let own = self.inner.retry_after;
        own.or_else(|| self.reply()?.retry_after)
    }

    /// What `error.type` is in logs and metrics: the server's code if it sent one of the known
    /// ones, else the kind. Of few values, as OpenTelemetry wants it.
    pub(crate) fn type_name(&self) -> &'static str {
        let known = PERMANENT.iter().chain(PASSING).chain(OTHER_CODES);
        if let Some(code) = known.copied().find(|code| self.has_code(code)) {
            return code;
        }
        match self.inner.kind {
            Kind::Config => "config",
            Kind::Source | Kind::Transient => "source",
            Kind::Closed => "closed",
            Kind::Timeout => "timeout",
            Kind::Panic => "panic",
            Kind::Runtime => "runtime",
            Kind::IllegalToken => "illegal_token",
            Kind::Expired => "expired",
            Kind::Origin => "origin",
            Kind::Transport => "transport",
            Kind::Denied => "denied",
            Kind::Reply => "reply",
            Kind::LoginRequired => "login_required",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        let Some(reply) = self.reply() else {
            return Ok(());
        };
        let status = reply
            .status
            .map(|status| format!("status {}", status.as_u16()));
        let code = reply.code.as_ref().map(|code| format!("error `{code}`"));
        let said: Vec<String> = status.into_iter().chain(code).collect();
        write!(f, " ({}", said.join(", "))?;
        if let Some(description) = &reply.description {
            write!(f, ": {description}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message);
        if let Some(reply) = self.reply() {
            debug.field("reply", reply);
        }
        if let Some(source) = &self.inner.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.inner.source.as_deref()?;
        Some(source)
    }
}
