//! A client's key. The server knows its public half.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};
use tower_auth::oauth2::{JwsAlgorithm, SigningKey};

pub(crate) struct Key {
    pair: KeyPair,
}

impl Key {
    pub(crate) fn new() -> Self {
        Self {
            pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    /// Returns the key for signing with this crate.
    pub(crate) fn signing(&self) -> SigningKey {
        SigningKey::pem(JwsAlgorithm::ES256, self.pair.serialize_pem()).unwrap()
    }

    /// Returns the public half in PEM.
    pub(crate) fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// Returns the public half (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> Value {
        // An uncompressed point has these bytes: a 4, then x, then y.
        let point = self.pair.der_bytes();
        let [x, y] = [&point[1..33], &point[33..65]].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": x, "y": y}]})
    }

    /// Signs a JWT without this crate, like a platform that puts tokens into files.
    pub(crate) fn sign(&self, issuer: &str, subject: &str, audience: &str) -> String {
        let now = jsonwebtoken::get_current_timestamp();
        let claims = json!({
            "iss": issuer, "sub": subject, "aud": audience, "iat": now, "exp": now + 600,
            "jti": format!("{:032x}", fastrand::u128(..)),
        });
        let key = EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &key).unwrap()
    }
}
