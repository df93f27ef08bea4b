//! A bearer token that somebody else sees to: it is read from where it is kept.

use secrecy::ExposeSecret;

use super::api_key::REREAD_EVERY;
use super::secret_source::SecretSource;
use super::token_source::{Reason, TokenSource};
use crate::error::Error;
use crate::token::issued_token::Token;
use crate::token::jwt;

/// A [bearer token](Token::bearer) that is read for each fetch: one that an agent rotates in a file
/// (a Kubernetes service account token), or a person has put in a variable.
///
/// A JWT is used until its `exp`, and read anew ahead of that; any other is read anew once a minute,
/// behind the requests, unless it is a fixed value. One that is refused is read anew at once.
///
/// ```
/// use tower_auth::{AuthLayer, SecretSource};
///
/// let layer = AuthLayer::new(SecretSource::file("/var/run/secrets/tokens/api"));
/// ```
impl TokenSource for SecretSource {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let secret = self.read().await?;
        let end = jwt::exp(secret.expose_secret());
        let token = Token::bearer(secret)?;
        Ok(match end {
            Some(end) => token.expires_at(end),
            None if self.value().is_some() => token,
            // Half of it is the window in which it is read anew behind the requests.
            None => token.expires_in(REREAD_EVERY * 2),
        })
    }
}
