//! The key that DPoP tokens are bound to, and the proofs that are made with it (RFC 9449 §4).

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, Kind};
use crate::oauth2::jose::key_pair::JwsAlgorithm;
use crate::oauth2::jose::{jws, pem};
use crate::oauth2::random;

/// The key that DPoP tokens are bound to (RFC 9449): ECDSA on P-256 (`ES256`), which every server
/// with DPoP supports.
///
/// A [generated](Self::generate) key is enough if each start of a process fetches its own tokens.
/// A refresh token of a public client is bound to the key too (§5): store the key
/// ([`to_pem`](Self::to_pem)) beside that token.
///
/// A clone is the same key. The cryptographic library holds the private key in memory, and zeroizes
/// it. [`Debug`](fmt::Debug) shows the thumbprint of the public key.
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
    inner: Arc<ProofKey>,
}

struct ProofKey {
    pair: EcdsaKeyPair,
    /// The header of every proof, encoded.
    header: String,
    thumbprint: String,
}

/// The header of a proof (RFC 9449 §4.2).
#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    jwk: &'a PublicKey,
}

/// The public key as a JWK, with the fields of which RFC 7638 §3.2 makes the thumbprint, in its
/// order.
#[derive(Serialize)]
struct PublicKey {
    crv: &'static str,
    kty: &'static str,
    x: String,
    y: String,
}

/// The claims of a proof (RFC 9449 §4.2).
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

/// The request that a proof is for.
pub(crate) struct ProofRequest<'a> {
    pub(crate) method: &'a Method,
    /// Without query and fragment.
    pub(crate) url: &'a str,
    /// The [hash](hash) of the token on the request, if it has one.
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
    /// [`is_config`](Error::is_config) if it isn't PEM of a private key on P-256.
    pub fn from_pem(pem: impl Into<SecretString>) -> Result<Self, Error> {
        let pem = pem.into();
        let unfit = || wrong("isn't PEM of a private key in PKCS #8 on the curve P-256");
        let block = pem::private_key(pem.expose_secret()).map_err(|_| unfit())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &block.der);
        Self::new(pair.map_err(|_| unfit())?)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, Error> {
        // The byte 4 and both coordinates (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y), 65) = (point.get(1..33), point.get(33..), point.len()) else {
            return Err(wrong("has no public key"));
        };
        let public = PublicKey {
            crv: "P-256",
            kty: "EC",
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        };
        let header = Header {
            typ: "dpop+jwt",
            alg: JwsAlgorithm::ES256.as_str(),
            jwk: &public,
        };
        let thumbprint = serde_json::to_string(&public).map_err(|_| unprovable())?;
        Ok(Self {
            inner: Arc::new(ProofKey {
                pair,
                header: jws::encode(&header).map_err(|_| unprovable())?,
                thumbprint: hash(&thumbprint),
            }),
        })
    }

    /// The private key in PEM, PKCS #8, to be stored for the next start.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the cryptographic library can't write it.
    pub fn to_pem(&self) -> Result<SecretString, Error> {
        let der = self.inner.pair.to_pkcs8v1();
        let der = der.map_err(|_| wrong("can't be written"))?;
        Ok(pem::write_pkcs8(der.as_ref()))
    }

    /// The thumbprint of the public key (RFC 7638), as in a token that is bound to the key
    /// (`cnf.jkt`, RFC 9449 §6.1), and in `dpop_jkt` (§10).
    pub fn thumbprint(&self) -> &str {
        &self.inner.thumbprint
    }

    /// Makes a proof for one request. Each request needs a new one, because a server may refuse
    /// those that it has seen (§11.1).
    pub(crate) fn prove(&self, request: &ProofRequest<'_>) -> Result<HeaderValue, Error> {
        // 128 bits; §4.2 asks for 96 at least.
        let jti = random::base64url::<16>().map_err(|error| unprovable().with_source(error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let claims = Claims {
            jti: jti.expose_secret(),
            htm: request.method.as_str(),
            htu: request.url,
            iat: now.unwrap_or_default().as_secs(),
            ath: request.token,
            nonce: request.nonce,
        };
        let claims = jws::encode(&claims).map_err(|_| unprovable())?;
        let sign = |proof: &[u8]| {
            let signature = self.inner.pair.sign(&SystemRandom::new(), proof)?;
            Ok(signature.as_ref().to_vec())
        };
        let proof = jws::compact(&self.inner.header, &claims, sign).map_err(|_| unprovable())?;
        let mut value = HeaderValue::try_from(proof).map_err(|_| unprovable())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// SHA-256 in base64url: of a token for `ath` (RFC 9449 §4.2), of a key for its thumbprint.
pub(crate) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
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
