//! Reads when a JWT expires (RFC 7519 §4.1), without verifying the JWT.
//!
//! A token is opaque to its client (RFC 6749 §1.4). The claims only decide when to refresh the
//! token. They can shorten the lifetime that the server states, but never lengthen it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD_INDIFFERENT;
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::issued_token::Expiry;
use super::secret_json::SecretJson;

/// The claims that contain times, in seconds since 1970. A time may have a fraction (RFC 7519 §2,
/// NumericDate).
struct Claims {
    exp: f64,
    iat: Option<f64>,
}

/// The claims as the server wrote them.
#[derive(Deserialize)]
struct SentClaims {
    exp: SecretJson,
    #[serde(default)]
    iat: SecretJson,
}

/// Returns the remaining lifetime of the token by the server's clock, or an upper bound. `None` if
/// the token isn't a JWT with the necessary claims.
///
/// `sent_at` is the time of the response by the server's clock. The result is the time from
/// `sent_at` to `exp`, or from `iat` to `exp` if this is shorter or `sent_at` is unknown. The time
/// from `iat` is only an upper bound, because a server may return a token that it issued earlier.
/// The local clock isn't used, because a wrong local clock would end the token too early.
pub(crate) fn lifetime(token: &str, sent_at: Option<SystemTime>) -> Option<Duration> {
    let claims = claims(token)?;
    let exp = time(claims.exp)?;
    let from_iat = claims.iat.and_then(time);
    let from_iat = from_iat.and_then(|iat| exp.duration_since(iat).ok());
    let left = sent_at.map(|sent_at| exp.duration_since(sent_at).unwrap_or_default());
    match (left, from_iat) {
        (Some(left), Some(bound)) => Some(left.min(bound)),
        (left, bound) => left.or(bound),
    }
}

/// Returns when a token expires if its response states no lifetime. `None` if the token isn't a JWT
/// with an `exp` claim. `sent_at` is the same as for [`lifetime`].
///
/// Without `sent_at`, the result also depends on the local clock. `exp - iat` is the lifetime by
/// the server's clock, but a server may return a token that it issued earlier. Such a token expires
/// sooner. So the result is the time until `exp` by the local clock, if this time is shorter. If
/// `exp` has already passed by the local clock, the result is `exp - iat`. Without `iat`, the
/// result is `exp`.
pub(crate) fn expiry(token: &str, now: SystemTime, sent_at: Option<SystemTime>) -> Option<Expiry> {
    if sent_at.is_some() {
        return lifetime(token, sent_at).map(Expiry::In);
    }
    let claims = claims(token)?;
    let exp = time(claims.exp)?;
    let Some(iat) = claims.iat else {
        return Some(Expiry::At(exp));
    };
    let lifetime = exp.duration_since(time(iat)?).ok()?;
    let left = exp.duration_since(now).unwrap_or(lifetime);
    Some(Expiry::In(lifetime.min(left)))
}

/// Returns the time of the `exp` claim. Use this time for a token that may have been issued long
/// ago.
pub(crate) fn exp(token: &str) -> Option<SystemTime> {
    time(claims(token)?.exp)
}

fn claims(token: &str) -> Option<Claims> {
    let sent: SentClaims = serde_json::from_slice(&payload(token)?).ok()?;
    Some(Claims {
        exp: seconds(&sent.exp)?,
        iat: seconds(&sent.iat),
    })
}

/// Reads a time. Some servers write a string. Some servers write 0 into the claims of a token that
/// doesn't expire.
fn seconds(claim: &Value) -> Option<f64> {
    let seconds = match claim {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    seconds.filter(|seconds| *seconds > 0.0)
}

/// The maximum length of the encoded claims. A header is shorter.
const LONGEST_PAYLOAD: usize = 64 * 1024;

/// Returns the claims of a token in JSON. `None` if the token isn't a JWT or is encrypted.
pub(super) fn payload(token: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut parts = token.split('.');
    // A JWS has three parts. A JWE has five parts and encrypted claims.
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || payload.len() > LONGEST_PAYLOAD {
        return None;
    }
    let mut json = Zeroizing::new(Vec::with_capacity(payload.len()));
    URL_SAFE_NO_PAD_INDIFFERENT
        .decode_vec(payload, &mut json)
        .ok()?;
    // Claims are an object. serde's error about another value would contain that value.
    json.trim_ascii_start().starts_with(b"{").then_some(json)
}

fn time(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    UNIX_EPOCH.checked_add(since)
}
