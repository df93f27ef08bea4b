//! Token exchange (RFC 8693): exchanges a token for another token.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
#[cfg(feature = "fleet")]
use secrecy::SecretString;

use super::token_params::{Reserved, TokenParams, token_param_setters};
use crate::error::{Error, Kind};
use crate::http_client::bounded_response::unusable;
use crate::http_client::response_fields::FieldValue;
use crate::http_client::token_response::{RESPONSE, TokenResponse};
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;
use crate::origin::Origin;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{DynTokenSource, Reason, TokenSource};
use crate::token::issued_token::Token;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// The token types of RFC 8693 §3.
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// Names that [`TokenExchange::param`] rejects.
const RESERVED: Reserved = &[
    ("grant_type", "it is always the grant type of RFC 8693 §2.1"),
    ("subject_token", "pass its source to the constructor"),
    ("subject_token_type", "use `.subject_token_type(…)`"),
    ("actor_token", "use `.actor(…)`"),
    ("actor_token_type", "use `.actor_token_type(…)`"),
    ("requested_token_type", "use `.requested_token_type(…)`"),
    ("audience", "use `.audience(…)`"),
    ("resource", "use `.resource(…)`"),
    ("scope", "use `.scope(…)`"),
];

/// Exchanges the token of one source for another token (RFC 8693). The new token may be for another
/// service, have less scope, or act on behalf of a user.
///
/// | setting | default |
/// | --- | --- |
/// | [`subject_token_type`](Self::subject_token_type), [`actor_token_type`](Self::actor_token_type) | `urn:ietf:params:oauth:token-type:access_token` |
/// | [`subject_id_token`](Self::subject_id_token) | off: the subject's access token is sent |
/// | [`actor`](Self::actor) | none |
/// | [`requested_token_type`](Self::requested_token_type) | none: the server decides |
/// | [`audience`](Self::audience), [`resource`](Self::resource), [`scope`](Self::scope) | none |
/// | [`assume_lifetime`](Self::assume_lifetime) | 1 h, used if neither `expires_in` nor a JWT's `exp` is present |
///
/// The subject can be any source. Each fetch first gets a token from the subject. A
/// [`TokenCache`](crate::TokenCache) is also a source, so several exchanges can share one subject
/// token. A [`SecretSource`](crate::SecretSource) is also a source; it reads a token from a file or
/// a variable, for example.
///
/// The server may refuse the subject or the actor with `invalid_request` (RFC 8693 §2.2.2) or
/// `invalid_grant`. Then both sources fetch once more with [`Reason::Refused`]. A cache that gets
/// this reason fetches a new token. If the sources return new tokens, these tokens are exchanged.
/// If the tokens are the same, or if the server refuses the new tokens too, the fetch returns the
/// error.
///
/// A response is an error in these cases:
///
/// - Its `token_type` is `N_A`, so the issued token is no access token (§2.2.1). Exception: you
///   [requested](Self::requested_token_type) another type than an access token, and the response
///   has the requested `issued_token_type`. With a DPoP key, `N_A` is always an error.
/// - It has no `issued_token_type`, which §2.2.1 requires.
/// - Its `issued_token_type` isn't an access token, a JWT or the requested type.
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
/// let layer = AuthLayer::new(exchange).only_to(["https://stock.example.com"])?;
/// # Ok(()) }
/// ```
pub struct TokenExchange {
    client: Client,
    subject: Box<dyn DynTokenSource>,
    subject_token_type: String,
    sends_id_token: bool,
    actor: Option<Box<dyn DynTokenSource>>,
    actor_token_type: String,
    requested_token_type: String,
    params: TokenParams,
}

impl TokenExchange {
    /// Creates a source that exchanges the token of `subject`. The subject is the user or the
    /// service that the new token represents.
    pub fn new(client: Client, subject: impl TokenSource) -> Self {
        Self {
            client,
            subject: Box::new(subject),
            subject_token_type: String::from(ACCESS_TOKEN),
            sends_id_token: false,
            actor: None,
            actor_token_type: String::from(ACCESS_TOKEN),
            requested_token_type: String::new(),
            params: TokenParams::new(RESERVED),
        }
    }

    /// Sets the type URI of the subject's token (RFC 8693 §3). Default:
    /// `urn:ietf:params:oauth:token-type:access_token`.
    #[must_use]
    pub fn subject_token_type(mut self, uri: impl Into<String>) -> Self {
        self.subject_token_type = uri.into();
        self
    }

