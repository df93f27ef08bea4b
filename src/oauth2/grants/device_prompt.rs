//! The device authorization response (RFC 8628 §3.2) with the instructions for the user.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::error::{Error, Kind, Reply};
use crate::http_client::body_value::BodyValue;
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::response_fields::FieldValue;
use crate::http_client::response_fields::ResponseFields;
use crate::http_client::token_response::seconds;
use crate::origin::port_fault;
use crate::sanitize::{ServerText, is_harmful};
use crate::token::redact::Redactor;

/// The time between two polls if the server specifies no time (RFC 8628 §3.2).
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// The shortest time between two polls. If a server sends 0 s, it wants frequent polls, but not
/// continuous polls.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time between two polls. If a server sends a longer time, it probably uses another
/// unit.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// The longest lifetime of a code. Codes usually expire within minutes.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The maximum length of an address in bytes. Some browsers don't open longer addresses.
const LONGEST_ADDRESS: usize = 2048;

/// The instructions for the user: an address to open on any device, and a code to enter there.
///
/// [`finish`](crate::oauth2::DeviceAuthorization::finish) consumes the prompt.
/// [`Debug`](fmt::Debug) shows no codes.
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::DevicePrompt;
///
/// fn show(prompt: &DevicePrompt) {
///     let minutes = prompt.expires_in().as_secs() / 60;
///     println!("Within {minutes} min, open {}", prompt.verification_uri());
///     println!("and type the code {}.", prompt.user_code());
///     if let Some(link) = prompt.verification_uri_complete() {
///         println!("Or open {link}, and compare the code.");
///     }
/// }
/// ```
pub struct DevicePrompt {
    pub(crate) device_code: SecretString,
    user_code: SecretString,
    verification_uri: String,
    verification_uri_complete: Option<SecretString>,
    pub(crate) interval: Duration,
    expires_in: Duration,
    requested_at: Instant,
}

impl DevicePrompt {
    /// Returns the code that the user enters.
    pub fn user_code(&self) -> &str {
        self.user_code.expose_secret()
    }

    /// Returns the address where the user enters the code: `https`, or `http` on loopback.
    pub fn verification_uri(&self) -> &str {
        &self.verification_uri
    }

    /// Returns an address for a link or a QR code, if the server sent such an address. This address
    /// already contains the code. Show the code too, so that the user can compare the two codes
    /// (RFC 8628 §3.3.1).
    pub fn verification_uri_complete(&self) -> Option<&str> {
        let uri = self.verification_uri_complete.as_ref();
        uri.map(SecretString::expose_secret)
    }

    /// Returns the lifetime of the code, counted from the request; at most 24 h.
    pub fn expires_in(&self) -> Duration {
        self.expires_in
    }

    pub(crate) fn expires_at(&self) -> Instant {
        self.requested_at + self.expires_in
    }

    /// Reads the response to a request that was sent at `requested_at`.
    pub(crate) fn read(
        response: &EndpointResponse,
        mut redactor: Redactor,
        requested_at: Instant,
    ) -> Result<Self, Error> {
        let refused = "the device authorization endpoint refused to begin a login";
        let hidden = response.hiding(Redactor::default(), &ResponseFields::default());
        let body = response.fields().map_err(|it| it.what(&hidden));
        let fields = body.and_then(|fields| Ok(DeviceFields::read(&fields.body)?));
        if let Ok(fields) = &fields {
            for code in [
                &fields.device_code,
                &fields.user_code,
                &fields.verification_uri_complete,
                &fields.verification_url_complete,
            ] {
                redactor.hide(code.text().unwrap_or_default());
            }
        }
        if let Some(refusal) = response.refusal(redactor, refused) {
            return Err(refusal);
        }
        let prompt = fields.and_then(|fields| Ok(Self::new(fields, requested_at)?));
        prompt.map_err(|what| {
            let reply = Reply {
                status: Some(response.status),
                ..Reply::default()
            };
            let message = format!("the device authorization endpoint's reply {what}");
            Error::new(Kind::Reply, message).with_reply(reply)
        })
    }

