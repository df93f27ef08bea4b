//! The signing key of a client or a service account, and the id by which servers find the key.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::jwk;
use super::jws;
use super::key_pair::{JwsAlgorithm, KeyPair};
use crate::error::{Error, Kind};
use crate::source::secret_source::SecretSource;

/// A signing key (RFC 7515): a private key, or a secret that the server also has.
///
/// | form | signs with |
/// | --- | --- |
/// | [`pem`](Self::pem): PKCS #8, or OpenSSL's forms PKCS #1 and SEC 1 | the given [`JwsAlgorithm`] |
/// | [`jwk`](Self::jwk): a private JWK (RFC 7517) | its `alg`; without an `alg`, its `kty` decides between RS256, ES256, EdDSA and HS256 |
/// | [`hmac`](Self::hmac): a secret of 32 bytes or more | HS256 |
///
/// The constructor validates a key in a fixed string. A key in a file, a variable or a closure is
/// read again for each signature. You can therefore rotate the key while the service runs. If the
/// key is a JWK, the JWT's header contains the key's `kid`. If the server knows several keys of the
/// client, set a [`key_id`](Self::key_id) for a key that isn't a JWK.
///
/// [`Debug`](fmt::Debug) redacts the key, and errors don't show it.
///
/// # Example
///
/// ```
/// use tower_auth::SecretSource;
/// use tower_auth::oauth2::{JwsAlgorithm, SigningKey};
///
/// let file = SecretSource::file("/run/secrets/key.pem");
/// let key = SigningKey::pem(JwsAlgorithm::ES256, file)?.key_id("2026-01");
/// assert!(SigningKey::pem(JwsAlgorithm::ES256, "no key").unwrap_err().is_config());
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone)]
pub struct SigningKey {
    text: SecretSource,
    format: KeyFormat,
    /// The parsed key, if the source is a fixed string.
    fixed: Option<Arc<ParsedKey>>,
    key_id: Option<String>,
    x5t: Option<String>,
    x5t_s256: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum KeyFormat {
    Pem(JwsAlgorithm),
    Jwk,
    Hmac,
}

/// A key, and its `kid` if the text contains a `kid`.
struct ParsedKey {
    pair: KeyPair,
    key_id: Option<String>,
}

impl SigningKey {
    /// Takes a private key in PEM (RFC 7468), without a passphrase. Skips other blocks, such as a
    /// certificate.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a fixed string isn't the PEM of a private key for
    /// `algorithm`.
    pub fn pem(algorithm: JwsAlgorithm, key: impl Into<SecretSource>) -> Result<Self, Error> {
        Self::new(KeyFormat::Pem(algorithm), key.into())
    }

    /// Takes a private key as a JWK in JSON (RFC 7517): RSA, EC on P-256, OKP with Ed25519, or
    /// `oct`.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a fixed string isn't such a key.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::SigningKey;
    ///
    /// let key = SigningKey::jwk(SecretSource::file("/run/secrets/key.jwk"))?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn jwk(key: impl Into<SecretSource>) -> Result<Self, Error> {
        Self::new(KeyFormat::Jwk, key.into())
    }

    /// Takes a secret that the server also has, for HS256.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if a fixed string has fewer than 32 bytes (RFC 7518 §3.2).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::SigningKey;
    ///
    /// let key = SigningKey::hmac(SecretSource::env("SIGNING_SECRET"))?;
    /// assert!(SigningKey::hmac("too short").unwrap_err().is_config());
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn hmac(secret: impl Into<SecretSource>) -> Result<Self, Error> {
        Self::new(KeyFormat::Hmac, secret.into())
    }

    fn new(format: KeyFormat, text: SecretSource) -> Result<Self, Error> {
        let mut key = Self {
            text,
            format,
            fixed: None,
            key_id: None,
            x5t: None,
            x5t_s256: None,
        };
        if let Some(text) = key.text.value() {
            key.fixed = Some(Arc::new(key.parse(text)?));
        }
        Ok(key)
    }

