//! Header values that hold a secret.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, MaxSizeReached};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// The header's value: `scheme`, and the secret behind it.
pub(crate) fn prepare(
    header: &HeaderName,
    scheme: &str,
    secret: &SecretString,
) -> Result<HeaderValue, Error> {
    let secret = secret.expose_secret();
    // Leading and trailing white space would be stripped on the way (RFC 9110 §5.5), and
    // another credential would arrive than the one issued.
    if secret.is_empty() || secret.trim() != secret {
        return Err(illegal(header));
    }
    let mut wire = Zeroizing::new(Vec::with_capacity(scheme.len() + secret.len()));
    wire.extend_from_slice(scheme.as_bytes());
    wire.extend_from_slice(secret.as_bytes());
    sensitive(wire).ok_or_else(|| illegal(header))
}

/// A sensitive header value over bytes that are zeroized when its last clone goes.
pub(crate) fn sensitive(bytes: Zeroizing<Vec<u8>>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn illegal(header: &HeaderName) -> Error {
    let message = format!(
        "the token is empty or holds bytes that are illegal in the `{header}` header; \
         check what the token source returns"
    );
    Error::new(Kind::IllegalToken, message)
}

#[cold]
pub(crate) fn too_many(error: MaxSizeReached) -> Error {
    let message = "the request has so many headers that no credential fits among them";
    Error::new(Kind::Config, message).with_source(error)
}
