//! A source whose fetches end as a script says.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_auth::{BoxError, Error, Reason, Token, TokenSource};

use crate::lock::lock;

/// A token source whose fetches end as a script says, one [`Step`] for each fetch.
///
/// After the last step, and without a script, each fetch issues a new token: `token-1` in the first
/// fetch of the source, `token-2` in the second. These tokens never expire, unless
/// [`lifetime`](Self::lifetime) is set. Clones share the script and the counts.
///
/// # Example
///
/// An outage of the authorization server, while the current token is still valid:
///
/// ```
/// use std::time::Duration;
/// use tower_auth::TokenCache;
/// use tower_auth::cache::Clock;
/// use tower_auth_test::{ScriptedSource, Step};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<(), tower_auth::Error> {
/// let hour = Duration::from_secs(3600);
/// let source = ScriptedSource::new([Step::expiring("first", hour), Step::error("down")]);
/// let cache = TokenCache::builder(source.clone()).clock(Clock::tokio()).build();
///
/// assert_eq!(cache.token().await?.secret(), "first");
/// // The refresh is due, whatever its jitter.
/// tokio::time::advance(hour * 97 / 100).await;
/// assert_eq!(cache.token().await?.secret(), "first");
/// tower_auth_test::run_until_idle().await;
/// assert_eq!(source.fetches(), 2);
/// # Ok(()) }
/// ```
///
/// A fetch that fails in the middle of a test:
///
/// ```
/// use tower_auth::{Reason, TokenCache};
/// use tower_auth_test::{ScriptedSource, Step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let source = ScriptedSource::default();
/// let cache = TokenCache::new(source.clone());
/// cache.token().await?;
/// source.then(Step::error("down"));
/// assert!(cache.refresh_now().await.is_err());
/// assert_eq!(source.reasons(), [Reason::First, Reason::Forced]);
/// assert_eq!(source.tokens_issued(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ScriptedSource {
    script: Arc<dyn Fn(usize) -> Step + Send + Sync>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: VecDeque<Step>,
    lifetime: Option<Duration>,
    reasons: Vec<Reason>,
    issued: usize,
}

impl ScriptedSource {
    /// Makes a source whose first fetches end as these steps say, in order.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let source = Self::from_fn(numbered);
        lock(&source.state).next.extend(steps);
        source
    }

    /// Makes a source that issues `token-1`, `token-2` and so on, each with this lifetime.
    ///
    /// # Example
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_auth::TokenCache;
    /// use tower_auth_test::ScriptedSource;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let cache = TokenCache::new(ScriptedSource::expiring(Duration::from_secs(60)));
    /// assert_eq!(cache.token().await?.secret(), "token-1");
    /// assert!(cache.status().expires_at().is_some());
    /// # Ok(()) }
    /// ```
    pub fn expiring(lifetime: Duration) -> Self {
        Self::new([]).lifetime(lifetime)
    }

    /// Makes a source from a function of the fetch's number, which starts at 1.
    ///
    /// # Example
    ///
    /// Every second fetch fails:
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth_test::{ScriptedSource, Step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let source = ScriptedSource::from_fn(|fetch| match fetch % 2 {
    ///     0 => Step::error("down"),
    ///     _ => Step::token(format!("token-{fetch}")),
    /// });
    /// let cache = TokenCache::new(source);
    /// assert_eq!(cache.token().await?.secret(), "token-1");
    /// assert!(cache.refresh_now().await.is_err());
    /// assert_eq!(cache.refresh_now().await?.secret(), "token-3");
    /// # Ok(()) }
    /// ```
    pub fn from_fn<S>(script: impl Fn(usize) -> S + Send + Sync + 'static) -> Self
    where
        S: Into<Step>,
    {
        Self {
            script: Arc::new(move |number| script(number).into()),
            state: Arc::default(),
        }
    }

    /// Sets the lifetime of the numbered tokens and of those of [`Step::token`]. Default: they never
    /// expire. Other steps set the lifetime of their tokens.
    #[must_use]
    pub fn lifetime(self, lifetime: Duration) -> Self {
        lock(&self.state).lifetime = Some(lifetime);
        self
    }

    /// Appends a step to the script.
    pub fn then(&self, step: Step) {
        lock(&self.state).next.push_back(step);
    }

    /// Returns how many fetches were started.
    pub fn fetches(&self) -> usize {
        lock(&self.state).reasons.len()
    }

    /// Returns the reason of each fetch, in order.
    pub fn reasons(&self) -> Vec<Reason> {
        lock(&self.state).reasons.clone()
    }

    /// Returns how many fetches ended with a token.
    pub fn tokens_issued(&self) -> usize {
        lock(&self.state).issued
    }
}

impl Default for ScriptedSource {
    fn default() -> Self {
        Self::new([])
    }
}

impl TokenSource for ScriptedSource {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let (number, step, lifetime) = {
            let mut state = lock(&self.state);
            state.reasons.push(reason);
            (state.reasons.len(), state.next.pop_front(), state.lifetime)
        };
        // Without the lock: the script may ask this source for its counts.
        let step = step.unwrap_or_else(|| (self.script)(number));
        let token = step.run(lifetime).await?;
        lock(&self.state).issued += 1;
        Ok(token)
    }
}

impl fmt::Debug for ScriptedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("ScriptedSource")
            .field("steps_left", &state.next.len())
            .field("fetches", &state.reasons.len())
            .field("tokens_issued", &state.issued)
            .finish()
    }
}

