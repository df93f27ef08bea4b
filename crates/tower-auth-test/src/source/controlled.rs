//! A source whose fetches the test completes.

use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tower_auth::{BoxError, Error, Reason, Token, TokenSource};

use crate::idle::run_until_idle;

/// Makes a token source, and the [`Fetches`] that the test completes one by one.
///
/// With it, a test decides what happens while a fetch is in flight. A fetch whose [`Fetch`] the test
/// drops never ends.
///
/// # Example
///
/// A thousand callers share one fetch:
///
/// ```
/// use tower_auth::TokenCache;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let (source, mut fetches) = tower_auth_test::controlled_source();
/// let cache = TokenCache::new(source);
/// let callers: Vec<_> = (0..1000).map(|_| tokio::spawn(cache.token())).collect();
///
/// fetches.next().await.issue("the-token");
/// for caller in callers {
///     assert_eq!(caller.await??.secret(), "the-token");
/// }
/// fetches.assert_none().await;
/// # Ok(()) }
/// ```
pub fn controlled_source() -> (ControlledSource, Fetches) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (ControlledSource { sender }, Fetches { receiver })
}

/// The source that [`controlled_source`] returns.
#[derive(Clone, Debug)]
pub struct ControlledSource {
    sender: mpsc::UnboundedSender<Fetch>,
}

impl TokenSource for ControlledSource {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let (complete, completed) = oneshot::channel();
        if self.sender.send(Fetch { reason, complete }).is_err() {
            return Err(Error::other("the test has dropped its `Fetches`"));
        }
        match completed.await {
            Ok(Completion::Result(result)) => *result,
            Ok(Completion::Panic) => resume_unwind(Box::new("the source panics, as the test says")),
            Err(_) => pending().await,
        }
    }
}

enum Completion {
    Result(Box<Result<Token, Error>>),
    Panic,
}

/// Receives the fetches of a [`ControlledSource`].
///
/// # Example
///
/// ```
/// use tower_auth::TokenCache;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let (source, mut fetches) = tower_auth_test::controlled_source();
/// let cache = TokenCache::new(source);
/// fetches.assert_none().await;
///
/// let caller = tokio::spawn(cache.token());
/// fetches.next().await.issue("the-token");
/// caller.await??;
/// assert!(fetches.try_next().is_none());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Fetches {
    receiver: mpsc::UnboundedReceiver<Fetch>,
}

impl Fetches {
    /// Waits until the next fetch starts.
    ///
    /// # Panics
    ///
    /// If the source and all its clones were dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no fetch is lost.
    pub async fn next(&mut self) -> Fetch {
        match self.receiver.recv().await {
            Some(fetch) => fetch,
            None => panic!("no fetch can start: the source was dropped"),
        }
    }

    /// Returns the next fetch if it has already started.
    pub fn try_next(&mut self) -> Option<Fetch> {
        self.receiver.try_recv().ok()
    }

    /// Asserts that no fetch has started, after all other tasks [became idle](run_until_idle).
    ///
    /// # Panics
    ///
    /// If a fetch has started. The message shows its reason.
    pub async fn assert_none(&mut self) {
        run_until_idle().await;
        if let Some(fetch) = self.try_next() {
            panic!("no fetch was expected, but one started: {}", fetch.reason);
        }
    }
}

/// A fetch in flight. The test decides how it ends.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use tower_auth::{Reason, Token, TokenCache};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
/// let (source, mut fetches) = tower_auth_test::controlled_source();
/// let cache = TokenCache::new(source);
///
/// let caller = tokio::spawn(cache.token());
/// let fetch = fetches.next().await;
/// assert_eq!(fetch.reason(), Reason::First);
/// fetch.fail("the vault is sealed");
/// assert!(caller.await?.is_err_and(|error| error.is_source()));
///
/// let caller = tokio::spawn(cache.refresh_now());
/// fetches.next().await.panic();
/// assert!(caller.await?.is_err_and(|error| error.is_panic()));
///
/// let caller = tokio::spawn(cache.refresh_now());
/// fetches.next().await.issue("without-an-expiry");
/// caller.await??;
///
/// let caller = tokio::spawn(cache.refresh_now());
/// fetches.next().await.issue_for("for-an-hour", Duration::from_secs(3600));
/// caller.await??;
///
/// let caller = tokio::spawn(cache.refresh_now());
/// fetches.next().await.complete(Token::basic("me", "a-password"));
/// caller.await??;
/// # Ok(()) }
/// ```
#[must_use = "a fetch that is dropped never ends"]
pub struct Fetch {
    reason: Reason,
    complete: oneshot::Sender<Completion>,
}

impl Fetch {
    /// Returns why the cache started this fetch.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Completes the fetch with a bearer token that never expires.
    ///
    /// # Panics
    ///
    /// As [`complete`](Self::complete).
    #[track_caller]
    pub fn issue(self, secret: impl Into<String>) {
        self.complete(Token::bearer(secret.into()));
    }

    /// Completes the fetch with a bearer token of this lifetime.
    ///
    /// # Panics
    ///
    /// As [`complete`](Self::complete).
    #[track_caller]
    pub fn issue_for(self, secret: impl Into<String>, lifetime: Duration) {
        self.complete(Token::bearer(secret.into()).map(|token| token.expires_in(lifetime)));
    }

    /// Completes the fetch with [`Error::other`].
    ///
    /// # Panics
    ///
    /// As [`complete`](Self::complete).
    #[track_caller]
    pub fn fail(self, error: impl Into<BoxError>) {
        self.complete(Err(Error::other(error)));
    }

    /// Completes the fetch with this result.
    ///
    /// # Panics
    ///
    /// If the cache has dropped the fetch, for example after the fetch timeout.
    #[track_caller]
    pub fn complete(self, result: Result<Token, Error>) {
        self.send(Completion::Result(Box::new(result)));
    }

    /// Makes the source panic. The panic hook is not called, so the test prints no message.
    ///
    /// # Panics
    ///
    /// As [`complete`](Self::complete).
    #[track_caller]
    pub fn panic(self) {
        self.send(Completion::Panic);
    }

    /// Returns whether the cache has dropped the fetch, for example after the fetch timeout.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::TokenCache;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), tower_auth::BoxError> {
    /// let (source, mut fetches) = tower_auth_test::controlled_source();
    /// let cache = TokenCache::builder(source).fetch_timeout(Duration::from_secs(5)).build();
    /// let caller = tokio::spawn(cache.token());
    /// let fetch = fetches.next().await;
    /// assert!(caller.await?.is_err_and(|error| error.is_timeout()));
    /// assert!(fetch.is_dropped());
    /// # Ok(()) }
    /// ```
    pub fn is_dropped(&self) -> bool {
        self.complete.is_closed()
    }

    #[track_caller]
    fn send(self, completion: Completion) {
        assert!(
            self.complete.send(completion).is_ok(),
            "the fetch can't be completed: the cache has dropped it"
        );
    }
}

impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetch")
            .field("reason", &self.reason)
            .field("is_dropped", &self.is_dropped())
            .finish_non_exhaustive()
    }
}
