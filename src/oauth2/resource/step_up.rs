//! Step-up: fetches a stronger token when a server refuses a valid token as insufficient (RFC 9470,
//! RFC 6750 §3.1).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::HeaderMap;
use tokio::time::Instant;

use crate::cache::cache_inner::shut_out;
use crate::challenge::step_up::StepUpChallenge;
use crate::challenge::www_authenticate::Challenge;
use crate::error::Error;
use crate::oauth2::scope;
use crate::origin::Origin;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::redact::Redactor;

/// Fetches stronger tokens when servers ask for them. The source starts with few scopes. After an
/// `insufficient_scope` (RFC 6750 §3.1), the source adds the scope that the server asks for. After
/// an `insufficient_user_authentication` (RFC 9470 §3), the source requests a login that meets the
/// server's requirements.
///
/// A closure makes the source for each [`StepUpRequest`]. New scope is added to the current scope,
/// so that the stronger token is also valid for all earlier requests. Only [allowed](Self::allow)
/// scopes are added, so that an API can't cause a stronger token than you intended.
///
/// - The refused request waits for the stronger token and is replayed once. Other requests use the
///   old token until the stronger token is ready.
/// - Each stronger token takes one fetch. If the authorization server refuses that fetch
///   [permanently](Error::is_permanent), the source doesn't repeat the fetch, and the old token
///   stays in use.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope) of the first token | none |
/// | [`allow`](Self::allow): scopes that may be added | none |
/// | [`allow_acr`](Self::allow_acr): login strengths that a server may ask for | none; a server may ask only for a newer login, at most once in 30 s |
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::oauth2::{Client, ClientCredentials, StepUp};
///
/// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let client = Client::new("https://id.example.com/oauth/token", id, secret)?;
/// let source = StepUp::new(move |wanted| {
///     Ok(ClientCredentials::with_client(client.clone()).scope(wanted.scope()))
/// })
/// .scope("read:notes")
/// .allow("write:notes");
/// let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
/// # }
/// # Ok(()) }
/// ```
pub struct StepUp {
    build: Build,
    allowed: Allowed,
    state: Mutex<StepUpState>,
}

#[derive(Default)]
struct Allowed {
    scopes: BTreeSet<String>,
    acr_values: BTreeSet<String>,
}

/// The shortest time between two logins. Without this limit, an API could cause a login with every
/// request.
const LOGIN_INTERVAL: Duration = Duration::from_secs(30);

type Build = Box<dyn Fn(&StepUpRequest) -> Result<Arc<dyn DynTokenSource>, Error> + Send + Sync>;

/// The requirements for the next token. The closure that makes the source receives these
/// requirements.
///
/// # Example
///
/// The parameters of a login that returns a sufficient token:
///
/// ```
/// use tower_auth::oauth2::StepUpRequest;
///
/// fn params(wanted: &StepUpRequest) -> Vec<(&'static str, String)> {
///     let mut params = vec![("scope", wanted.scope().to_owned())];
///     params.extend(wanted.acr_values().map(|acr| ("acr_values", acr.to_owned())));
///     let seconds = wanted.max_age().map(|age| age.as_secs().to_string());
///     params.extend(seconds.map(|seconds| ("max_age", seconds)));
///     params
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUpRequest {
    scope: String,
    acr_values: Option<String>,
    max_age: Option<Duration>,
}

#[derive(Default)]
struct StepUpState {
    /// The request for the current token.
    current: StepUpRequest,
    source: Option<Arc<dyn DynTokenSource>>,
    /// The request for the next token, if it differs from `current`.
    next: Option<StepUpRequest>,
    /// The scopes and logins that the authorization server has refused. Their number is bounded,
    /// because they consist of allowed values.
    refused: BTreeSet<(String, Option<String>)>,
    /// The generation of the last issued token.
    latest: Option<u64>,
    /// The time of the last login that a server caused.
    logged_in: Option<Instant>,
}

