//! Reads when a JWT expires (RFC 7519 §4.1), without verifying it.
//!
//! The token is as opaque to a client as ever (RFC 6749 §1.4), and nothing is decided by it but
//! when to ask for the next one, where the server didn't say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD_INDIFFERENT;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::issued_token::Expiry;

/// Seconds since 1970, which may have a fraction (RFC 7519 §2, NumericDate).
#[derive(Deserialize)]
struct Claims {
    exp: f64,
    #[serde(default)]
    iat: Option<f64>,
}

/// When the token expires, if it is a JWT that says so.
///
/// `exp - iat` is a lifetime by the server's own clock, and ours may be wrong by any amount. But
/// a server may hand out a token that it issued a while ago: then less is left of it, and our
/// clock is believed as far as it puts the end ahead and not beyond that lifetime.
pub(crate) fn expiry(token: &str, now: SystemTime) -> Option<Expiry> {
    let claims = claims(token)?;
    let exp = time(claims.exp)?;
    let Some(iat) = claims.iat else {
        return Some(Expiry::At(exp));
    };
    let lifetime = exp.duration_since(time(iat)?).ok()?;
    let left = exp.duration_since(now).unwrap_or(lifetime);
    Some(Expiry::In(lifetime.min(left)))
}

/// The same of a token that was issued who knows when: its `exp` by our own clock.
pub(crate) fn end(token: &str) -> Option<SystemTime> {
    time(claims(token)?.exp)
}

fn claims(token: &str) -> Option<Claims> {
    let mut parts = token.split('.');
    // A JWS has three parts; a JWE has five and its claims can't be read.
    let (_header, payload, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let mut json = Zeroizing::new(Vec::with_capacity(payload.len()));
    URL_SAFE_NO_PAD_INDIFFERENT
        .decode_vec(payload, &mut json)
        .ok()?;
    serde_json::from_slice(&json).ok()
}

fn time(seconds: f64) -> Option<SystemTime> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    UNIX_EPOCH.checked_add(since)
}
