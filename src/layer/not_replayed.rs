//! Why a refused request was not sent again.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::challenge::step_up::StepUpChallenge;
use crate::error::Error;

/// Why a refused request wasn't sent again. The layer leaves it in the extensions of the
/// refusal, which the caller gets as the server sent it.
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
pub enum NotReplayed {
    /// [`AuthLayer::retry(false)`](crate::AuthLayer::retry) is set.
    Off,
    /// The token is good but not for this (RFC 6750 §3.1): a new one of the same kind would be
    /// refused as well.
    InsufficientScope,
    /// The login behind the token is too weak or too long ago for this (RFC 9470 §3).
    InsufficientUserAuthentication,
    /// The refusal has no `WWW-Authenticate`, and the layer was told not to replay on such.
    NoChallenge,
    /// The refusal is another origin's, to which the client was redirected. It says nothing of a
    /// token that was not sent there, so that isn't rejected.
    Elsewhere,
    /// Not enough of the body was kept: it is larger than the
    /// [limit](crate::AuthLayer::body_limit), or it can't be read twice.
    Body,
    /// No new token could be had.
    Fetch(Error),
    /// The tokens before this one were refused as soon as they were issued, and so was this one:
    /// another would be as well. It is replaced when a delay is over that doubles each time.
    Latched,
    /// The source returned the refused token again.
    SameToken,
    /// The client became unusable before the request could be sent again.
    NotReady(Arc<dyn StdError + Send + Sync>),
    /// The replay was refused as well.
    Again,
}

impl NotReplayed {
    /// Why a request isn't sent again for which the token isn't enough.
    pub(crate) fn lacking(wanted: &StepUpChallenge) -> Self {
        if wanted.is_insufficient_scope() {
            Self::InsufficientScope
        } else {
            Self::InsufficientUserAuthentication
        }
    }

    /// The reason as one word, as it stands in logs and metrics.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::InsufficientScope => "insufficient_scope",
            Self::InsufficientUserAuthentication => "insufficient_user_authentication",
            Self::NoChallenge => "no_challenge",
            Self::Elsewhere => "elsewhere",
            Self::Body => "body",
            Self::Fetch(_) => "fetch",
            Self::Latched => "latched",
            Self::SameToken => "same_token",
            Self::NotReady(_) => "not_ready",
            Self::Again => "again",
        }
    }
}

impl fmt::Display for NotReplayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "replay is switched off",
            Self::InsufficientScope => "the token's scope is insufficient",
            Self::InsufficientUserAuthentication => "the login behind the token is insufficient",
            Self::NoChallenge => "the refusal has no challenge",
            Self::Elsewhere => "another origin refused, after a redirect",
            Self::Body => "the body can't be sent again",
            Self::Fetch(_) => "no new token could be had",
            Self::Latched => "tokens are refused as soon as they are issued",
            Self::SameToken => "the source returned the refused token again",
            Self::NotReady(_) => "the client became unusable",
            Self::Again => "the new token was refused as well",
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
            | Self::Latched
            | Self::SameToken
            | Self::Again => None,
        }
    }
}
