//! A signing key (RFC 7518 §3) from PEM, from a JWK or from a shared secret.
//!
//! Errors say what is wrong with a key, but show no part of the key.

use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};

use super::pem::{self, Block};

/// The algorithm of a private key's signatures (`alg`; RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JwsAlgorithm {
    /// RSA with PKCS #1 v1.5 padding (RFC 7518 §3.3). Every server supports this algorithm.
    RS256,
    /// RSA with PSS padding (RFC 7518 §3.5).
    PS256,
    /// ECDSA on the curve P-256 (RFC 7518 §3.4).
    ES256,
    /// Ed25519 (RFC 8037 §3.1).
    EdDSA,
}

impl JwsAlgorithm {
    /// Returns the name that a JWS header contains.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::oauth2::JwsAlgorithm;
    ///
    /// assert_eq!(JwsAlgorithm::ES256.as_str(), "ES256");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }

    fn not_its_key(self) -> String {
        let key = match self {
            Self::RS256 | Self::PS256 => "an RSA key of 2048 to 8192 bits",
            Self::ES256 => "an EC key on the curve P-256",
            Self::EdDSA => "an Ed25519 key",
        };
        format!("is not {key}, which {} needs", self.as_str())
    }
}

/// A key that has been validated.
pub(crate) enum KeyPair {
    Rsa(RsaKeyPair, Padding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hmac(Box<hmac::Key>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    Pkcs1,
    Pss,
}

/// The minimum length in bytes: an HS256 key must be at least as long as the hash (RFC 7518 §3.2).
const SHORTEST_SECRET: usize = 32;

impl KeyPair {
    /// Reads a private key from PEM: PKCS #8 (RFC 5958), or OpenSSL's forms PKCS #1 and SEC 1.
    pub(crate) fn from_pem(algorithm: JwsAlgorithm, text: &str) -> Result<Self, String> {
        let block = pem::private_key(text)?;
        let pair = match algorithm {
            JwsAlgorithm::RS256 => rsa(&block).map(|pair| Self::Rsa(pair, Padding::Pkcs1)),
            JwsAlgorithm::PS256 => rsa(&block).map(|pair| Self::Rsa(pair, Padding::Pss)),
            JwsAlgorithm::ES256 => ecdsa(&block).map(Self::Ecdsa),
            JwsAlgorithm::EdDSA => Ed25519KeyPair::from_pkcs8(&block.der).map(Self::Ed25519),
        };
        // The message names two causes: a wrong text and a wrong type of key. The library doesn't
        // distinguish the two causes.
        pair.map_err(|_| algorithm.not_its_key())
    }

    /// Makes a key from a secret that the server also has.
    pub(crate) fn from_secret(secret: &[u8]) -> Result<Self, String> {
        if secret.len() < SHORTEST_SECRET {
            return Err(format!(
                "has fewer than {SHORTEST_SECRET} bytes, the minimum for HS256 (RFC 7518 §3.2)"
            ));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Ok(Self::Hmac(Box::new(key)))
    }

    /// Returns the `alg` of the key's signatures.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_, Padding::Pkcs1) => JwsAlgorithm::RS256.as_str(),
            Self::Rsa(_, Padding::Pss) => JwsAlgorithm::PS256.as_str(),
            Self::Ecdsa(_) => JwsAlgorithm::ES256.as_str(),
            Self::Ed25519(_) => JwsAlgorithm::EdDSA.as_str(),
            Self::Hmac(_) => "HS256",
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        Ok(match self {
            Self::Rsa(pair, padding) => {
                let encoding: &'static dyn RsaEncoding = match padding {
                    Padding::Pkcs1 => &RSA_PKCS1_SHA256,
                    Padding::Pss => &RSA_PSS_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature)?;
                signature
            }
            Self::Ecdsa(pair) => pair.sign(&random, message)?.as_ref().to_vec(),
            Self::Ed25519(pair) => pair.try_sign(message)?.as_ref().to_vec(),
            Self::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
        })
    }
}

fn rsa(block: &Block<'_>) -> Result<RsaKeyPair, KeyRejected> {
    match block.label {
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&block.der),
        _ => RsaKeyPair::from_pkcs8(&block.der),
    }
}

fn ecdsa(block: &Block<'_>) -> Result<EcdsaKeyPair, KeyRejected> {
    // This function reads keys in PKCS #8 and in SEC 1.
    EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, &block.der)
}
