//! The compact form of a JSON Web Signature (RFC 7515 §3.1): header, payload and signature.

use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::token::secret_json;

/// Encodes a header or a payload for the compact form: JSON in base64url.
pub(crate) fn encode(part: &impl Serialize) -> serde_json::Result<Zeroizing<String>> {
    let json = secret_json::encode(part)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(json)))
}

/// Joins an encoded header and payload, and appends the signature that `sign` makes. The result may
/// be a credential. The signature alone isn't a secret, because each payload has a random `jti`.
pub(crate) fn compact(
    header: &str,
    payload: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unspecified>,
) -> Result<Zeroizing<String>, Unspecified> {
    let signed = Zeroizing::new([header, payload].join("."));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())?);
    Ok(Zeroizing::new([signed.as_str(), &signature].join(".")))
}
