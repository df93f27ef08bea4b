//! Token exchange (RFC 8693): one token for another, for another service or on behalf of somebody.

use std::fmt;

use http::StatusCode;
#[cfg(feature = "fleet")]
use secrecy::SecretString;

use super::token_params::{Reserved, TokenParams, token_param_setters};
use crate::error::Error;
use crate::http_client::bounded_response::unusable;
use crate::http_client::response_fields::FieldValue;
use crate::http_client::token_response::{RESPONSE, TokenResponse};
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::token::issued_token::Token;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// RFC 8693 §3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Names that [`TokenExchange::param`] leaves to whoever sets them.
const RESERVED: Reserved = &[
    ("grant_type", "it is always that of RFC 8693 §2.1"),
    ("subject_token", "the constructor takes its source"),
    ("subject_token_type", "use `.subject_token_type(…)`"),
    ("actor_token", "use `.actor(…)`"),
    ("actor_token_type", "use `.actor_token_type(…)`"),
    ("requested_token_type", "use `.requested_token_type(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
    ("scope", "use `.scope(…)`"),
];

/// Exchanges the token of one source for another (RFC 8693): for a service further on, for less
/// scope, or on behalf of somebody.
///
/// | setting | default |
/// | --- | --- |
/// | [`subject_token_type`](Self::subject_token_type), [`actor_token_type`](Self::actor_token_type) | `urn:ietf:params:oauth:token-type:access_token` |
/// | [`actor`](Self::actor) | none: the subject isn't acted for by anybody else |
/// | [`requested_token_type`](Self::requested_token_type) | none: the server decides |
/// | [`audience`](Self::audience), [`resource`](Self::resource), [`scope`](Self::scope) | none |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, if neither `expires_in` nor a JWT's `exp` says |
///
/// The subject is any source: each fetch asks it for its token first. A
/// [`TokenCache`](crate::TokenCache) is a source too, so that one subject token is fetched once and
/// exchanged by several; a [`SecretSource`](crate::SecretSource) is one whose token is read.
///
/// When the server doesn't accept the subject or the actor (`invalid_request`, RFC 8693 §2.2.2, or
/// `invalid_grant`), both sources are asked once more with [`Reason::Refused`], at which a cache
/// fetches a newer token. If that brings another one, it is exchanged; if not, or if it is refused
/// as well, the refusal is the error.
///
/// What is issued must be usable as an access token: a reply whose `issued_token_type` is missing
/// (§2.2.1 requires it), or is neither that of an access token, nor that of a JWT, nor the one that
/// was requested, is an error, and so is one whose `token_type` is `N_A`.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::{Client, ClientCredentials, TokenExchange};
/// use tower_auth::{AuthLayer, TokenCache};
///
/// # fn example(id: String, secret: String) -> Result<(), tower_auth::Error> {
/// let client = Client::new("https://id.example.com/token", id, secret)?;
/// let subject = TokenCache::new(ClientCredentials::with_client(client.clone()));
///
/// let exchange = TokenExchange::new(client, subject).audience("https://stock.example.com");
/// let layer = AuthLayer::new(exchange);
/// # Ok(()) }
/// ```
pub struct TokenExchange {
    client: Client,
    subject: Box<dyn DynTokenSource>,
    subject_token_type: String,
    actor: Option<Box<dyn DynTokenSource>>,
    actor_token_type: String,
    requested_token_type: String,
    params: TokenParams,
}

impl TokenExchange {
    /// A source that exchanges the token of `subject`: of whom, or what, the new one is about.
    pub fn new(client: Client, subject: impl TokenSource) -> Self {
        Self {
            client,
            subject: Box::new(subject),
            subject_token_type: String::from(ACCESS_TOKEN),
            actor: None,
            actor_token_type: String::from(ACCESS_TOKEN),
            requested_token_type: String::new(),
            params: TokenParams::new(RESERVED),
        }
    }

    /// What the subject's token is (RFC 8693 §3): a URI, by default
    /// `urn:ietf:params:oauth:token-type:access_token`.
    #[must_use]
    pub fn subject_token_type(mut self, uri: impl Into<String>) -> Self {
        self.subject_token_type = uri.into();
        self
    }

    /// Who acts for the subject (RFC 8693 §2.1, `actor_token`): delegation rather than
    /// impersonation.
    #[must_use]
    pub fn actor(mut self, actor: impl TokenSource) -> Self {
        self.actor = Some(Box::new(actor));
        self
    }

    /// What the actor's token is, as [`subject_token_type`](Self::subject_token_type). It is sent
    /// only along with one.
    #[must_use]
    pub fn actor_token_type(mut self, uri: impl Into<String>) -> Self {
        self.actor_token_type = uri.into();
        self
    }

    /// What the new token is to be (RFC 8693 §2.1). Default, and if empty: the server decides.
    #[must_use]
    pub fn requested_token_type(mut self, uri: impl Into<String>) -> Self {
        self.requested_token_type = uri.into();
        self
    }

    /// Adds a service that the token is for, by the name that the server knows it by (RFC 8693
    /// §2.1). Can be called for several.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.params.add_audience(audience.into());
        self
    }

    async fn show(&self, reason: Reason) -> Result<Shown, Error> {
        let subject = self.subject.fetch(reason).await?;
        let actor = match &self.actor {
            Some(actor) => Some(actor.fetch(reason).await?),
            None => None,
        };
        Ok(Shown { subject, actor })
    }

    async fn exchange(&self, shown: &Shown) -> Result<TokenResponse, Error> {
        self.client.endpoint.request(self.grant(Some(shown))).await
    }

    /// What is asked, with what is shown or without.
    fn grant<'a>(&'a self, shown: Option<&'a Shown>) -> Params<'a> {
        let subject = shown.map(|shown| shown.subject.secret());
        let actor = shown.and_then(|shown| Some(shown.actor.as_ref()?.secret()));
        let mut params = Params::default();
        params.push("grant_type", GRANT_TYPE);
        params.push_secret("subject_token", subject.unwrap_or_default());
        params.push("subject_token_type", &self.subject_token_type);
        if self.actor.is_some() {
            params.push_secret("actor_token", actor.unwrap_or_default());
            params.push("actor_token_type", &self.actor_token_type);
        }
        params.push("requested_token_type", &self.requested_token_type);
        self.params.add_targets_to(&mut params);
        self.params.add_scope_to(&mut params);
        self.params.add_extra_params_to(&mut params);
        params
    }

    /// Exchanges what is shown, or if the server doesn't accept that, what there is instead.
    async fn exchange_or_renew(&self, shown: Shown) -> Result<TokenResponse, Error> {
        let refusal = match self.exchange(&shown).await {
            Err(error) if is_of_the_shown(&error) => error,
            other => return other,
        };
        let renewed = self.show(Reason::Refused).await?;
        if renewed.is_same(&shown) {
            return Err(refusal);
        }
        self.exchange(&renewed).await
    }

    /// Whether what was issued is an access token, or what was asked for in its place.
    fn judge(&self, reply: &TokenResponse) -> Result<(), Error> {
        let what = match &reply.issued_token_type {
            FieldValue::Absent | FieldValue::Null => {
                "has no `issued_token_type`, which RFC 8693 §2.2.1 requires"
            }
            issued => match issued.text() {
                Some(ACCESS_TOKEN | JWT) => return Ok(()),
                // Nothing is what is requested by default.
                Some(issued) if !issued.is_empty() && issued == self.requested_token_type => {
                    return Ok(());
                }
                _ => {
                    "has an `issued_token_type` that is neither an access token's nor the one \
                     that was requested"
                }
            },
        };
        Err(unusable(RESPONSE, StatusCode::OK, what))
    }
}