    fn new(fields: DeviceFields, requested_at: Instant) -> Result<Self, &'static str> {
        let device_code = text(fields.device_code).ok_or("has no `device_code`")?;
        let user_code = text(fields.user_code).ok_or("has no `user_code`")?;
        if !user_code.expose_secret().chars().all(is_readable) {
            return Err("has a `user_code` with characters that a user can't see");
        }
        if user_code.expose_secret().len() > ServerText::LONGEST {
            return Err("has a `user_code` that is longer than 256 bytes");
        }
        let uri = text(fields.verification_uri).or(text(fields.verification_url));
        let uri = uri.ok_or("has no `verification_uri`")?;
        let is_unreadable = |uri: &SecretString| !is_readable_address(uri.expose_secret());
        if is_unreadable(&uri) {
            return Err(
                "has a `verification_uri` that isn't an address of at most 2048 visible ASCII \
                 characters",
            );
        }
        let has_bad_port = |uri: &SecretString| port_fault(uri.expose_secret()).is_some();
        if has_bad_port(&uri) {
            return Err("has a `verification_uri` with an invalid port");
        }
        let is_unfit = |uri: &SecretString| !is_address(uri.expose_secret());
        if is_unfit(&uri) {
            return Err("has a `verification_uri` that is neither https nor http to loopback");
        }
        let complete =
            text(fields.verification_uri_complete).or(text(fields.verification_url_complete));
        if complete.as_ref().is_some_and(is_unreadable) {
            return Err(
                "has a `verification_uri_complete` that isn't an address of at most 2048 visible \
                 ASCII characters",
            );
        }
        if complete.as_ref().is_some_and(has_bad_port) {
            return Err("has a `verification_uri_complete` with an invalid port");
        }
        if complete.as_ref().is_some_and(is_unfit) {
            return Err(
                "has a `verification_uri_complete` that is neither https nor http to loopback",
            );
        }
        let expires_in = seconds(&fields.expires_in)
            .map_err(|_| "has an `expires_in` that is neither a number nor a numeric string")?
            .ok_or("has no `expires_in`")?;
        if expires_in.is_zero() {
            return Err("has an `expires_in` of zero, so its code has already expired");
        }
        let interval = seconds(&fields.interval)
            .map_err(|_| "has an `interval` that is neither a number nor a numeric string")?
            .unwrap_or(DEFAULT_INTERVAL);
        Ok(Self {
            device_code,
            user_code,
            verification_uri: uri.expose_secret().to_owned(),
            verification_uri_complete: complete,
            interval: interval.clamp(MIN_INTERVAL, MAX_INTERVAL),
            expires_in: expires_in.min(MAX_LIFETIME),
            requested_at,
        })
    }
}

/// Each field accepts any JSON type, so that serde errors never contain a value.
struct DeviceFields {
    device_code: FieldValue,
    user_code: FieldValue,
    verification_uri: FieldValue,
    /// The name of `verification_uri` in drafts of the RFC. Some servers still use this name.
    verification_url: FieldValue,
    verification_uri_complete: FieldValue,
    verification_url_complete: FieldValue,
    expires_in: FieldValue,
    interval: FieldValue,
}

impl DeviceFields {
    /// Reads the fields, or returns what is wrong with the response.
    fn read(body: &BodyValue) -> Result<Self, &'static str> {
        let field = |name: &str| match body.at(&format!("/{name}")).as_slice() {
            [] => Ok(FieldValue::Absent),
            [value] => Ok(FieldValue::from(*value)),
            _ => Err("has a field twice, so its value is ambiguous"),
        };
        Ok(Self {
            device_code: field("device_code")?,
            user_code: field("user_code")?,
            verification_uri: field("verification_uri")?,
            verification_url: field("verification_url")?,
            verification_uri_complete: field("verification_uri_complete")?,
            verification_url_complete: field("verification_url_complete")?,
            expires_in: field("expires_in")?,
            interval: field("interval")?,
        })
    }
}

fn text(field: FieldValue) -> Option<SecretString> {
    match field {
        FieldValue::Text(text) if !text.expose_secret().is_empty() => Some(text),
        _ => None,
    }
}

/// Returns whether a user can see the character. An ASCII space is allowed, because some servers
/// use it to group characters.
fn is_readable(c: char) -> bool {
    c == ' ' || !c.is_whitespace() && !is_harmful(c)
}

/// Returns whether a user can compare this address with the address that the browser shows. A host
/// name with non-ASCII characters must have its ASCII form (`xn--`, RFC 5890). Otherwise,
/// characters of different scripts may look the same.
fn is_readable_address(text: &str) -> bool {
    text.len() <= LONGEST_ADDRESS && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Returns whether a user may open this address. A fragment is allowed, because browsers don't send
/// fragments.
fn is_address(text: &str) -> bool {
    let address = text.split('#').next().unwrap_or_default();
    EndpointUrl::try_from(address).is_ok()
}

impl fmt::Debug for DevicePrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query may contain the code.
        let address = self.verification_uri.split(['?', '#']).next();
        f.debug_struct("DevicePrompt")
            .field("verification_uri", &address.unwrap_or_default())
            .field("interval", &self.interval)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
