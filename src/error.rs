//! The error of this crate. It is opaque and cheap to clone.

use std::error::Error as StdError;
use std::fmt;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, StatusCode};

use crate::sanitize::{Message, ServerText, printable};

/// Any boxed error, as in Tower's own layers.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// The reason why there is no token, or why a request was not sent.
///
/// The error is cheap to clone, because many callers can wait for one failed fetch. Query the error
/// with the `is_*` methods. The authorization server's own words are in [`status`](Error::status),
/// [`code`](Error::code) and [`description`](Error::description). [`Display`](fmt::Display) prints
/// this error only; [`source`](StdError::source) returns its cause.
///
/// The text of an error never contains a secret or a token. From the body of a token response, the
/// text contains only fields that explain the error. These are the fields of RFC 6749 §5.2, and
/// others such as `message` and `error_code`. Each text of a server is cut to 256 bytes, and spaces
/// replace control characters and invisible characters.
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
///
/// Advice for each kind of error:
///
/// ```
/// use tower_auth::Error;
///
/// fn advice(error: &Error) -> &'static str {
///     if error.is_login_required() || error.is_access_denied() {
///         "the user has to log in again"
///     } else if error.is_invalid_client() || error.is_unauthorized_client() {
///         "register the client, its secret and its grant at the server"
///     } else if error.is_invalid_grant() {
///         "replace the assertion"
///     } else if error.is_invalid_scope() {
///         "correct the scope that the program requests"
///     } else if error.is_config() || error.is_origin() {
///         "correct the settings"
///     } else if error.is_source() || error.is_panic() || error.is_illegal_token() {
///         "look for a fault in the source"
///     } else if error.is_runtime() {
///         "call the cache on a Tokio runtime"
///     } else if error.is_closed() {
///         "the program is shutting down"
///     } else if error.is_transport() || error.is_timeout() {
///         "check the network and the server"
///     } else if error.is_expired() {
///         "compare the clocks of the server and of this machine"
///     } else if error.is_denied() || error.is_reply() {
///         "ask the server's operator"
///     } else {
///         "read the log"
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<ErrorInner>,
}

#[derive(Clone)]
struct ErrorInner {
    kind: Kind,
    message: Message,
    reply: Option<Reply>,
    retry_after: Option<Duration>,
    /// Values that other parts of the crate attach to an error, at most one of each type.
    attached: Extensions,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// The source that callers of a gRPC client see. The source of this status is the error's true
    /// source.
    #[cfg(feature = "tonic")]
    grpc_status: Option<tonic::Status>,
}

/// The kind of an error. Each `is_*` method of [`Error`] documents its kind. The type is private,
/// so new kinds aren't breaking changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Config,
    Source,
    /// A transient error of a source.
    Transient,
    /// A permanent error of a source.
    Permanent,
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

/// Your own error type that `?` converts into an [`Error`].
///
/// Errors of other crates don't implement this trait, because only your source knows whether an
/// error is transient. Your source chooses between `.map_err(Error::other)?` and
/// `.map_err(Error::transient)?`.
///
/// # Example
///
/// ```
/// use tower_auth::source::SourceError;
/// use tower_auth::{Error, Token};
///
/// struct VaultError {
///     is_busy: bool,
/// }
///
/// impl SourceError for VaultError {
///     fn into_error(self) -> Error {
///         match self.is_busy {
///             true => Error::transient("the vault is busy"),
///             false => Error::other("the vault is sealed"),
///         }
///     }
/// }
///
/// fn token(secret: Result<&'static str, VaultError>) -> Result<Token, Error> {
///     Token::bearer(secret?)
/// }
/// let error = token(Err(VaultError { is_busy: true })).unwrap_err();
/// assert!(error.is_transient());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` doesn't convert into `tower_auth::Error` by itself",
    label = "write `.map_err(Error::other)?`, or `.map_err(Error::transient)?` if the error may pass by itself"
)]
pub trait SourceError {
    /// Converts the error with [`Error::other`] or [`Error::transient`].
    fn into_error(self) -> Error;
}

impl<E> From<E> for Error
where
    E: SourceError,
{
    fn from(error: E) -> Self {
        error.into_error()
    }
}