impl StepUp {
    /// Creates a source that fetches from the sources that `build` makes.
    ///
    /// The first fetch calls `build`. A later fetch calls `build` if its [`StepUpRequest`] differs
    /// from the last request. A new cache or layer also calls `build`, to read the source's
    /// [`origins`](TokenSource::origins) and limits.
    pub fn new<F, S>(build: F) -> Self
    where
        F: Fn(&StepUpRequest) -> Result<S, Error> + Send + Sync + 'static,
        S: TokenSource,
    {
        Self {
            build: Box::new(move |wanted| Ok(Arc::new(build(wanted)?))),
            allowed: Allowed::default(),
            state: Mutex::default(),
        }
    }

    /// Sets the scope of the first token (RFC 6749 §3.3). Separate names by spaces.
    #[must_use]
    pub fn scope(self, scope: impl AsRef<str>) -> Self {
        self.lock().current.scope = scope::join([scope]);
        self
    }

    /// Allows the source to add these scopes when a server asks for them. Separate names by spaces.
    /// If a server asks for any other scope, the caller gets the refusal.
    #[must_use]
    pub fn allow(mut self, scopes: impl AsRef<str>) -> Self {
        let names = scopes.as_ref().split_whitespace();
        self.allowed.scopes.extend(names.map(str::to_owned));
        self
    }

    /// Sets the authentication context class references that a server may ask for (`acr_values`,
    /// RFC 9470 §3). Separate values by spaces.
    #[must_use]
    pub fn allow_acr(mut self, acr_values: impl AsRef<str>) -> Self {
        let names = acr_values.as_ref().split_whitespace();
        self.allowed.acr_values.extend(names.map(str::to_owned));
        self
    }

    fn lock(&self) -> MutexGuard<'_, StepUpState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the request and the source for the next fetch.
    fn prepare(&self) -> Result<(StepUpRequest, Arc<dyn DynTokenSource>), Error> {
        let (wanted, known) = {
            let state = self.lock();
            match &state.next {
                Some(next) => (next.clone(), None),
                None => (state.current.clone(), state.source.clone()),
            }
        };
        let source = match known {
            Some(source) => source,
            None => (self.build)(&wanted)?,
        };
        Ok((wanted, source))
    }

    /// Returns the source for the next fetch, to read properties that are the same for all
    /// requests. Returns `None` if `build` fails; the fetch then returns the error.
    fn prepared(&self) -> Option<Arc<dyn DynTokenSource>> {
        self.prepare().ok().map(|(_, source)| source)
    }
}

impl TokenSource for StepUp {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let (wanted, source) = self.prepare()?;
        let fetched = source.fetch(reason).await;
        let mut refused = None;
        let mut state = self.lock();
        match &fetched {
            Ok(token) => {
                state.latest = Some(token.generation());
                state.source = Some(source);
                // Keeps `next` if a server has asked for more scope during the fetch.
                state.next = state.next.take().filter(|next| *next != wanted);
                state.current = wanted;
            }
            Err(error) if error.is_permanent() && state.next.as_ref() == Some(&wanted) => {
                state.next = None;
                state.refused.insert(wanted.key());
                refused = Some(wanted);
            }
            Err(_) => {}
        }
        drop(state);
        if let Some(wanted) = refused {
            shut_out(never_again(&wanted));
        }
        fetched
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let source = self.lock().source.clone();
        match source {
            Some(source) => source.close(last).await,
            None => Ok(()),
        }
    }

    fn origins(&self) -> Vec<Origin> {
        self.prepared()
            .map_or_else(Vec::new, |source| source.origins())
    }

    fn is_refusal(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        self.prepared()
            .is_some_and(|source| source.is_refusal(status, headers))
    }

    fn has_one_time_grant(&self) -> bool {
        self.prepared()
            .is_some_and(|source| source.has_one_time_grant())
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        self.prepared()?.fetch_timeout()
    }

    fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        let mut state = self.lock();
        let Some(challenge) = StepUpChallenge::of(challenges) else {
            let source = state.source.clone();
            drop(state);
            return source.is_some_and(|source| source.challenged(token, challenges));
        };
        let known = state.next.as_ref().unwrap_or(&state.current);
        let Some(next) = known.with(&challenge, &self.allowed) else {
            drop(state);
            shut_out(not_allowed(&challenge, token));
            return false;
        };
        if state.refused.contains(&next.key()) {
            return false;
        }
        // Another refusal has already requested the same scope, or a newer token has been issued.
        if state.next.as_ref() == Some(&next) || state.latest != Some(token.generation()) {
            return true;
        }
        let has_answer = if challenge.is_insufficient_scope() {
            next.scope != state.current.scope
        } else {
            state.may_log_in()
        };
        if has_answer {
            state.next = Some(next);
        }
        has_answer
    }
}

