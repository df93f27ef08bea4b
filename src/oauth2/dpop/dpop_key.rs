//! The key that DPoP tokens are bound to, and its proofs (RFC 9449 §4).

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
use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::oauth2::jose::key_pair::JwsAlgorithm;
use crate::oauth2::jose::{jws, pem};
use crate::oauth2::random;
use crate::token::header_value::sensitive;

/// The key that DPoP tokens are bound to (RFC 9449): ECDSA on P-256 (`ES256`). Every server that
/// supports DPoP supports this algorithm.
///
/// A [generated](Self::generate) key is enough if each start of the process fetches new tokens. The
/// server also binds the refresh token of a public client to the key (§5). If you store such a
/// refresh token, also store the key ([`to_pem`](Self::to_pem)).
///
/// Clones share the same key. The cryptographic library keeps the private key in memory and
/// zeroizes it on drop. [`Debug`](fmt::Debug) shows the thumbprint of the public key.
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
    /// The header of every proof, already encoded.
    header: Zeroizing<String>,
    thumbprint: String,
}

/// The header of a proof (RFC 9449 §4.2).
#[derive(Serialize)]
struct Header<'a> {
    typ: &'static str,
    alg: &'static str,
    jwk: &'a PublicKey,
}

/// The public key as a JWK. The thumbprint is the hash of these fields, in this order (RFC 7638
/// §3.2).
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
    /// The address without query and fragment.
    pub(crate) url: &'a str,
    /// The [`hash`] of the request's token, if the request has a token.
    pub(crate) token: Option<&'a str>,
    pub(crate) nonce: Option<&'a str>,
}

impl DpopKey {
    /// Generates a new key.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the cryptographic library can't generate a key.
    pub fn generate() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::new(pair.map_err(|_| wrong("could not be generated"))?)
    }

    /// Reads a PKCS #8 key without a passphrase from PEM (RFC 7468).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the text isn't the PEM of a private P-256 key.
    pub fn from_pem(pem: impl Into<SecretString>) -> Result<Self, Error> {
        let pem = pem.into();
        let unfit = || wrong("isn't PEM of a private key in PKCS #8 on the curve P-256");
        let block = pem::private_key(pem.expose_secret()).map_err(|_| unfit())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &block.der);
        Self::new(pair.map_err(|_| unfit())?)
    }

    fn new(pair: EcdsaKeyPair) -> Result<Self, Error> {
        // The public key consists of the byte 4 and both coordinates (SEC 1 §2.3.3).
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

    /// Returns the private key as PKCS #8 in PEM. Store the key to use the same key after a
    /// restart.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the cryptographic library can't write the key.
    pub fn to_pem(&self) -> Result<SecretString, Error> {
        let der = self.inner.pair.to_pkcs8v1();
        let der = der.map_err(|_| wrong("could not be written as PEM"))?;
        Ok(pem::write_pkcs8(der.as_ref()))
    }

    /// Returns the thumbprint of the public key (RFC 7638). A token that is bound to the key
    /// contains the thumbprint (`cnf.jkt`, RFC 9449 §6.1). The parameter `dpop_jkt` also contains
    /// the thumbprint (§10).
    pub fn thumbprint(&self) -> &str {
        &self.inner.thumbprint
    }

    /// Makes a proof for one request. Each request needs a new proof, because a server may reject a
    /// proof that it already knows (§11.1).
    pub(crate) fn prove(&self, request: &ProofRequest<'_>) -> Result<HeaderValue, Error> {
        // The `jti` has 128 random bits; §4.2 requires at least 96.
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
        sensitive(Zeroizing::new(proof.as_bytes().to_vec())).ok_or_else(unprovable)
    }
}

/// Returns the SHA-256 hash in base64url. A token's `ath` (RFC 9449 §4.2) and a key's thumbprint
/// have this form.
pub(crate) fn hash(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

fn wrong(what: &str) -> Error {
    Error::new(Kind::Config, format!("the DPoP key {what}"))
}

fn unprovable() -> Error {
    Error::new(Kind::Config, "could not make a DPoP proof")
}

impl fmt::Debug for DpopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DpopKey")
            .field("thumbprint", &self.inner.thumbprint)
            .finish_non_exhaustive()
    }
}
