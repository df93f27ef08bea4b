//! DPoP proofs (RFC 9449): checks them, and asks for nonces.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tower_auth::Origin;

use super::oauth_error::OAuthError;
use crate::server::{RecordedRequest, ScriptedResponse};

/// The header that contains the proof.
pub(crate) const DPOP: &str = "dpop";

/// The header in which a server names its nonce.
const DPOP_NONCE: &str = "dpop-nonce";

/// What one server expects of proofs.
#[derive(Debug, Default)]
pub(crate) struct DpopState {
    requires_proof: bool,
    nonce: Option<String>,
    /// The `jti` of each proof. A proof is accepted once (§11.1).
    seen: HashSet<String>,
}

/// Why a proof is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum InvalidProof {
    Wrong(&'static str),
    Nonce,
}

impl DpopState {
    pub(crate) fn require_proof(&mut self) {
        self.requires_proof = true;
    }

    #[track_caller]
    pub(crate) fn require_nonce(&mut self, nonce: String) {
        let valid = HeaderValue::from_str(&nonce).is_ok();
        assert!(valid, "a nonce has to be text that a header can contain");
        self.nonce = Some(nonce);
    }

    /// Adds the nonce to a response.
    pub(crate) fn describe(&self, response: ScriptedResponse) -> ScriptedResponse {
        match &self.nonce {
            Some(nonce) if response.is_response() => response.header(DPOP_NONCE, nonce),
            _ => response,
        }
    }

    /// Returns the thumbprint of the key that the token will be bound to (§5).
    pub(crate) fn key_of_token_request(
        &mut self,
        request: &RecordedRequest,
    ) -> Result<Option<String>, OAuthError> {
        match self.check(request, None) {
            Ok(None) if self.requires_proof => {
                Err(OAuthError::InvalidDpopProof("there is no DPoP proof"))
            }
            Ok(key) => Ok(key),
            Err(InvalidProof::Wrong(why)) => Err(OAuthError::InvalidDpopProof(why)),
            Err(InvalidProof::Nonce) => Err(OAuthError::UseDpopNonce),
        }
    }

    /// Checks the proof of a request (§4.3), which has to name this token. Returns the thumbprint
    /// of its key, or `None` if there is no proof.
    pub(crate) fn check(
        &mut self,
        request: &RecordedRequest,
        token: Option<&str>,
    ) -> Result<Option<String>, InvalidProof> {
        let mut proofs = request.headers().get_all(DPOP).iter();
        let Some(proof) = proofs.next() else {
            return Ok(None);
        };
        let text = proof
            .to_str()
            .map_err(|_| InvalidProof::Wrong("the proof isn't text"))?;
        if proofs.next().is_some() {
            return Err(InvalidProof::Wrong("there are several proofs"));
        }
        let (key, claims) = verify(text).map_err(InvalidProof::Wrong)?;
        let claim = |name: &str| claims.get(name).and_then(Value::as_str);
        if claim("htm") != Some(request.method().as_str()) {
            return Err(InvalidProof::Wrong("htm is not the request's method"));
        }
        if !claim("htu").is_some_and(|url| is_url_of(url, request)) {
            return Err(InvalidProof::Wrong("htu is not the request's URL"));
        }
        if claim("ath") != token.map(hash).as_deref() {
            return Err(InvalidProof::Wrong("ath is not the token's hash"));
        }
        // Proofs have the system's time, which paused time has left behind. So their age isn't checked.
        if claims.get("iat").is_none_or(|iat| !iat.is_number()) {
            return Err(InvalidProof::Wrong("iat is missing"));
        }
        let jti = claim("jti").ok_or(InvalidProof::Wrong("jti is missing"))?;
        if !self.seen.insert(jti.to_owned()) {
            return Err(InvalidProof::Wrong("the proof was used before"));
        }
        if self.nonce.is_some() && claim("nonce") != self.nonce.as_deref() {
            return Err(InvalidProof::Nonce);
        }
        Ok(Some(key))
    }
}

/// Verifies the signature with the key in the proof's header. Returns the key's thumbprint (RFC
/// 7638) and the claims.
fn verify(proof: &str) -> Result<(String, Map<String, Value>), &'static str> {
    let malformed = "the proof is malformed";
    let header = jsonwebtoken::decode_header(proof).map_err(|_| malformed)?;
    if header.typ.as_deref() != Some("dpop+jwt") {
        return Err("typ is not dpop+jwt");
    }
    let jwk = header.jwk.ok_or("the proof has no key")?;
    if has_private_key(proof) {
        return Err("the proof contains a private key");
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "the key of the proof is malformed")?;
    if !matches!(
        header.alg,
        Algorithm::ES256 | Algorithm::EdDSA | Algorithm::RS256
    ) {
        return Err("the algorithm of the proof is not supported");
    }
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode(proof, &key, &validation)
        .map_err(|_| "the signature of the proof is wrong")?;
    let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256);
    Ok((
        thumbprint.map_err(|_| "the key of the proof is malformed")?,
        decoded.claims,
    ))
}

/// Returns whether the key in the proof's header is private (§4.3). `Jwk` doesn't read that part.
fn has_private_key(proof: &str) -> bool {
    let header = proof.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    header["jwk"].get("d").is_some()
}

/// Returns whether `url` is the request's, without its query. The default port may be left out.
fn is_url_of(url: &str, request: &RecordedRequest) -> bool {
    let origin = |text: &str| text.parse::<Origin>().ok();
    let Some(sent_to) = request.origin().and_then(|text| origin(&text)) else {
        return false;
    };
    let url = url.strip_suffix(request.path());
    url.and_then(origin) == Some(sent_to)
}

fn hash(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token))
}