/// The part of a token endpoint's response that is safe to keep.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// `None` if the response came through a browser, because a browser shows no status.
    pub(crate) status: Option<StatusCode>,
    pub(crate) code: Option<ServerText>,
    pub(crate) description: Option<ServerText>,
    /// The texts of fields that RFC 6749 doesn't define, such as `message`.
    pub(crate) remarks: Option<ServerText>,
    pub(crate) retry_after: Option<Duration>,
    /// Whether the code is a `login_required_code` of the response format.
    pub(crate) is_invalid_grant: bool,
    /// Whether this server uses the status for errors that pass by themselves.
    pub(crate) is_passing: bool,
}

/// Codes that mean a permanent error, with any status (RFC 6749 §5.2).
const PERMANENT: &[&str] = &[
    "invalid_client",
    "unauthorized_client",
    "invalid_scope",
    "unsupported_grant_type",
];

/// Codes that mean a transient error. Some servers send them with a 400.
///
/// - The server has a problem or limits the rate (RFC 6749 §4.1.2.1, RFC 8628 §3.5).
/// - The server wants a new nonce (RFC 9449 §8).
const PASSING: &[&str] = &[
    "temporarily_unavailable",
    "server_error",
    "slow_down",
    "use_dpop_nonce",
];

/// The other codes of RFC 6749 §5.2 and §4.1.2.1 and of RFC 9449 §5. For these codes, the status
/// decides whether the error is transient.
const OTHER_CODES: &[&str] = &[
    "invalid_request",
    "invalid_grant",
    "access_denied",
    "invalid_dpop_proof",
];

impl Error {
    /// Wraps an error of your own [`TokenSource`](crate::TokenSource).
    ///
    /// # Example
    ///
    /// ```
    /// let error = tower_auth::Error::other("the vault is sealed");
    /// assert!(error.is_source());
    /// assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the vault is sealed");
    /// ```
    pub fn other(source: impl Into<BoxError>) -> Self {
        Self::of_source(Kind::Source, source)
    }

