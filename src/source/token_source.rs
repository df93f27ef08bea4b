//! The trait of a source of tokens, and the reasons for a fetch.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap};
#[cfg(feature = "fleet")]
use secrecy::SecretString;

#[cfg(feature = "fleet")]
use super::store_key::StoreKey;
use crate::challenge::www_authenticate::Challenge;
use crate::error::Error;
#[cfg(feature = "fleet")]
use crate::error::Kind;
use crate::origin::Origin;
#[cfg(feature = "fleet")]
use crate::sanitize::ServerText;
use crate::token::issued_token::Token;
use crate::token::place::Place;

/// Fetches a new token.
///
/// A source makes one attempt and returns the result. It needs no cache, no retry and no refresh
/// loop. The [`TokenCache`](crate::TokenCache) calls the source on a separate task, one call at a
/// time. The cache bounds the time of the fetch. After a [transient error](Error::is_transient), it
/// calls the source again. A source can wrap another source.
///
/// A closure is a source:
///
/// ```
/// use std::time::Duration;
/// use tower_auth::{Reason, Token, TokenCache};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let cache = TokenCache::new(|_reason: Reason| async {
///     Ok(Token::bearer("from-the-vault")?.expires_in(Duration::from_secs(600)))
/// });
/// assert_eq!(cache.token().await?.secret(), "from-the-vault");
/// # Ok(()) }
/// ```
///
/// Your own source implements the trait. Most methods have a default:
///
/// ```
/// use std::time::Duration;
///
/// use http::{HeaderMap, HeaderName, StatusCode};
/// use tower_auth::{Error, Origin, Place, Reason, Token, TokenSource};
/// # struct Vault;
/// # impl Vault {
/// #     async fn issue(&self, _role: &str) -> Result<String, Error> { Ok("a-key".into()) }
/// #     async fn revoke(&self, _key: &str) -> Result<(), Error> { Ok(()) }
/// # }
///
/// const KEY: HeaderName = HeaderName::from_static("x-api-key");
///
/// /// Gets keys of an API from a vault, which issues and revokes them.
/// struct VaultKey {
///     vault: Vault,
///     api: Origin,
/// }
///
/// impl TokenSource for VaultKey {
///     async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
///         Token::header(KEY, self.vault.issue("reports").await?)
///     }
///
///     async fn close(&self, last: Option<Token>) -> Result<(), Error> {
///         let Some(key) = last else { return Ok(()) };
///         self.vault.revoke(key.secret()).await
///     }
///
///     fn place(&self) -> Place {
///         Place::Header(KEY)
///     }
///
///     fn origins(&self) -> Vec<Origin> {
///         vec![self.api.clone()]
///     }
///
///     /// The API responds to an old key with a 419.
///     fn is_refusal(&self, status: StatusCode, _headers: &HeaderMap) -> bool {
///         status.as_u16() == 419
///     }
///
///     /// A person approves each new key.
///     fn fetch_timeout(&self) -> Option<Duration> {
///         Some(Duration::from_secs(300))
///     }
/// }
/// ```
///
/// A source that wraps another source also forwards the other methods:
///
/// ```
/// # #[cfg(feature = "fleet")] mod example {
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use secrecy::SecretString;
/// use tower_auth::challenge::Challenge;
/// use tower_auth::fleet::StoreKey;
/// use tower_auth::{Error, Reason, Token, TokenSource};
///
/// /// Counts the fetches of another source.
/// struct Counted<S> {
///     inner: S,
///     fetches: AtomicU64,
/// }
///
/// impl<S: TokenSource> TokenSource for Counted<S> {
///     async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
///         self.fetches.fetch_add(1, Ordering::Relaxed);
///         self.inner.fetch(reason).await
///     }
///
///     fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
///         self.inner.challenged(token, challenges)
///     }
///
///     fn store_key(&self) -> Option<StoreKey> {
///         self.inner.store_key()
///     }
///
///     fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
///         self.inner.bind(to, secret)
///     }
///
///     fn has_one_time_grant(&self) -> bool {
///         self.inner.has_one_time_grant()
///     }
///
///     // `close`, `place`, `origins`, `is_refusal` and `fetch_timeout` look the same.
/// }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a source of tokens",
    label = "this type doesn't implement `TokenSource`",
    note = "a closure is a source: `|_| async {{ Token::bearer(\"…\") }}`; its future returns `Result<Token, tower_auth::Error>`",
    note = "an API key is `ApiKey::new(…)`; `tower_auth::oauth2` and `tower_auth::login` have other sources"
)]
#[doc(alias = "refresh")]
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches a new token, in one attempt.
    ///
    /// # Errors
    ///
    /// Returns an error if no token can be fetched. [`Error::other`] wraps your own error.
    ///
    /// # Cancel safety
    ///
    /// The future runs on a separate task, so cancelling a caller doesn't stop the fetch. The
    /// future is dropped early only in two cases: after the fetch timeout, or when the runtime
    /// shuts down.
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send;

    /// Closes the source when the cache is [closed](crate::TokenCache::close). For example, the
    /// source logs out or revokes `last`, the current token. The cache calls this method once, and
    /// no fetch follows. Default: does nothing.
    ///
    /// # Errors
    ///
    /// Returns an error if the source could not be closed. The cache logs the error and continues
    /// to close.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped after the [close
    /// timeout](crate::cache::TokenCacheBuilder::close_timeout).
    fn close(&self, last: Option<Token>) -> impl Future<Output = Result<(), Error>> + Send {
        drop(last);
        ready(Ok(()))
    }

    /// Receives the challenges (`WWW-Authenticate`) of a server that refused `token`, in the order
    /// they were sent.
    ///
    /// Returns whether the source has, or can fetch, a token that satisfies the challenges. If so,
    /// the layer replays the request with a new token. The cache fetches this token, unless the
    /// cache already has a newer token. [`oauth2::StepUp`] works this way. Default: `false`. The
    /// caller then gets the refusal.
    ///
    /// The result matters only if the server says that the token is valid but not sufficient. In
    /// this case, the request needs more scope (RFC 6750 §3.1), or a stronger or newer login (RFC
    /// 9470).
    ///
    /// [`oauth2::StepUp`]: crate::oauth2::StepUp
    fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        let _ = (token, challenges);
        false
    }

    /// Returns what this source's tokens depend on: the endpoint, client, scope and other parts of
    /// the token request. Two sources with the same key can use each other's tokens, in this
    /// process or another.
    ///
    /// Default: `None`. Then a fleet has to set the key with
    /// [`Fleet::key`](crate::fleet::Fleet::key).
    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        None
    }

    /// Restores another process's token that is bound to a key (RFC 9449 §6.1). `to` is the
    /// thumbprint of the key. A source that wraps another source calls the inner source's `bind`.
    /// Default: an error.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if this source doesn't have that key.
    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        drop(secret);
        Err(unbound(to))
    }

    /// Returns where in a request this source's tokens go. A request that already has a credential
    /// at this place is sent unchanged and doesn't wait for a token. Default: the `Authorization`
    /// header.
    fn place(&self) -> Place {
        Place::Header(AUTHORIZATION)
    }

    /// Returns the origins that may receive this source's tokens. The layer sends the tokens only
    /// to these origins, unless the user sets [`AuthLayer::only_to`](crate::AuthLayer::only_to) or
    /// [`any_https`](crate::AuthLayer::any_https). The layer calls this method once, when the layer
    /// is created.
    ///
    /// Default: none. Then the user has to name the origins.
    fn origins(&self) -> Vec<Origin> {
        Vec::new()
    }

    /// Returns whether a response refuses the token. A 401 and gRPC's `UNAUTHENTICATED` always
    /// refuse the token. Implement this method for servers that use another status for an expired
    /// token, such as 403 or 419. The layer calls this method for all other responses without a
    /// success status. The layer doesn't call this method if
    /// [`AuthLayer::refused_if`](crate::AuthLayer::refused_if) is set. The server may refuse
    /// because of the resource, not because of the token. So fetches after refusals have a
    /// [budget](crate::docs::how_it_works#the-refusal-budget). Default: `false`.
    fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let _ = (status, headers);
        false
    }

    /// Returns whether the server accepts this source's grant only once. Such a grant is a code, or
    /// a refresh token that the server replaces (RFC 9700 §4.14.2). With a one-time grant, a
    /// process of a [`Fleet`](crate::fleet::Fleet) fetches only with the store's lease. While the
    /// store fails, each fetch fails. The current token stays in use until it expires. Default:
    /// `false`.
    fn has_one_time_grant(&self) -> bool {
        false
    }

    /// Returns the longest time that a fetch may take, if the default doesn't fit this source. The
    /// user's own [`fetch_timeout`](crate::cache::TokenCacheBuilder::fetch_timeout) takes
    /// precedence. Default: `None`.
    fn fetch_timeout(&self) -> Option<Duration> {
        None
    }
}