    /// Sends the subject's [ID token](Token::id_token) instead of its access token, with the type
    /// `urn:ietf:params:oauth:token-type:id_token`. The subject is the source of a login with the
    /// scope `openid`, or a [`TokenCache`](crate::TokenCache) for such a source.
    ///
    /// If the subject has no ID token, the fetch fails with [`is_config`](Error::is_config).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth::oauth2::{Client, RefreshToken, TokenExchange};
    ///
    /// # fn example(client: Client, login: RefreshToken) -> Result<(), tower_auth::Error> {
    /// let subject = TokenCache::new(login);
    /// let exchange = TokenExchange::new(client, subject)
    ///     .subject_id_token()
    ///     .audience("https://stock.example.com");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn subject_id_token(mut self) -> Self {
        self.sends_id_token = true;
        self.subject_token_type(ID_TOKEN)
    }

    /// Sets the actor: the party that acts for the subject (`actor_token`, RFC 8693 §2.1). A
    /// request with an actor is delegation. A request without an actor is impersonation.
    #[must_use]
    pub fn actor(mut self, actor: impl TokenSource) -> Self {
        self.actor = Some(Box::new(actor));
        self
    }

    /// Sets the type URI of the actor's token, as [`subject_token_type`](Self::subject_token_type)
    /// does for the subject. The type is sent only with an actor's token.
    #[must_use]
    pub fn actor_token_type(mut self, uri: impl Into<String>) -> Self {
        self.actor_token_type = uri.into();
        self
    }

    /// Requests a type for the new token (RFC 8693 §2.1). By default, and if empty, the server
    /// decides. The layer sends the new token as a bearer token, whatever its type.
    #[must_use]
    pub fn requested_token_type(mut self, uri: impl Into<String>) -> Self {
        self.requested_token_type = uri.into();
        self
    }

    /// Adds a service for which the token is valid, by the name that the server uses (RFC 8693
    /// §2.1). Call this method again to add more services.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.params.add_audience(audience.into());
        self
    }

    async fn fetch_inputs(&self, reason: Reason) -> Result<InputTokens, Error> {
        let subject = self.subject.fetch(reason).await?;
        if self.sends_id_token && subject.id_token().is_none() {
            let message = "the subject's token has no ID token; request the scope `openid` when \
                           the user logs in";
            return Err(Error::new(Kind::Config, message));
        }
        let actor = match &self.actor {
            Some(actor) => Some(actor.fetch(reason).await?),
            None => None,
        };
        Ok(InputTokens { subject, actor })
    }

    async fn exchange(&self, inputs: &InputTokens) -> Result<TokenResponse, Error> {
        // `N_A` is accepted only if the caller requested another type than an access token.
        let requested = self.requested_token_type.as_str();
        let is_access_token = requested.is_empty() || requested == ACCESS_TOKEN;
        let no_access_token = Some(requested).filter(|_| !is_access_token);
        let grant = self.grant(Some(inputs));
        let endpoint = &self.client.endpoint;
        endpoint.request_type(grant, no_access_token).await
    }

    /// Returns the subject's ID token or access token, whichever is sent.
    fn subject_secret<'a>(&self, subject: &'a Token) -> &'a str {
        match self.sends_id_token {
            true => subject.id_token().unwrap_or_default(),
            false => subject.secret(),
        }
    }

    /// Returns whether both exchanges would send the same tokens.
    fn is_same(&self, one: &InputTokens, other: &InputTokens) -> bool {
        let is_same_actor = match (&one.actor, &other.actor) {
            (Some(one), Some(other)) => one.is_same_credential(other),
            (one, other) => one.is_none() && other.is_none(),
        };
        let is_same_subject = match self.sends_id_token {
            true => one.subject.id_token() == other.subject.id_token(),
            false => one.subject.is_same_credential(&other.subject),
        };
        is_same_actor && is_same_subject
    }

    /// Returns the parameters. The parameters of a request include the input tokens. The parameters
    /// of a store key omit the input tokens.
    fn grant<'a>(&'a self, inputs: Option<&'a InputTokens>) -> Params<'a> {
        let subject = inputs.map(|inputs| self.subject_secret(&inputs.subject));
        let actor = inputs.and_then(|inputs| Some(inputs.actor.as_ref()?.secret()));
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

    /// Exchanges these tokens. If the server refuses them, exchanges new tokens.
    async fn exchange_or_renew(&self, inputs: InputTokens) -> Result<TokenResponse, Error> {
        let refusal = match self.exchange(&inputs).await {
            Err(error) if is_input_refused(&error) => error,
            other => return other,
        };
        let renewed = self.fetch_inputs(Reason::Refused).await?;
        if self.is_same(&renewed, &inputs) {
            return Err(refusal);
        }
        self.exchange(&renewed).await
    }

    /// Accepts an issued token only if its type is an access token, a JWT, or the requested type.
    fn check_issued_type(&self, response: &TokenResponse) -> Result<(), Error> {
        let what = match &response.issued_token_type {
            FieldValue::Absent | FieldValue::Null => {
                "has no `issued_token_type`, which RFC 8693 §2.2.1 requires"
            }
            issued => match issued.text() {
                Some(ACCESS_TOKEN | JWT) => return Ok(()),
                // `requested_token_type` is empty by default.
                Some(issued) if !issued.is_empty() && issued == self.requested_token_type => {
                    return Ok(());
                }
                _ => {
                    "has an `issued_token_type` that is neither an access token nor a JWT nor \
                     the requested type"
                }
            },
        };
        Err(unusable(RESPONSE, StatusCode::OK, what))
    }
}