    /// Wraps a transient error of your own [`TokenSource`](crate::TokenSource), such as a broken
    /// connection. After such an error, the cache tries again within the same fetch.
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
        Self::of_source(Kind::Transient, source)
    }

    /// Wraps a permanent error of your own [`TokenSource`](crate::TokenSource), such as a revoked
    /// key. Such an error lasts until a person acts. The cache waits 60 s before the next attempt.
    ///
    /// # Example
    ///
    /// ```
    /// let error = tower_auth::Error::permanent("the vault has no such role");
    /// assert!(error.is_source() && error.is_permanent());
    /// ```
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self::of_source(Kind::Permanent, source)
    }

    /// Makes the error for a [`PerRequestCredential`](crate::token::PerRequestCredential) that
    /// failed.
    pub(crate) fn not_applied(source: BoxError) -> Self {
        match source.downcast::<Self>() {
            Ok(error) => *error,
            Err(source) => {
                let message = "the credential for the request could not be made";
                Self::new(Kind::Source, message).caused_by(source)
            }
        }
    }

    /// Finds an error of this crate. The result is the given error, or the first such error in its
    /// chain of [sources](StdError::source).
    ///
    /// `downcast_ref` checks only the outermost error, but a client or an application may wrap an
    /// error of this crate. For example, a generated gRPC client returns a `tonic::Status`. If
    /// there was no token, the source of this status is an `Error`.
    /// [`CallError`](crate::layer::CallError) tells the errors of a call apart without this search.
    ///
    /// This function doesn't find an `Error` directly inside some wrappers, such as
    /// [`std::io::Error`] and `#[error(transparent)]` of `thiserror`. These wrappers return the
    /// source of the wrapped error as their own source.
    ///
    /// # Example
    ///
    /// ```
    /// use std::io;
    ///
    /// use tower_auth::Error;
    /// use tower_auth::layer::CallError;
    ///
    /// let wrapped = CallError::<io::Error>::from(Error::other("the vault is sealed"));
    /// let found = Error::find(&wrapped);
    /// assert!(found.is_some_and(Error::is_source));
    ///
    /// assert!(Error::find(&io::Error::other("no route")).is_none());
    /// ```
    pub fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        let mut chain = iter::successors(Some(error), |&error| error.source());
        chain.find_map(|error| error.downcast_ref())
    }

    /// Sets how long to wait before the next attempt. Use this method if a server told your own
    /// source to wait. Has no effect if the error has clones.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(wait))
    }

    fn of_source(kind: Kind, source: impl Into<BoxError>) -> Self {
        Self::new(kind, "the token source failed").caused_by(source.into())
    }

    pub(crate) fn new(kind: Kind, message: impl Into<Message>) -> Self {
        Self {
            inner: Arc::new(ErrorInner {
                kind,
                message: message.into(),
                reply: None,
                retry_after: None,
                attached: Extensions::new(),
                source: None,
                #[cfg(feature = "tonic")]
                grpc_status: None,
            }),
        }
    }

    /// Makes the error for an error response of the token endpoint.
    pub(crate) fn denied(message: impl Into<Message>, reply: Reply) -> Self {
        Self::new(Kind::Denied, message).with_reply(reply)
    }

    pub(crate) fn with_reply(self, reply: Reply) -> Self {
        self.edit(|inner| inner.reply = Some(reply))
    }

    /// Makes the error [transient](Self::is_transient), whatever its status.
    #[cfg(any(feature = "azure", feature = "github", feature = "vault"))]
    pub(crate) fn passing(self) -> Self {
        self.edit(|inner| {
            if let Some(reply) = &mut inner.reply {
                reply.is_passing = true;
            }
        })
    }

    /// Replaces the message, and keeps what the server said.
    pub(crate) fn with_message(self, message: &'static str) -> Self {
        self.edit(|inner| inner.message = message.into())
    }

    /// Sets the cause. Keeps only the text of a cause that isn't [safe to print](printable).
    pub(crate) fn with_source(self, source: impl Into<BoxError>) -> Self {
        self.caused_by(printable(source.into()))
    }

    /// Sets the cause without a check of its text. This is for errors of the user's own code, which
    /// the caller may want to downcast.
    fn caused_by(self, source: BoxError) -> Self {
        self.edit(|inner| inner.source = Some(Arc::from(source)))
    }

    /// Returns a copy whose [`source`](StdError::source) is this status.
    #[cfg(feature = "tonic")]
    pub(crate) fn with_grpc_status(&self, status: tonic::Status) -> Self {
        let mut inner = (*self.inner).clone();
        inner.grpc_status = Some(status);
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Returns the true source, even if a gRPC status hides it.
    #[cfg(feature = "tonic")]
    pub(crate) fn shared_source(&self) -> Option<&Arc<dyn StdError + Send + Sync>> {
        self.inner.source.as_ref()
    }

    /// Attaches a value. The new value replaces an attached value of the same type. Has no effect
    /// if the error has clones.
    pub(crate) fn attach<T>(self, value: T) -> Self
    where
        T: Clone + Send + Sync + 'static,
    {
        self.edit(|inner| {
            inner.attached.insert(value);
        })
    }

    /// Returns the attached value of this type.
    pub(crate) fn attached<T>(&self) -> Option<&T>
    where
        T: Send + Sync + 'static,
    {
        self.inner.attached.get()
    }

    /// Changes a new error. Has no effect if the error has clones.
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

    /// Returns `true` if a setting is invalid. Examples are an address without a host and an
    /// invalid header name.
    pub fn is_config(&self) -> bool {
        self.is(Kind::Config)
    }

    /// Returns `true` if your own [`TokenSource`](crate::TokenSource) or
    /// [`PerRequestCredential`](crate::token::PerRequestCredential) failed. Your own error is the
    /// [`source`](StdError::source).
    pub fn is_source(&self) -> bool {
        matches!(
            self.inner.kind,
            Kind::Source | Kind::Transient | Kind::Permanent
        )
    }

    /// Returns `true` if the [`TokenCache`](crate::TokenCache) is
    /// [closed](crate::TokenCache::close).
    pub fn is_closed(&self) -> bool {
        self.is(Kind::Closed)
    }

    /// Returns `true` if another attempt may succeed within seconds. After such an error, the cache
    /// tries again within the same fetch. The cause is one of these:
    ///
    /// - There was no connection, or no response in time.
    /// - The status was 408, 425, 429 or 5xx.
    /// - The code was `temporarily_unavailable`, `server_error`, `slow_down` or `use_dpop_nonce`.
    /// - Your own source returned a [`transient`](Self::transient) error.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::{Error, Token, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// // By default, one fetch makes three attempts before the caller gets such an error.
    /// let cache = TokenCache::builder(|_| async { Err::<Token, _>(Error::transient("busy")) })
    ///     .fetch_attempts(1)
    ///     .build();
    /// let error = cache.token().await.unwrap_err();
    /// assert!(error.is_transient() && !error.is_permanent());
    /// # Ok(()) }
    /// ```
    pub fn is_transient(&self) -> bool {
        match self.inner.kind {
            Kind::Transport | Kind::Timeout | Kind::Transient => true,
            Kind::Denied => !self.has_permanent_code() && self.is_passing_denial(),
            _ => false,
        }
    }

    /// Returns `true` if the error lasts until a person acts:
    ///
    /// - A setting is invalid.
    /// - The credential [may not go](Self::is_origin) to the request's origin.
    /// - A person has to log in again.
    /// - The server refused, and the error isn't [transient](Self::is_transient). Examples are
    ///   `invalid_client`, `unauthorized_client`, `invalid_scope` and `unsupported_grant_type`.
    /// - Your own source returned a [`permanent`](Self::permanent) error.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Error;
    ///
    /// /// Returns whether an operator has to act, because waiting doesn't help.
    /// fn needs_operator(error: &Error) -> bool {
    ///     error.is_permanent() && !error.is_login_required()
    /// }
    /// ```
    pub fn is_permanent(&self) -> bool {
        match self.inner.kind {
            Kind::Config | Kind::LoginRequired | Kind::Origin | Kind::Permanent => true,
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
        self.reply().is_some_and(|reply| reply.is_passing)
            || self.status().is_some_and(passes)
            || PASSING.iter().any(|code| self.has_code(code))
    }

    /// Returns `true` if a fetch or a wait timed out. The cause is one of these:
    ///
    /// - the timeout of the whole fetch
    /// - the timeout of one request to the token endpoint
    /// - the timeout of [`TokenCache::ready`](crate::TokenCache::ready)
    pub fn is_timeout(&self) -> bool {
        self.is(Kind::Timeout)
    }

    /// Returns `true` if the source panicked. The fetch task caught the panic, so the next attempt
    /// isn't affected.
    pub fn is_panic(&self) -> bool {
        self.is(Kind::Panic)
    }

    /// Returns `true` if a fetch needs a Tokio runtime, but there is no runtime or the runtime is
    /// shutting down.
    pub fn is_runtime(&self) -> bool {
        self.is(Kind::Runtime)
    }

    /// Returns `true` if the token is empty or contains bytes that a header may not contain (RFC
    /// 9110 §5.5).
    pub fn is_illegal_token(&self) -> bool {
        self.is(Kind::IllegalToken)
    }

    /// Returns `true` if the new token had already expired when it arrived. Such a token is never
    /// sent.
    pub fn is_expired(&self) -> bool {
        self.is(Kind::Expired)
    }

    /// Returns `true` if the request was not sent, to protect its credential. The request would
    /// have gone over cleartext, or to an origin that may not receive the credential.
    pub fn is_origin(&self) -> bool {
        self.is(Kind::Origin)
    }

    /// Returns `true` if the token endpoint could not be reached, or the connection broke before
    /// the response.
    pub fn is_transport(&self) -> bool {
        self.is(Kind::Transport)
    }

    /// Returns `true` if the token endpoint returned an error. Such a response has a status other
    /// than success, or is a 200 that contains `error`.
    pub fn is_denied(&self) -> bool {
        self.is(Kind::Denied)
    }

    /// Returns `true` if the server's response is unusable: not JSON, without `access_token`, too
    /// large, a redirect, or in an unsupported [content
    /// coding](crate::oauth2::Transport#content-codings). Also returns `true` if a browser delivered
    /// a response that doesn't belong to the authorization request.
    pub fn is_reply(&self) -> bool {
        self.is(Kind::Reply)
    }

    /// Returns `true` if the authorization server doesn't accept this client or its secret
    /// (`invalid_client`, RFC 6749 §5.2).
    pub fn is_invalid_client(&self) -> bool {
        self.has_code("invalid_client")
    }

    /// Returns `true` if the requested scope is unknown or not allowed (`invalid_scope`, RFC 6749
    /// §5.2).
    pub fn is_invalid_scope(&self) -> bool {
        self.has_code("invalid_scope")
    }

    /// Returns `true` if the grant is invalid, expired or revoked (`invalid_grant`, RFC 6749 §5.2).
    /// A grant is a code, a refresh token or an assertion. Codes that are set with
    /// [`login_required_code`](crate::oauth2::TokenResponseFormat::login_required_code) also count.
    pub fn is_invalid_grant(&self) -> bool {
        self.has_code("invalid_grant") || self.reply().is_some_and(|reply| reply.is_invalid_grant)
    }

    /// Returns `true` if a person has to log in again, so another attempt won't help. Either there
    /// is no grant, or the grant of an earlier login is invalid (`invalid_grant`, RFC 6749 §5.2).
    /// An invalid grant was already used, was revoked or has expired.
    pub fn is_login_required(&self) -> bool {
        self.is(Kind::LoginRequired)
    }

    /// Returns `true` if the person or the authorization server denied access (`access_denied`, RFC
    /// 6749 §4.1.2.1, RFC 8628 §3.5).
    pub fn is_access_denied(&self) -> bool {
        self.has_code("access_denied")
    }

    /// Returns `true` if the server wants a nonce, or a different nonce, in the DPoP proof (RFC
    /// 9449 §8).
    pub(crate) fn wants_nonce(&self) -> bool {
        self.has_code("use_dpop_nonce")
    }

    /// Returns `true` if the client may not use this grant (`unauthorized_client`, RFC 6749 §5.2).
    pub fn is_unauthorized_client(&self) -> bool {
        self.has_code("unauthorized_client")
    }

    /// Returns the status of the token endpoint's response, if there was a response.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Error;
    ///
    /// /// Logs what the authorization server said.
    /// fn log(error: &Error) {
    ///     let status = error.status().map(|status| status.as_u16());
    ///     let (code, description) = (error.code(), error.description());
    ///     tracing::warn!(status, code, description, "the fetch failed");
    /// }
    /// ```
    pub fn status(&self) -> Option<StatusCode> {
        self.reply()?.status
    }

    /// Returns the `error` code of the token endpoint's response (RFC 6749 §5.2), such as
    /// `invalid_client`. The setting
    /// [`error_code_field`](crate::oauth2::TokenResponseFormat::error_code_field) chooses another
    /// field.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Error;
    ///
    /// /// Returns whether a server that limits its clients refused the fetch.
    /// fn is_over_quota(error: &Error) -> bool {
    ///     error.code() == Some("too_many_requests")
    /// }
    /// ```
    pub fn code(&self) -> Option<&str> {
        Some(self.reply()?.code.as_ref()?.as_str())
    }

    /// Returns the `error_description` of the token endpoint's response (RFC 6749 §5.2). The text is
    /// cut to 256 bytes, and spaces replace control characters and invisible characters.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Error;
    ///
    /// /// Prefers the server's own words, which say more.
    /// fn explain(error: &Error) -> String {
    ///     error.description().map_or_else(|| error.to_string(), str::to_owned)
    /// }
    /// ```
    pub fn description(&self) -> Option<&str> {
        Some(self.reply()?.description.as_ref()?.as_str())
    }

    /// Returns how long to wait before the next request. The value comes from
    /// [`with_retry_after`](Self::with_retry_after) or the token endpoint's `Retry-After` (RFC 9110
    /// §10.2.3).
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::Error;
    ///
    /// /// Returns the pause before a job starts again, or `None` if a person has to act first.
    /// fn pause(error: &Error) -> Option<Duration> {
    ///     let pause = error.retry_after().unwrap_or(Duration::from_secs(30));
    ///     (!error.is_permanent()).then_some(pause)
    /// }
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        let own = self.inner.retry_after;
        own.or_else(|| self.reply()?.retry_after)
    }

    /// Returns the text of this error, without the server's own words.
    #[cfg(feature = "fleet")]
    pub(crate) fn message(&self) -> &str {
        self.inner.message.as_str()
    }

    /// Returns the `error.type` for logs and metrics. The value is the server's code if this crate
    /// knows that code, otherwise the error's kind. OpenTelemetry requires a small number of
    /// different values.
    pub(crate) fn type_name(&self) -> &'static str {
        let known = PERMANENT.iter().chain(PASSING).chain(OTHER_CODES);
        if let Some(code) = known.copied().find(|code| self.has_code(code)) {
            return code;
        }
        if self.is_invalid_grant() {
            return "invalid_grant";
        }
        match self.inner.kind {
            Kind::Config => "config",
            Kind::Source | Kind::Transient | Kind::Permanent => "source",
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
        f.write_str(self.inner.message.as_str())?;
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
        if let Some(remarks) = &reply.remarks {
            write!(f, "; {remarks}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message.as_str());
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
        #[cfg(feature = "tonic")]
        if let Some(status) = &self.inner.grpc_status {
            return Some(status);
        }
        let source = self.inner.source.as_deref()?;
        Some(source)
    }
}