/// The future that a closure must return to be a [`TokenSource`]. Every future of
/// `Result<Token, Error>` implements this trait.
#[diagnostic::on_unimplemented(
    message = "a source's closure has to return a future of `Result<Token, tower_auth::Error>`, and `{Self}` is not one",
    label = "this closure doesn't return a future of `Result<Token, tower_auth::Error>`",
    note = "return `async move {{ … }}`, or `std::future::ready(…)` if there is nothing to wait for",
    note = "convert the error of another crate, such as an `anyhow::Error`, with `.map_err(Error::other)`"
)]
pub trait TokenFuture: Future<Output = Result<Token, Error>> {}

// Without `do_not_recommend`, the compiler reports that the future's output isn't the expected
// `Result`, and doesn't show the notes above.
// This impl doesn't require `Send`. So the compiler still explains which value in a future is not
// `Send`.
#[diagnostic::do_not_recommend]
impl<T> TokenFuture for T where T: Future<Output = Result<Token, Error>> {}

impl<F, Fut> TokenSource for F
where
    F: Fn(Reason) -> Fut + Send + Sync + 'static,
    Fut: TokenFuture + Send,
{
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self(reason)
    }
}

/// Forwards the synchronous methods to the source of type `T`.
macro_rules! forward_to_source {
    () => {
        fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
            <T as TokenSource>::challenged(self, token, challenges)
        }

        #[cfg(feature = "fleet")]
        fn store_key(&self) -> Option<StoreKey> {
            <T as TokenSource>::store_key(self)
        }

        #[cfg(feature = "fleet")]
        fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
            <T as TokenSource>::bind(self, to, secret)
        }

        fn place(&self) -> Place {
            <T as TokenSource>::place(self)
        }

        fn origins(&self) -> Vec<Origin> {
            <T as TokenSource>::origins(self)
        }

        fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
            <T as TokenSource>::is_refusal(self, status, headers)
        }

        fn has_one_time_grant(&self) -> bool {
            <T as TokenSource>::has_one_time_grant(self)
        }

        fn fetch_timeout(&self) -> Option<Duration> {
            <T as TokenSource>::fetch_timeout(self)
        }
    };
}

