//! A JWT that the client signs itself (RFC 7523 §3), again for each request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::signing_key::SigningKey;
use crate::error::{Error, Kind};
use crate::oauth2::random;
use crate::source::secret_source::SecretSource;
use crate::token::secret_json::SecretJson;

/// A JWT (RFC 7519) as a [`SecretSource`], signed again for each request. The JWT serves as the
/// assertion of a service account or of a client (RFC 7523 §3).
///
/// | claim | default |
/// | --- | --- |
/// | `iss`: [`issuer`](Self::issuer), `sub`: [`subject`](Self::subject), `aud`: [`audience`](Self::audience) | none |
/// | `iat` | now |
/// | `exp` | `iat` plus the [`lifetime`](Self::lifetime), by default 1 min |
/// | `jti` | 128 random bits for each JWT |
/// | others: [`claim`](Self::claim) | none |
///
/// The header's `typ` is `JWT`; [`typ`](Self::typ) changes it. RFC 7523 §3 requires `iss`, `sub` and
/// `aud`. Servers may refuse a second JWT with the same `jti`.
///
/// # Example
///
/// A service account at Google:
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
    typ: Cow<'static, str>,
    issuer: Option<String>,
    subject: Option<String>,
    audience: Vec<String>,
    claims: BTreeMap<String, SecretJson>,
    lifetime: Duration,
}

/// The default lifetime. A JWT is for one request, so its lifetime only has to cover the difference
/// between two clocks.
const LIFETIME: Duration = Duration::from_secs(60);

/// Names that [`SignedJwt::claim`] rejects, because another method or `SignedJwt` itself sets them.
const RESERVED: [(&str, &str); 6] = [
    ("iss", "use `.issuer(…)`"),
    ("sub", "use `.subject(…)`"),
    ("aud", "use `.audience(…)`"),
    ("exp", "use `.lifetime(…)`"),
    ("iat", "signing sets it to the current time"),
    ("jti", "signing sets it to a random value"),
];

impl SignedJwt {
    /// Creates a JWT that is signed with `key`.
    pub fn new(key: SigningKey) -> Self {
        Self {
            key,
            typ: Cow::Borrowed("JWT"),
            issuer: None,
            subject: None,
            audience: Vec::new(),
            claims: BTreeMap::new(),
            lifetime: LIFETIME,
        }
    }

    /// Sets the type of the JWT (`typ`, RFC 7515 §4.1.9). Default: `JWT`.
    ///
    /// With an explicit type, a server can't take one kind of JWT for another (RFC 8725 §3.11). For
    /// client authentication, the type is `client-authentication+jwt` (draft-ietf-oauth-rfc7523bis
    /// §4). This draft names no type for the JWT bearer grant.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::{Client, SignedJwt, SigningKey};
    ///
    /// # fn example(key: SigningKey) -> Result<(), tower_auth::Error> {
    /// let jwt = SignedJwt::new(key)
    ///     .typ("client-authentication+jwt")
    ///     .issuer("job")
    ///     .subject("job")
    ///     .audience("https://id.example.com");
    /// let client = Client::public("https://id.example.com/token", "job")?.client_assertion(jwt);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn typ(mut self, typ: impl Into<String>) -> Self {
        self.typ = Cow::Owned(typ.into());
        self
    }

    /// Sets the issuer, the party that signs the JWT (`iss`, RFC 7519 §4.1.1).
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets the subject, the party that the JWT represents (`sub`, RFC 7519 §4.1.2).
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Adds an audience (`aud`, RFC 7519 §4.1.3): the authorization server's issuer or its token
    /// endpoint. The JWT contains a single audience as a string, and several audiences as an array.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience.push(audience.into());
        self
    }

    /// Adds any other claim, such as Google's `scope`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is empty, is already set, or is one of `iss`,
    /// `sub`, `aud`, `exp`, `iat` and `jti`.
    pub fn claim(
        mut self,
        name: impl Into<String>,
        value: impl Into<Value>,
    ) -> Result<Self, Error> {
        let name = name.into();
        let wrong = |why: &str| {
            let message = format!("could not add the claim `{}`; {why}", name.escape_debug());
            Err(Error::new(Kind::Config, message))
        };
        if name.is_empty() {
            return wrong("it has no name");
        }
        if let Some((_, instead)) = RESERVED.iter().find(|(taken, _)| *taken == name) {
            return wrong(instead);
        }
        if self.claims.contains_key(&name) {
            return wrong("it is already set");
        }
        self.claims.insert(name, value.into().into());
        Ok(self)
    }

    /// Sets the lifetime, in whole seconds and at least 1 s. Default: 1 min. Servers limit the
    /// lifetime; for example, Google accepts at most 1 h.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    async fn sign(&self) -> Result<SecretString, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let iat = now.unwrap_or_default().as_secs();
        let exp = iat.saturating_add(self.lifetime.as_secs().max(1));
        let mut claims = self.claims.clone();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value.into());
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
        // 128 random bits make each `jti` unique (RFC 7519 §4.1.7).
        let jti = random::base64url::<16>()?;
        set("jti", jti.expose_secret().into());
        self.key.sign(&self.typ, &claims).await
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

/// Shows only the names of additional claims, because a claim's value may be a secret.
impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.claims.keys().collect();
        f.debug_struct("SignedJwt")
            .field("key", &self.key)
            .field("typ", &self.typ)
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("audience", &self.audience)
            .field("claims", &names)
            .field("lifetime", &self.lifetime)
            .finish()
    }
}
