//! What a person is asked to do on another device (RFC 8628 §3.2).

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use crate::error::{Error, Kind, Reply};
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::redact::Redactor;
use crate::http_client::response_fields::{self, FieldValue};
use crate::http_client::token_response::seconds;
use crate::sanitize::sanitize_unbounded;

/// What is waited between two polls if the server doesn't say it (RFC 8628 §3.2).
const INTERVAL: Duration = Duration::from_secs(5);

/// A server that says zero means "soon", not "all the time".
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Nobody waits for longer to be told that they're logged in, so it was meant in another unit.
pub(crate) const LONGEST_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Codes live for minutes. Longer than this nobody is waited for, whatever the server says.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What to tell the person who is to log in: an address to open on any device, and the code to
/// type in there.
///
/// [`Debug`](fmt::Debug) shows no code. It is used up by
/// [`finish`](crate::oauth2::DeviceAuthorization::finish).
pub struct DevicePrompt {
    pub(crate) device_code: SecretString,
    user_code: SecretString,
    verification_uri: String,
    verification_uri_complete: Option<SecretString>,
    pub(crate) interval: Duration,
    expires_in: Duration,
    /// When it was asked for.
    pub(crate) asked: Instant,
}

impl DevicePrompt {
    /// What the person types in.
    pub fn user_code(&self) -> &str {
        self.user_code.expose_secret()
    }

    /// Where they type it in: `https`, or `http` to loopback.
    pub fn verification_uri(&self) -> &str {
        &self.verification_uri
    }

    /// The same with the code in it, if the server has that: for a link or a QR code. Show the code
    /// too, so that the person can see that it is theirs (RFC 8628 §3.3.1).
    pub fn verification_uri_complete(&self) -> Option<&str> {
        let uri = self.verification_uri_complete.as_ref();
        uri.map(SecretString::expose_secret)
    }

    /// How long the code is good for, counted from when it was asked for. At most a day.
    pub fn expires_in(&self) -> Duration {
        self.expires_in
    }

    /// When the code is over.
    pub(crate) fn end(&self) -> Instant {
        self.asked + self.expires_in
    }

    /// Reads what the device authorization endpoint answered to what it was `asked`.
    pub(crate) fn read(
        answer: &EndpointResponse,
        mut redactor: Redactor,
        asked: Instant,
    ) -> Result<Self, Error> {
        let refused = "the device authorization endpoint refused to begin a login";
        let fields = parse(&answer.body);
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
        if let Some(refusal) = answer.refusal(redactor, refused) {
            return Err(refusal);
        }
        let prompt = fields.and_then(|fields| Self::of(fields, asked));
        prompt.map_err(|what| {
            let reply = Reply {
                status: Some(answer.status),
                ..Reply::default()
            };
            let message = format!("the device authorization endpoint's reply {what}");
            Error::new(Kind::Reply, message).with_reply(reply)
        })
    }

    fn of(fields: DeviceFields, asked: Instant) -> Result<Self, &'static str> {
        let device_code = text(fields.device_code).ok_or("has no `device_code`")?;
        let user_code = text(fields.user_code).ok_or("has no `user_code`")?;
        if sanitize_unbounded(user_code.expose_secret()) != user_code.expose_secret() {
            return Err("has a `user_code` with characters that can't be shown");
        }
        let uri = text(fields.verification_uri).or(text(fields.verification_url));
        let uri = uri.ok_or("has no `verification_uri`")?;
        if !is_address(uri.expose_secret()) {
            return Err("has a `verification_uri` that is neither https nor http to loopback");
        }
        let complete =
            text(fields.verification_uri_complete).or(text(fields.verification_url_complete));
        if complete
            .as_ref()
            .is_some_and(|uri| !is_address(uri.expose_secret()))
        {
            return Err(
                "has a `verification_uri_complete` that is neither https nor http to loopback",
            );
        }
        let expires_in = seconds(&fields.expires_in)
            .map_err(|_| "has an `expires_in` that is neither a number nor a numeric string")?
            .ok_or("has no `expires_in`")?;
        if expires_in.is_zero() {
            return Err("has an `expires_in` of zero: its code is over already");
        }
        let interval = seconds(&fields.interval)
            .map_err(|_| "has an `interval` that is neither a number nor a numeric string")?
            .unwrap_or(INTERVAL);
        Ok(Self {
            device_code,
            user_code,
            verification_uri: uri.expose_secret().to_owned(),
            verification_uri_complete: complete,
            interval: interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL),
            expires_in: expires_in.min(LONGEST_LIFETIME),
            asked,
        })
    }
}

/// Each is read as whatever it is, so that serde dislikes, and quotes, none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct DeviceFields {
    device_code: FieldValue,
    user_code: FieldValue,
    verification_uri: FieldValue,
    /// A spelling of the drafts' that some servers have kept.
    verification_url: FieldValue,
    verification_uri_complete: FieldValue,
    verification_url_complete: FieldValue,
    expires_in: FieldValue,
    interval: FieldValue,
}

fn parse(body: &[u8]) -> Result<DeviceFields, &'static str> {
    // The syntax first: the only error that is left after it is a field that is there twice.
    response_fields::parse(body).map_err(response_fields::Malformed::what)?;
    serde_json::from_slice(response_fields::without_byte_order_mark(body))
        .map_err(|_| "has a field twice, and which value is meant can't be known")
}

/// A text that is there and holds something.
fn text(member: FieldValue) -> Option<SecretString> {
    match member {
        FieldValue::Text(text) if !text.expose_secret().is_empty() => Some(text),
        _ => None,
    }
}

/// Whether a person may be sent there. What is behind a `#` is between the page and their browser.
fn is_address(text: &str) -> bool {
    let address = text.split('#').next().unwrap_or_default();
    text.bytes().all(|b| b.is_ascii_graphic()) && EndpointUrl::try_from(address).is_ok()
}

impl fmt::Debug for DevicePrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A server may have put the code in its query.
        let address = self.verification_uri.split(['?', '#']).next();
        f.debug_struct("DevicePrompt")
            .field("verification_uri", &address.unwrap_or_default())
            .field("interval", &self.interval)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