/// What is shown to the server for the new token.
struct Shown {
    subject: Token,
    actor: Option<Token>,
}

impl Shown {
    fn is_same(&self, other: &Self) -> bool {
        let is_same_actor = match (&self.actor, &other.actor) {
            (Some(one), Some(other)) => one.is_same_credential(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        is_same_actor && self.subject.is_same_credential(&other.subject)
    }
}

/// RFC 8693 §2.2.2 has `invalid_request` for a token that isn't good, and many servers have the
/// `invalid_grant` of RFC 6749 §5.2.
fn is_of_the_shown(error: &Error) -> bool {
    error.is_denied() && (error.is_invalid_grant() || error.code() == Some("invalid_request"))
}

token_param_setters!(
    TokenExchange,
    (params),
    [resource, scope, param, assume_lifetime]
);

impl TokenSource for TokenExchange {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        // It was the token that came of an exchange that was refused, none of those shown for it.
        let reason = match reason {
            Reason::Refused => Reason::First,
            other => other,
        };
        let shown = self.show(reason).await?;
        let reply = self.exchange_or_renew(shown).await?;
        self.judge(&reply)?;
        self.params.token(&self.client, reply)
    }

    /// Subject and actor are told too, without a token: none of theirs is kept here. A
    /// [`TokenCache`](crate::TokenCache) among them stays open, for it may be shared.
    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let revoked = self.client.revoke(last).await;
        let subject = self.subject.close(None).await;
        let actor = match &self.actor {
            Some(actor) => actor.close(None).await,
            None => Ok(()),
        };
        revoked.and(subject).and(actor)
    }

    /// Known if it is known of those who are shown.
    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let subject = self.subject.store_key()?;
        let key = self
            .client
            .store_key(&self.grant(None))
            .with_key("subject", &subject);
        match &self.actor {
            Some(actor) => Some(key.with_key("actor", &actor.store_key()?)),
            None => Some(key),
        }
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.client.bind(to, secret)
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange")
            .field("client", &self.client)
            .field("subject_token_type", &self.subject_token_type)
            .field("has_actor", &self.actor.is_some())
            .field("actor_token_type", &self.actor_token_type)
            .field("requested_token_type", &self.requested_token_type)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
