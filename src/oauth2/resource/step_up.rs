//! Step-up: a token that is good but not enough is answered with a better one (RFC 9470, and
//! `insufficient_scope` of RFC 6750 §3.1).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::challenge::step_up::StepUpChallenge;
use crate::challenge::www_authenticate::Challenge;
use crate::error::Error;
use crate::oauth2::scope;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::token::issued_token::Token;

/// Asks for more as servers want more: starts with little scope, and adds what an
/// `insufficient_scope` (RFC 6750 §3.1) names, or logs in as an
/// `insufficient_user_authentication` (RFC 9470 §3) says.
///
/// A closure makes the source for what is to be asked. Scope is added to what there is, so that a
/// token once stepped up stays good for all that came before. Nothing is added that isn't
/// [allowed](Self::allow): an API can't get itself a stronger token than was meant for it.
///
/// - The request that was refused waits for the better token and is sent again, once. All others are
///   served with the old one until the better one is here.
/// - One fetch for each thing that is wanted. What the authorization server won't give
///   ([permanently](Error::is_permanent)) isn't asked for again, and the old token stays in use.
///
/// | setting | default |
/// | --- | --- |
/// | [`scope`](Self::scope) from the start | none |
/// | [`allow`](Self::allow)ed on top | no scope |
/// | [`allow_acr`](Self::allow_acr): logins that may be asked for | newer ones only, and one in 30 s at most |
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
/// let layer = AuthLayer::new(source);
/// # }
/// # Ok(()) }
/// ```
pub struct StepUp {
    build: Build,
    allowed: Allowed,
    state: Mutex<State>,
}

#[derive(Default)]
struct Allowed {
    scopes: BTreeSet<String>,
    acr_values: BTreeSet<String>,
}

/// However strong or new a login an API wants: it can't have one with every request.
const LOGIN_FLOOR: Duration = Duration::from_secs(30);

type Build = Box<dyn Fn(&StepUpRequest) -> Result<Arc<dyn DynTokenSource>, Error> + Send + Sync>;

/// What is to be asked for: given to the closure that makes the source for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUpRequest {
    scope: String,
    acr_values: Option<String>,
    max_age: Option<Duration>,
}

#[derive(Default)]
struct State {
    /// What the token in use was asked with, and by what.
    had: StepUpRequest,
    source: Option<Arc<dyn DynTokenSource>>,
    /// What the next one is asked with on top.
    next: Option<StepUpRequest>,
    /// What couldn't be had: scope, and how strong a login. Of a bounded number, for both are allowed
    /// ones.
    refused: BTreeSet<(String, Option<String>)>,
    /// Which token was issued last.
    latest: Option<u64>,
    /// When a login was last asked for because a server wanted it.
    logged_in: Option<Instant>,
}

impl StepUp {
    /// A source that asks what `build` makes for each [`StepUpRequest`]. That isn't called before
    /// the first fetch, and once for each request that differs from the one before.
    pub fn new<F, S>(build: F) -> Self
    where
        F: Fn(&StepUpRequest) -> Result<S, Error> + Send + Sync + 'static,
        S: TokenSource,
    {
        Self {
            build: Box::new(move |wanted| {
                let source: Arc<dyn DynTokenSource> = Arc::new(build(wanted)?);
                Ok(source)
            }),
            allowed: Allowed::default(),
            state: Mutex::default(),
        }
    }

    /// The scope that is asked for from the start (RFC 6749 §3.3): names separated by spaces.
    #[must_use]
    pub fn scope(self, scope: impl AsRef<str>) -> Self {
        self.lock().had.scope = scope::join([scope]);
        self
    }

    /// Scopes that may be asked for on top when a server wants them: names separated by spaces. Of a
    /// server that wants any other the caller gets the refusal.
    #[must_use]
    pub fn allow(mut self, scopes: impl AsRef<str>) -> Self {
        let names = scopes.as_ref().split_whitespace();
        self.allowed.scopes.extend(names.map(str::to_owned));
        self
    }