impl<T> TokenSource for Arc<T>
where
    T: TokenSource,
{
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        T::fetch(self, reason)
    }

    fn close(&self, last: Option<Token>) -> impl Future<Output = Result<(), Error>> + Send {
        T::close(self, last)
    }

    forward_to_source!();
}

/// Makes the error for another process's token that is bound to a missing key.
#[cfg(feature = "fleet")]
pub(crate) fn unbound(to: &str) -> Error {
    let message = format!(
        "the token is bound to the key `{}`, which this source doesn't have; \
         give all processes the same key",
        ServerText::new(to)
    );
    Error::new(Kind::Config, message)
}

/// Why a token is fetched.
///
/// # Example
///
/// ```
/// use tower_auth::{AuthLayer, Reason, Token};
///
/// let layer = AuthLayer::new(|reason: Reason| async move {
///     // The agent's cache may still contain the refused token.
///     let cached = reason != Reason::Refused;
///     Token::bearer(if cached { "from-the-agent" } else { "from-the-vault" })
/// })
/// .only_to(["https://api.example.com"])?;
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// There was no token yet.
    First,
    /// The current token is about to expire. It stays in use during the fetch.
    Stale,
    /// The last token has expired.
    Expired,
    /// A server refused the last token. Either the token is revoked, or only one resource refuses
    /// it. Until the fetch completes, other callers may still use the token.
    Refused,
    /// The user asked for a new token.
    Forced,
}

impl Reason {
    /// Returns the reason as one lower-case word, for logs.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::Reason;
    ///
    /// assert_eq!(Reason::Refused.as_str(), "refused");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Forced => "forced",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A type-erased source. With this trait, the cache and the layer need no type parameter for the
/// source. The box costs one allocation per fetch, and none per request.
pub(crate) trait DynTokenSource: Send + Sync + 'static {
    fn fetch(&self, reason: Reason) -> Fetch<'_>;
    fn close(&self, last: Option<Token>) -> Close<'_>;
    fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool;
    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey>;
    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error>;
    fn place(&self) -> Place;
    fn origins(&self) -> Vec<Origin>;
    fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool;
    fn has_one_time_grant(&self) -> bool;
    fn fetch_timeout(&self) -> Option<Duration>;
}

pub(crate) type Fetch<'a> = Pin<Box<dyn Future<Output = Result<Token, Error>> + Send + 'a>>;
pub(crate) type Close<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

impl<T> DynTokenSource for T
where
    T: TokenSource,
{
    fn fetch(&self, reason: Reason) -> Fetch<'_> {
        Box::pin(TokenSource::fetch(self, reason))
    }

    fn close(&self, last: Option<Token>) -> Close<'_> {
        Box::pin(TokenSource::close(self, last))
    }

    forward_to_source!();
}
