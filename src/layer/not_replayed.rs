//! The reasons for not replaying a refused request.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::challenge::step_up::StepUpChallenge;
use crate::error::Error;

/// The reason why the layer didn't replay a refused request. The caller gets the refusal as the
/// server sent it, with this reason in the response's extensions.
///
/// # Example
///
/// ```
/// use tower_auth::NotReplayed;
///
/// fn explain<B>(response: &http::Response<B>) -> &'static str {
///     match response.extensions().get() {
///         Some(NotReplayed::InsufficientScope) => "ask for more scope",
///         Some(NotReplayed::SameToken) => "the source returns the refused token again",
///         Some(_) => "see the logs",
///         None => "not refused",
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[doc(alias = "401")]
#[doc(alias = "retry")]
pub enum NotReplayed {
    /// [`AuthLayer::retry(false)`](crate::AuthLayer::retry) is set.
    Off,
    /// The token is valid, but this request needs more scope (RFC 6750 §3.1). The server would also
    /// refuse a new token with the same scope.
    InsufficientScope,
    /// The token comes from a login that is too weak or too old for this request (RFC 9470 §3).
    InsufficientUserAuthentication,
    /// The refusal has no `WWW-Authenticate` header, and
    /// [`retry_without_challenge(false)`](crate::AuthLayer::retry_without_challenge) is set.
    NoChallenge,
    /// The refusal comes from another origin, because the client followed a redirect. That origin
    /// never received the token, so the cache keeps the token.
    Elsewhere,
    /// The layer could not record the body: the body exceeds the
    /// [limit](crate::AuthLayer::body_limit) or can't be sent twice.
    Body,
    /// The fetch of a new token failed.
    Fetch(Error),
    /// An earlier refusal has just caused a fetch, and no server has accepted the current token
    /// yet. Another fetch would probably not help. The wait until the next fetch doubles, from 5 s
    /// to 5 min.
    RefusalBudget,
    /// The API accepts this token for other requests. The refusal therefore concerns this resource
    /// or one replica of the API. The API would probably refuse a new token too.
    ///
    /// The wait until the next fetch after a refusal doubles, from 5 s to 5 min. Other requests
    /// keep using the token.
    Resource,
    /// The source returned the refused token again.
    SameToken,
    /// The inner service failed before the request could be sent again.
    NotReady(Arc<dyn StdError + Send + Sync>),
    /// The server refused the replay too.
    Again,
}

impl NotReplayed {
    /// Returns the reason for a valid token that is insufficient for a request.
    pub(crate) fn lacking(wanted: &StepUpChallenge) -> Self {
        if wanted.is_insufficient_scope() {
            Self::InsufficientScope
        } else {
            Self::InsufficientUserAuthentication
        }
    }

    /// Returns the reason as one word, for logs and metrics.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::InsufficientScope => "insufficient_scope",
            Self::InsufficientUserAuthentication => "insufficient_user_authentication",
            Self::NoChallenge => "no_challenge",
            Self::Elsewhere => "elsewhere",
            Self::Body => "body",
            Self::Fetch(_) => "fetch",
            Self::RefusalBudget => "refusal_budget",
            Self::Resource => "resource",
            Self::SameToken => "same_token",
            Self::NotReady(_) => "not_ready",
            Self::Again => "again",
        }
    }
}

impl fmt::Display for NotReplayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "replays are switched off",
            Self::InsufficientScope => "the token's scope is insufficient",
            Self::InsufficientUserAuthentication => "the login behind the token is insufficient",
            Self::NoChallenge => "the refusal has no challenge",
            Self::Elsewhere => "another origin refused the request, after a redirect",
            Self::Body => "the body can't be sent again",
            Self::Fetch(_) => "could not fetch a new token",
            Self::RefusalBudget => "the budget of fetches after refusals is used up for now",
            Self::Resource => {
                "this resource refuses a token that the API accepts for other requests"
            }
            Self::SameToken => "the source returned the refused token again",
            Self::NotReady(_) => "the inner service became unusable",
            Self::Again => "the server refused the new token too",
        })
    }
}

impl StdError for NotReplayed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Fetch(error) => Some(error),
            Self::NotReady(error) => Some(&**error),
            Self::Off
            | Self::InsufficientScope
            | Self::InsufficientUserAuthentication
            | Self::NoChallenge
            | Self::Elsewhere
            | Self::Body
            | Self::RefusalBudget
            | Self::Resource
            | Self::SameToken
            | Self::Again => None,
        }
    }
}