    /// Sets the id of the key (`kid`, RFC 7515 §4.1.4). Default: the `kid` of a JWK; none for other
    /// keys.
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    /// Identifies the key by the SHA-1 thumbprint of its certificate (`x5t`, RFC 7515 §4.1.7).
    /// Microsoft Entra needs this thumbprint.
    ///
    /// The thumbprint is in base64url or in hexadecimal digits, the form on Entra's pages. By
    /// default, no thumbprint is sent.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the thumbprint has another form or isn't 20 bytes long.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::{JwsAlgorithm, SigningKey};
    ///
    /// let file = SecretSource::file("/run/secrets/key.pem");
    /// let key = SigningKey::pem(JwsAlgorithm::RS256, file)?
    ///     .x5t("00112233445566778899AABBCCDDEEFF00112233")?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn x5t(mut self, thumbprint: impl AsRef<str>) -> Result<Self, Error> {
        self.x5t = Some(base64url(thumbprint.as_ref(), "x5t", 20)?);
        Ok(self)
    }

    /// Identifies the key by the SHA-256 thumbprint of its certificate (`x5t#S256`, RFC 7515
    /// §4.1.8).
    ///
    /// The thumbprint may have the same forms as in [`x5t`](Self::x5t). By default, no thumbprint
    /// is sent.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the thumbprint has another form or isn't 32 bytes long.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::oauth2::{JwsAlgorithm, SigningKey};
    ///
    /// let file = SecretSource::file("/run/secrets/key.pem");
    /// let thumbprint = "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF";
    /// let key = SigningKey::pem(JwsAlgorithm::PS256, file)?.x5t_s256(thumbprint)?;
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn x5t_s256(mut self, thumbprint: impl AsRef<str>) -> Result<Self, Error> {
        self.x5t_s256 = Some(base64url(thumbprint.as_ref(), "x5t#S256", 32)?);
        Ok(self)
    }

    /// Signs a JWT with this type and these claims, in the compact form (RFC 7515 §3.1).
    pub(crate) async fn sign(
        &self,
        typ: &str,
        claims: &impl Serialize,
    ) -> Result<SecretString, Error> {
        let key = match &self.fixed {
            Some(key) => Arc::clone(key),
            None => Arc::new(self.parse(&self.text.read().await?)?),
        };
        let header = Header {
            alg: key.pair.algorithm(),
            typ,
            kid: self.key_id.as_deref().or(key.key_id.as_deref()),
            x5t: self.x5t.as_deref(),
            x5t_s256: self.x5t_s256.as_deref(),
        };
        let unwritable = |error| unsigned().with_source(error);
        let header = jws::encode(&header).map_err(unwritable)?;
        let claims = jws::encode(claims).map_err(unwritable)?;
        let jwt = jws::compact(&header, &claims, |jwt| key.pair.sign(jwt));
        let jwt = jwt.map_err(|_| unsigned())?;
        Ok(SecretString::from(jwt.as_str()))
    }

    fn parse(&self, text: &SecretString) -> Result<ParsedKey, Error> {
        let text = text.expose_secret();
        let without_id = |pair| ParsedKey { pair, key_id: None };
        match self.format {
            KeyFormat::Pem(algorithm) => KeyPair::from_pem(algorithm, text).map(without_id),
            KeyFormat::Hmac => KeyPair::from_secret(text.as_bytes()).map(without_id),
            KeyFormat::Jwk => jwk::read(text).map(|(pair, key_id)| ParsedKey { pair, key_id }),
        }
        .map_err(|what| {
            let message = format!("the signing key, {}, {what}", self.text);
            Error::new(Kind::Config, message)
        })
    }
}

/// The header of a JWT (RFC 7515 §4.1).
#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x5t: Option<&'a str>,
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    x5t_s256: Option<&'a str>,
}

fn unsigned() -> Error {
    Error::new(Kind::Source, "could not sign the JWT")
}

/// Converts a thumbprint to base64url, which is its form in a header. The length of the text shows
/// whether its form is hexadecimal or base64url.
fn base64url(thumbprint: &str, name: &str, length: usize) -> Result<String, Error> {
    let digits: String = thumbprint.chars().filter(|c| *c != ':').collect();
    let bytes = if digits.len() == 2 * length {
        hexadecimal(&digits)
    } else {
        URL_SAFE_NO_PAD.decode(thumbprint).ok()
    };
    match bytes {
        Some(bytes) if bytes.len() == length => Ok(URL_SAFE_NO_PAD.encode(bytes)),
        _ => {
            let message = format!(
                "the thumbprint for `{name}` is not {length} bytes in base64url or hexadecimal"
            );
            Err(Error::new(Kind::Config, message))
        }
    }
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::try_from(digit(&pair[0])? * 16 + digit(&pair[1])?).ok())
        .collect()
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("text", &self.text)
            .field("format", &self.format)
            .field("key_id", &self.key_id)
            .field("x5t", &self.x5t)
            .field("x5t_s256", &self.x5t_s256)
            .finish_non_exhaustive()
    }
}
