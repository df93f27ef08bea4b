//! Header values that contain a secret.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, MaxSizeReached};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::error::{Error, Kind};

/// Builds a credential's header value from the scheme and the secret.
pub(crate) fn credential_value(
    header: &HeaderName,
    scheme: &str,
    secret: &SecretString,
) -> Result<HeaderValue, Error> {
    let secret = secret.expose_secret();
    // HTTP strips leading and trailing white space (RFC 9110 §5.5). The server would then receive a
    // different secret.
    if secret.is_empty() || secret.trim() != secret {
        return Err(illegal(header));
    }
    let mut wire = Zeroizing::new(Vec::with_capacity(scheme.len() + secret.len()));
    wire.extend_from_slice(scheme.as_bytes());
    wire.extend_from_slice(secret.as_bytes());
    sensitive(wire).ok_or_else(|| illegal(header))
}

/// Makes a sensitive header value. Its bytes are zeroized when the last clone is dropped.
pub(crate) fn sensitive(bytes: Zeroizing<Vec<u8>>) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn illegal(header: &HeaderName) -> Error {
    let message = format!(
        "the token is empty or contains bytes that are illegal in the `{header}` header; \
         check what the token source returns"
    );
    Error::new(Kind::IllegalToken, message)
}

/// Makes the error for a request whose header map is full.
#[cold]
pub(crate) fn too_many_headers(error: MaxSizeReached) -> Error {
    let message = "the request has too many headers to add a credential; send fewer headers";
    Error::new(Kind::Config, message).with_source(error)
}