fn numbered(number: usize) -> Step {
    Step::token(format!("token-{number}"))
}

/// How one fetch of a [`ScriptedSource`] ends.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use tower_auth_test::{ScriptedSource, Step};
///
/// let source = ScriptedSource::new([
///     Step::expiring("first", Duration::from_secs(3600)),
///     Step::error("the vault is sealed"),
///     Step::panic(),
///     Step::hang(),
///     Step::token("last").after(Duration::from_secs(1)),
/// ]);
/// ```
#[derive(Debug)]
#[must_use = "a step does nothing until a source runs it"]
pub struct Step {
    delay: Duration,
    end: End,
}

#[derive(Debug)]
enum End {
    /// A token that has the lifetime of its source.
    Issue(Result<Token, Error>),
    /// A token as it is, or an error.
    Complete(Result<Token, Error>),
    Hang,
    Panic,
}

impl Step {
    /// Issues a bearer token with this secret. Its lifetime is the source's
    /// [`lifetime`](ScriptedSource::lifetime). A secret that no header can contain fails the fetch.
    pub fn token(secret: impl Into<String>) -> Self {
        Self::ending(End::Issue(Token::bearer(secret.into())))
    }

    /// Issues a bearer token with this secret and this lifetime.
    pub fn expiring(secret: impl Into<String>, lifetime: Duration) -> Self {
        Self::from(Token::bearer(secret.into()).map(|token| token.expires_in(lifetime)))
    }

    /// Fails with [`Error::other`]. For another error, use `Step::from(error)`.
    pub fn error(error: impl Into<BoxError>) -> Self {
        Self::from(Error::other(error))
    }

    /// Never ends: the cache's fetch timeout has to end the fetch.
    pub fn hang() -> Self {
        Self::ending(End::Hang)
    }

    /// Panics. The panic hook is not called, so the test prints no message.
    pub fn panic() -> Self {
        Self::ending(End::Panic)
    }

    /// Waits by Tokio's clock before the fetch ends.
    pub fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    fn ending(end: End) -> Self {
        Self {
            delay: Duration::ZERO,
            end,
        }
    }

    async fn run(self, lifetime: Option<Duration>) -> Result<Token, Error> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        match self.end {
            End::Issue(result) => result.map(|token| match lifetime {
                Some(lifetime) => token.expires_in(lifetime),
                None => token,
            }),
            End::Complete(result) => result,
            End::Hang => pending().await,
            End::Panic => resume_unwind(Box::new("the source panics, as its script says")),
        }
    }
}

impl From<Token> for Step {
    fn from(token: Token) -> Self {
        Self::from(Ok(token))
    }
}

impl From<Error> for Step {
    fn from(error: Error) -> Self {
        Self::from(Err(error))
    }
}

impl From<Result<Token, Error>> for Step {
    fn from(result: Result<Token, Error>) -> Self {
        Self::ending(End::Complete(result))
    }
}