/// The tokens to exchange for the new token.
struct InputTokens {
    subject: Token,
    actor: Option<Token>,
}

/// Returns whether the server refused an input token. RFC 8693 §2.2.2 defines `invalid_request` for
/// an invalid token, but many servers send `invalid_grant` (RFC 6749 §5.2).
fn is_input_refused(error: &Error) -> bool {
    error.is_denied() && (error.is_invalid_grant() || error.code() == Some("invalid_request"))
}

token_param_setters!(
    TokenExchange,
    (params),
    [resource, scope, param, assume_lifetime]
);

impl TokenSource for TokenExchange {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        // The API refused only the exchanged token. The input tokens may still be valid.
        let reason = match reason {
            Reason::Refused => Reason::First,
            other => other,
        };
        let inputs = self.fetch_inputs(reason).await?;
        let response = self.exchange_or_renew(inputs).await?;
        self.check_issued_type(&response)?;
        self.params.token(&self.client, response)
    }

    /// Also closes the subject and the actor, but without a token, because this source doesn't keep
    /// their tokens. A subject or actor that is a [`TokenCache`](crate::TokenCache) stays open,
    /// because other users may share the cache.
    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let revoked = self.client.revoke(last).await;
        let subject = self.subject.close(None).await;
        let actor = match &self.actor {
            Some(actor) => actor.close(None).await,
            None => Ok(()),
        };
        revoked.and(subject).and(actor)
    }

    /// Returns `None` if the subject or the actor has no key.
    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let subject = self.subject.store_key()?;
        let key = self
            .client
            .store_key(&self.grant(None))
            .with_key("subject", &subject);
        let key = match self.sends_id_token {
            true => key.with("subject_token", "id_token"),
            false => key,
        };
        match &self.actor {
            Some(actor) => Some(key.with_key("actor", &actor.store_key()?)),
            None => Some(key),
        }
    }

    #[cfg(feature = "fleet")]
    fn bind(&self, to: &str, secret: SecretString) -> Result<Token, Error> {
        self.client.bind(to, secret)
    }

    fn origins(&self) -> Vec<Origin> {
        self.params.origins()
    }

    /// Returns the longer timeout of the subject and the actor.
    fn fetch_timeout(&self) -> Option<Duration> {
        let inputs = [Some(&self.subject), self.actor.as_ref()];
        let inputs = inputs.into_iter().flatten();
        inputs.filter_map(|input| input.fetch_timeout()).max()
    }

    fn has_one_time_grant(&self) -> bool {
        let inputs = [Some(&self.subject), self.actor.as_ref()];
        inputs
            .into_iter()
            .flatten()
            .any(|input| input.has_one_time_grant())
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange")
            .field("client", &self.client)
            .field("subject_token_type", &self.subject_token_type)
            .field("sends_id_token", &self.sends_id_token)
            .field("has_actor", &self.actor.is_some())
            .field("actor_token_type", &self.actor_token_type)
            .field("requested_token_type", &self.requested_token_type)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
