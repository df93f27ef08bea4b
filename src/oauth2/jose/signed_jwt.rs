//! A JWT that a client signs itself (RFC 7523 §3): a new one each time that it is read.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::signing_key::SigningKey;
use crate::error::{Error, Kind};
use crate::oauth2::random;
use crate::source::secret_source::SecretSource;

/// A JWT (RFC 7519) that is signed anew each time it is read as a [`SecretSource`]: the assertion of
/// a service account or of a client (RFC 7523 §3).
///
/// | claim | default |
/// | --- | --- |
/// | `iss`: [`issuer`](Self::issuer), `sub`: [`subject`](Self::subject), `aud`: [`audience`](Self::audience) | none |
/// | `iat` | now |
/// | `exp` | `iat` and the [`lifetime`](Self::lifetime): a minute |
/// | `jti` | 128 random bits, never the same twice |
/// | others: [`claim`](Self::claim) | none |
///
/// RFC 7523 §3 wants `iss`, `sub` and `aud`; servers refuse a JWT that comes twice by its `jti`.
///
/// # Example
///
/// A service account, as Google has them:
///
/// ```
/// use tower_auth::oauth2::{Client, JwsAlgorithm, JwtBearer, SignedJwt, SigningKey};
///
/// # fn example(key: String) -> Result<(), tower_auth::Error> {
/// # #[cfg(feature = "reqwest")] {
/// let url = "https://oauth2.example.com/token";
/// let jwt = SignedJwt::new(SigningKey::pem(JwsAlgorithm::RS256, key)?.key_id("c0ffee"))
///     .issuer("robot@project.example.com")
///     .audience(url)
///     .claim("scope", "https://example.com/auth/things.readonly")?;
/// let source = JwtBearer::new(Client::anonymous(url)?, jwt);
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SignedJwt {
    key: SigningKey,
    issuer: Option<String>,
    subject: Option<String>,
    audience: Vec<String>,
    claims: Map<String, Value>,
    lifetime: Duration,
}

/// It is signed for one request and used by it, so it need not outlive that by more than two clocks
/// differ.
const LIFETIME: Duration = Duration::from_secs(60);

/// Names that [`SignedJwt::claim`] leaves to whoever sets them.
const RESERVED: [(&str, &str); 6] = [
    ("iss", "use `.issuer(…)`"),
    ("sub", "use `.subject(…)`"),
    ("aud", "use `.audience(…)`"),
    ("exp", "use `.lifetime(…)`"),
    ("iat", "it is the time of signing"),
    ("jti", "it is random, each time anew"),
];

impl SignedJwt {
    /// A JWT that is signed with this key.
    pub fn new(key: SigningKey) -> Self {
        Self {
            key,
            issuer: None,
            subject: None,
            audience: Vec::new(),
            claims: Map::new(),
            lifetime: LIFETIME,
        }
    }

    /// Who signs it (`iss`, RFC 7519 §4.1.1).
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Whom it speaks for (`sub`, RFC 7519 §4.1.2).
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Adds whom it is for (`aud`, RFC 7519 §4.1.3): the authorization server's issuer or its token
    /// endpoint. One is a text, several are an array.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Adds any other claim, such as Google's `scope`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is empty or set already, or is one that another
    /// method or the signing itself sets: `iss`, `sub`, `aud`, `exp`, `iat`, `jti`.
    pub fn claim(
        mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<Self, Error> {
        let name = name.into();
        let wrong = |why: &str| {
            let message = format!("the claim `{}` can't be added: {why}", name.escape_debug());
            Err(Error::new(Kind::Config, message))
        };
        if name.is_empty() {
            return wrong("it has no name");
        }
        if let Some((_, instead)) = RESERVED.iter().find(|(taken, _)| *taken == name) {
            return wrong(instead);
        }
        if self.claims.contains_key(&name) {
            return wrong("it is set already");
        }
        self.claims.insert(name, value.into());
        Ok(self)
    }

    /// How long it is good from its signing on, in whole seconds and at least one; default a
    /// minute. Servers refuse long ones: the most that Google takes is an hour.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    async fn sign(&self) -> Result<SecretString, Error> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let iat = now.as_secs();
        let exp = iat.saturating_add(self.lifetime.as_secs().max(1));
        let mut claims = self.claims.clone();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        if let Some(issuer) = &self.issuer {
            set("iss", issuer.as_str().into());
        }
        if let Some(subject) = &self.subject {
            set("sub", subject.as_str().into());
        }
        match self.audience.as_slice() {
            [] => None,
            [one] => set("aud", one.as_str().into()),
            several => set("aud", several.into()),
        };
        set("iat", iat.into());
        set("exp", exp.into());
        // 128 bits, so that no two are ever the same (RFC 7519 §4.1.7).
        let jti = random::base64url::<16>()?;
        set("jti", jti.expose_secret().into());
        self.key.sign(&claims).await
    }
}

impl From<SignedJwt> for SecretSource {
    fn from(jwt: SignedJwt) -> Self {
        Self::from_fn(move || {
            let jwt = jwt.clone();
            async move { Ok(jwt.sign().await?) }
        })
    }
}

/// Of the other claims the names alone: a value may be a secret.
impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.claims.keys().collect();
        f.debug_struct("SignedJwt")
            .field("key", &self.key)
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("audience", &self.audience)
            .field("claims", &names)
            .field("lifetime", &self.lifetime)
            .finish()
    }
}