    /// Authentication context class references that a server may want of the login (`acr_values`,
    /// RFC 9470 §3): separated by spaces.
    #[must_use]
    pub fn allow_acr(mut self, acr_values: impl AsRef<str>) -> Self {
        let names = acr_values.as_ref().split_whitespace();
        self.allowed.acr_values.extend(names.map(str::to_owned));
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be asked now, and by whom.
    fn current(&self) -> Result<(StepUpRequest, Arc<dyn DynTokenSource>), Error> {
        let (wanted, known) = {
            let state = self.lock();
            match &state.next {
                Some(next) => (next.clone(), None),
                None => (state.had.clone(), state.source.clone()),
            }
        };
        let source = match known {
            Some(source) => source,
            None => (self.build)(&wanted)?,
        };
        Ok((wanted, source))
    }
}

impl TokenSource for StepUp {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let (wanted, source) = self.current()?;
        let fetched = source.fetch(reason).await;
        let mut state = self.lock();
        match &fetched {
            Ok(token) => {
                state.latest = Some(token.generation());
                state.source = Some(source);
                // More may have come to be wanted in the meantime.
                state.next = state.next.take().filter(|next| *next != wanted);
                state.had = wanted;
            }
            Err(error) if error.is_permanent() && state.next.as_ref() == Some(&wanted) => {
                state.next = None;
                state.refused.insert(wanted.key());
            }
            Err(_) => {}
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

    fn challenged(&self, token: &Token, challenges: &[Challenge]) -> bool {
        let mut state = self.lock();
        let Some(challenge) = StepUpChallenge::of(challenges) else {
            let source = state.source.clone();
            drop(state);
            return source.is_some_and(|source| source.challenged(token, challenges));
        };
        let known = state.next.as_ref().unwrap_or(&state.had);
        let Some(next) = known.with(&challenge, &self.allowed) else {
            return false;
        };
        if state.refused.contains(&next.key()) {
            return false;
        }
        // Another request has had it asked for, or has it already.
        if state.next.as_ref() == Some(&next) || state.latest != Some(token.generation()) {
            return true;
        }
        let has_answer = if challenge.is_insufficient_scope() {
            next.scope != state.had.scope
        } else {
            state.may_log_in()
        };
        if has_answer {
            state.next = Some(next);
        }
        has_answer
    }
}

impl State {
    /// Whether it is time for another login. How long ago the last was, only the server knows: a
    /// token can be younger than the login behind it.
    fn may_log_in(&mut self) -> bool {
        let is_too_soon = self.logged_in.is_some_and(|at| at.elapsed() < LOGIN_FLOOR);
        if !is_too_soon {
            self.logged_in = Some(Instant::now());
        }
        !is_too_soon
    }
}

impl StepUpRequest {
    /// The scope to ask for (RFC 6749 §3.3): names separated by spaces; empty if none.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// How strong the login has to be (`acr_values`, RFC 9470 §3), if a server has said so.
    pub fn acr_values(&self) -> Option<&str> {
        self.acr_values.as_deref()
    }

    /// How long ago the login may be (`max_age`, RFC 9470 §3), if a server has said so.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// The same with what is wanted on top; `None` if that isn't allowed, or is nothing that could be
    /// asked for.
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
            let is_had = next.scope.split(' ').any(|had| had == name);
            if !is_had && !allowed.scopes.contains(name) {
                return None;
            }
            if !is_had {
                next.scope = scope::join([next.scope.as_str(), name]);
            }
        }
        Some(next)
    }

    /// What of it can be refused for good.
    fn key(&self) -> (String, Option<String>) {
        (self.scope.clone(), self.acr_values.clone())
    }
}

impl Allowed {
    /// Those of the wanted ones that are allowed, in the server's order of preference.
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
            .field("had", &state.had)
            .field("next", &state.next)
            .field("allowed_scopes", &self.allowed.scopes)
            .finish_non_exhaustive()
    }
}
