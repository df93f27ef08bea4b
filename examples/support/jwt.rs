//! Access tokens: JWTs (RFC 9068), and the records that both servers share.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use tower_auth::cache::Clock;

/// The claims of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub sub: String,
    pub aud: String,
    pub scope: String,
    pub jti: String,
    pub iat: u64,
    pub exp: u64,
    /// Claims that the API defines. Their names start with the API's audience.
    #[serde(flatten)]
    pub own: BTreeMap<String, String>,
}

/// The tokens that were issued and revoked. Clones share the records.
#[derive(Clone)]
pub struct Tokens {
    clock: Clock,
    records: Arc<Mutex<Records>>,
}

#[derive(Default)]
struct Records {
    /// The key is the token's `jti`.
    issued: BTreeMap<String, String>,
    revoked: HashSet<String>,
}

/// Only this process accepts tokens that are signed with this key.
const KEY: &[u8] = b"known to everyone, trusted by no one";

/// Makes the claims that an API with accounts and roles defines. The names have exactly one `/`
/// after the audience, even if the audience ends with `/`.
fn own_claims(audience: &str) -> BTreeMap<String, String> {
    let audience = audience.trim_end_matches('/');
    let claims = [("account_id", "account-7"), ("role", "reader")];
    let claims = claims.map(|(name, value)| (format!("{audience}/{name}"), value.to_owned()));
    claims.into()
}

impl Tokens {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            records: Arc::default(),
        }
    }

    pub fn issue(
        &self,
        client: &str,
        audience: &str,
        scope: &str,
        lifetime: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut records = self.records();
        let iat = self.now();
        let claims = Claims {
            sub: client.to_owned(),
            aud: audience.to_owned(),
            scope: scope.to_owned(),
            jti: format!("token-{}", records.issued.len() + 1),
            iat,
            exp: iat + lifetime.as_secs(),
            own: own_claims(audience),
        };
        let header = Header::new(Algorithm::HS256);
        let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(KEY))?;
        records.issued.insert(claims.jti, token.clone());
        Ok(token)
    }

    /// Returns the claims of a token, or why the token is invalid.
    pub fn check(&self, token: &str, audiences: &[String]) -> Result<Claims, &'static str> {
        // The expiry is checked below, by this server's clock.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.set_audience(audiences);
        let claims: Claims =
            jsonwebtoken::decode(token, &DecodingKey::from_secret(KEY), &validation)
                .map_err(|error| match error.kind() {
                    jsonwebtoken::errors::ErrorKind::InvalidAudience => {
                        "The access token is for another audience"
                    }
                    _ => "The access token is malformed",
                })?
                .claims;
        if claims.exp <= self.now() {
            Err("The access token expired")
        } else if self.records().revoked.contains(&claims.jti) {
            Err("The access token was revoked")
        } else {
            Ok(claims)
        }
    }

    /// Revokes all tokens issued so far.
    pub fn revoke_all(&self) {
        let records = &mut *self.records();
        records.revoked.extend(records.issued.keys().cloned());
    }

    /// Returns all tokens issued so far.
    pub fn issued(&self) -> Vec<String> {
        self.records().issued.values().cloned().collect()
    }

    fn now(&self) -> u64 {
        let now = self.clock.now().wall().duration_since(UNIX_EPOCH);
        now.unwrap_or_default().as_secs()
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
