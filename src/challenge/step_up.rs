//! The challenge for a valid but insufficient token. The server requires more scope or a better
//! login.

use std::time::Duration;

use super::www_authenticate::Challenge;

/// What a server requires in addition to a valid token. The server requires more scope
/// (`insufficient_scope`, RFC 6750 §3.1), or a stronger or newer user login
/// (`insufficient_user_authentication`, RFC 9470 §3).
///
/// The layer inserts this challenge into the extensions of a 401 or 403 response. The cache fetches
/// another token only if the source [can fetch a sufficient token](crate::TokenSource::challenged).
/// [`oauth2::StepUp`](crate::oauth2::StepUp) is such a source.
///
/// # Example
///
/// ```
/// use tower_auth::challenge::StepUpChallenge;
///
/// fn explain<B>(response: &http::Response<B>) -> Option<String> {
///     let wanted: &StepUpChallenge = response.extensions().get()?;
///     Some(match wanted.scope() {
///         Some(scope) => format!("log in again and allow {scope}"),
///         None => String::from("log in again"),
///     })
/// }
/// ```
///
/// The parameters of the user's next login:
///
/// ```
/// use tower_auth::challenge::StepUpChallenge;
///
/// fn next_login(wanted: &StepUpChallenge) -> Vec<(&'static str, String)> {
///     let mut params = Vec::new();
///     if wanted.is_insufficient_scope() {
///         params.extend(wanted.scope().map(|scope| ("scope", scope.to_owned())));
///     }
///     if wanted.is_insufficient_user_authentication() {
///         params.extend(wanted.acr_values().map(|acr| ("acr_values", acr.to_owned())));
///         let seconds = wanted.max_age().map(|age| age.as_secs().to_string());
///         params.extend(seconds.map(|seconds| ("max_age", seconds)));
///     }
///     params
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUpChallenge {
    lack: Lack,
    scope: Option<String>,
    acr_values: Option<String>,
    max_age: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Scope,
    UserAuthentication,
}

impl StepUpChallenge {
    /// Returns the first challenge that requires a step-up.
    pub(crate) fn of(challenges: &[Challenge]) -> Option<Self> {
        challenges.iter().find_map(|challenge| {
            let lack = if challenge.is_insufficient_scope() {
                Lack::Scope
            } else if challenge.is_insufficient_user_authentication() {
                Lack::UserAuthentication
            } else {
                return None;
            };
            let text = |name| challenge.param(name).map(str::to_owned);
            let seconds = challenge.param("max_age").map(str::parse);
            Some(Self {
                lack,
                scope: text("scope"),
                acr_values: text("acr_values"),
                max_age: seconds.and_then(Result::ok).map(Duration::from_secs),
            })
        })
    }

    /// Returns whether the token lacks scope.
    pub fn is_insufficient_scope(&self) -> bool {
        self.lack == Lack::Scope
    }

    /// Returns whether the user's login is too weak or too old.
    pub fn is_insufficient_user_authentication(&self) -> bool {
        self.lack == Lack::UserAuthentication
    }

    /// Returns the required scope: names separated by spaces (RFC 6750 §3). The server chose this
    /// text, so request only scopes that you trust.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// Returns the required login strength (RFC 9470 §3). The result is a list of authentication
    /// context class references, separated by spaces. The preferred reference is first.
    pub fn acr_values(&self) -> Option<&str> {
        self.acr_values.as_deref()
    }

    /// Returns the maximum age of the login (RFC 9470 §3). Zero requires a new login.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }
}
