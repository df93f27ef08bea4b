//! The compact form of a JSON Web Signature (RFC 7515 §3.1): header, payload and signature.

use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

/// Encodes a header or a payload for the compact form: JSON in base64url.
pub(crate) fn encode(part: &impl Serialize) -> serde_json::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(part)?))
}

/// Joins an encoded header and payload, and appends the signature that `sign` makes.
pub(crate) fn compact(
    header: &str,
    payload: &str,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, Unspecified>,
) -> Result<String, Unspecified> {
    let mut jws = format!("{header}.{payload}");
    let signature = sign(jws.as_bytes())?;
    jws.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jws);
    Ok(jws)
}