impl StepUpState {
    /// Returns whether enough time has passed for another login. The age of the token doesn't
    /// matter, because a token can be newer than its login. Only the server knows the login's age.
    fn may_log_in(&mut self) -> bool {
        let last = self.logged_in;
        let is_due = last.is_none_or(|at| at.elapsed() >= LOGIN_INTERVAL);
        if is_due {
            self.logged_in = Some(Instant::now());
        }
        is_due
    }
}

impl StepUpRequest {
    /// Returns the scope to request (RFC 6749 §3.3): names separated by spaces, or an empty text.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Returns the strength of the login that a server asked for, if any (`acr_values`, RFC 9470
    /// §3).
    pub fn acr_values(&self) -> Option<&str> {
        self.acr_values.as_deref()
    }

    /// Returns the maximum age of the login that a server asked for, if any (`max_age`, RFC 9470
    /// §3).
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Adds the requirements of a challenge. Returns `None` if a requirement isn't allowed, or if
    /// the challenge names no requirements.
    fn with(&self, challenge: &StepUpChallenge, allowed: &Allowed) -> Option<Self> {
        let mut next = self.clone();
        if challenge.is_insufficient_user_authentication() {
            let acr_values = allowed.acr_values_of(challenge);
            if acr_values.is_none() && challenge.max_age().is_none() {
                return None;
            }
            next.acr_values = acr_values.or(next.acr_values);
            next.max_age = challenge.max_age().or(next.max_age);
            return Some(next);
        }
        let names = challenge.scope()?.split_whitespace();
        for name in names {
            let is_new = next.scope.split(' ').all(|known| known != name);
            if is_new && !allowed.scopes.contains(name) {
                return None;
            }
            if is_new {
                next.scope = scope::join([next.scope.as_str(), name]);
            }
        }
        Some(next)
    }

    /// Returns the part of the request that the authorization server may refuse permanently.
    fn key(&self) -> (String, Option<String>) {
        (self.scope.clone(), self.acr_values.clone())
    }
}

fn never_again(refused: &StepUpRequest) -> String {
    format!(
        "the authorization server refused a login with the scope `{}` and the strength `{}`, so \
         this source doesn't request them again",
        refused.scope,
        refused.acr_values().unwrap_or_default()
    )
}

fn not_allowed(challenge: &StepUpChallenge, token: &Token) -> String {
    // The API may echo the token.
    let mut redactor = Redactor::default();
    redactor.hide(token.secret());
    let text = |text: Option<&str>| redactor.redact(text.unwrap_or_default());
    match challenge.is_insufficient_scope() {
        true => format!(
            "an API asks for the scope `{}`; if you trust the API with this scope, add it \
             to `StepUp::allow`",
            text(challenge.scope())
        ),
        false => format!(
            "an API asks for a login with one of `{}`; if the login can have one of these \
             strengths, add that strength to `StepUp::allow_acr`",
            text(challenge.acr_values())
        ),
    }
}

impl Allowed {
    /// Returns the requested values that are allowed, in the server's order of preference.
    fn acr_values_of(&self, challenge: &StepUpChallenge) -> Option<String> {
        let wanted = challenge.acr_values()?.split_whitespace();
        let allowed = scope::join(wanted.filter(|name| self.acr_values.contains(*name)));
        (!allowed.is_empty()).then_some(allowed)
    }
}

impl fmt::Debug for StepUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("StepUp")
            .field("current", &state.current)
            .field("next", &state.next)
            .field("allowed_scopes", &self.allowed.scopes)
            .finish_non_exhaustive()
    }
}
