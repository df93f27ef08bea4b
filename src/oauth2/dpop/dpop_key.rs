//! The key that DPoP tokens are bound to, and the proofs that are made with it (RFC 9449 §4).

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderValue, Method};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters,
    EllipticCurveKeyType, Jwk,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// The key that DPoP tokens are bound to (RFC 9449): ECDSA on P-256 (`ES256`), which every server
/// with DPoP knows.
///
/// A [generated](Self::generate) one will do where each start of a process asks for its own tokens.
/// A refresh token of a public client is bound to the key as well (§5): keep the key
/// ([`to_pem`](Self::to_pem)) beside it.
///
/// A clone is the same key. The private key is in memory of the cryptographic library's, which wipes
/// it; [`Debug`](fmt::Debug) shows the thumbprint of the public one.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::DpopKey;
///
/// let key = DpopKey::generate()?;
/// let same = DpopKey::from_pem(key.to_pem()?)?;
/// assert_eq!(key.thumbprint(), same.thumbprint());
/// # Ok::<(), tower_auth::Error>(())
/// ```
#[derive(Clone)]
pub struct DpopKey {
    inner: Arc<Inner>,
}

struct Inner {
    pair: EcdsaKeyPair,
    /// The header of every proof, encoded.
    header: String,
    thumbprint: String,
}

/// What a proof claims (RFC 9449 §4.2).
#[derive(Serialize)]
struct Claims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

/// What a proof is about.
pub(crate) struct Occasion<'a> {
    pub(crate) method: &'a Method,
    /// Without query and fragment.
    pub(crate) url: &'a str,
    /// The [hash](hash) of the token that goes along, if one does.
    pub(crate) token: Option<&'a str>,
    pub(crate) nonce: Option<&'a str>,
}

impl DpopKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the cryptographic library can't make one.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::new(pair.map_err(|_| wrong("can't be generated"))?)
    }

    /// A key from PEM (RFC 7468), in PKCS #8 and without a passphrase.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if it isn't PEM, or isn't of a private key on P-256.
    pub fn from_pem(pem: impl Into<SecretString>) -> Result<Self, Error> {
        let pem = pem.into();
        // Nothing of the library's error: it may quote what it was given.
        let key = EncodingKey::from_ec_pem(pem.expose_secret().as_bytes())
            .map_err(|_| wrong("isn't PEM of a private EC key in PKCS #8"))?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes());
        Self::new(pair.map_err(|_| wrong("isn't on the curve P-256"))?)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, Error> {
        // 4, and both coordinates (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y), 65) = (point.get(1..33), point.get(33..), point.len()) else {
            return Err(wrong("has no public half"));
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // The members that RFC 7638 §3.2 wants, in its order.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let header = Header {
            typ: Some(String::from("dpop+jwt")),
            jwk: Some(Jwk {
                common: CommonParameters::default(),
                algorithm: AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
                    key_type: EllipticCurveKeyType::EC,
                    curve: EllipticCurve::P256,
                    x,
                    y,
                }),
            }),
            ..Header::new(Algorithm::ES256)
        };
        Ok(Self {
            inner: Arc::new(Inner {
                pair,
                header: encode(&header)?,
                thumbprint: hash(&members),
            }),
        })
    }

    /// The private key in PEM, PKCS #8, to be kept for the next start.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the cryptographic library can't write it.
    pub fn to_pem(&self) -> Result<SecretString, Error> {
        let der = self.inner.pair.to_pkcs8v1();
        let der = der.map_err(|_| wrong("can't be written"))?;
        let base64 = Zeroizing::new(STANDARD.encode(der.as_ref()));
        // Room enough that it is never moved: what is left behind isn't wiped.
        let mut pem = String::with_capacity(base64.len() * 2 + 64);
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for (at, letter) in base64.chars().enumerate() {
            if at > 0 && at % 64 == 0 {
                pem.push('\n');
            }
            pem.push(letter);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        Ok(SecretString::from(pem))
    }

    /// The thumbprint of the public key (RFC 7638), as it stands in a token that is bound to it
    /// (`cnf.jkt`, RFC 9449 §6.1), and in `dpop_jkt` (§10).
    pub fn thumbprint(&self) -> &str {
        &self.inner.thumbprint
    }

    /// A proof for one request: a new one each time, for a server may remember those that it has
    /// seen (§11.1).
    pub(crate) fn prove(&self, occasion: &Occasion<'_>) -> Result<HeaderValue, Error> {
        let jti = random()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let claims = encode(&Claims {
            jti: &jti,
            htm: occasion.method.as_str(),
            htu: occasion.url,
            iat: now.unwrap_or_default().as_secs(),
            ath: occasion.token,
            nonce: occasion.nonce,
        })?;
        let mut proof = format!("{}.{claims}", self.inner.header);
        let signature = self.inner.pair.sign(&SystemRandom::new(), proof.as_bytes());
        let signature = signature.map_err(|_| unprovable())?;
        proof.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut proof);
        let mut value = HeaderValue::try_from(proof).map_err(|_| unprovable())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// SHA-256 in base64url: of a token for `ath` (RFC 9449 §4.2), of a key for its thumbprint.
pub(crate) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

/// 128 bits, of which §4.2 wants 96 at least.
fn random() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| unprovable().with_source(error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn encode(part: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_vec(part).map_err(|_| unprovable())?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn wrong(what: &str) -> Error {
    Error::new(Kind::Config, format!("the DPoP key {what}"))
}

fn unprovable() -> Error {
    Error::new(Kind::Config, "no DPoP proof can be made")
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("thumbprint", &self.inner.thumbprint)
            .finish_non_exhaustive()
    }
}
