//! The contents of a token endpoint's response: a token (RFC 6749 §5.1), a refusal (§5.2), or
//! neither.
//!
//! Errors show no part of the body, except for a refusal's `error` and `error_description`. Both
//! pass through the [`Redactor`] first.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};

use super::bounded_response::{EndpointResponse, unusable};
use super::granted_scope;
use super::quota_headers;
use super::redact::Redactor;
use super::response_fields::{FieldValue, Malformed, ResponseFields};
use super::retry_after;
use crate::error::{Error, Reply};
use crate::quota::Quota;
use crate::token::issued_token::{Expiry, MAX_LIFETIME, Token};
use crate::token::jwt;

/// The lifetime of a token if neither the response nor the token specifies a lifetime. The examples
/// of RFC 6749 §5.1 and the tokens of most servers have this lifetime.
pub(crate) const ASSUMED_LIFETIME: Duration = Duration::from_secs(60 * 60);

pub(crate) const RESPONSE: &str = "the token endpoint's reply";

/// A response of which only the refresh token has been read. The caller saves that token before it
/// looks at the rest, because the server may have revoked the previous refresh token.
#[must_use]
pub(crate) struct UnjudgedResponse {
    /// The next refresh token (RFC 6749 §6), if the response contains a refresh token.
    pub(crate) refresh_token: Option<SecretString>,
    /// The rest of the response, or why the rest is unusable.
    pub(crate) rest: Result<TokenResponse, Error>,
}

/// An issued access token and its properties.
pub(crate) struct TokenResponse {
    access_token: SecretString,
    /// The expiry. `None` if neither the response nor the token specifies an expiry.
    expiry: Option<Expiry>,
    /// Whether `expires_in` was read as a date.
    has_expiry_date: bool,
    refresh_in: Option<Duration>,
    scope: Scope,
    /// The type of the token that a token exchange issued (RFC 8693 §2.2.1).
    pub(crate) issued_token_type: FieldValue,
    quotas: Vec<Quota>,
}

/// The required token type. A client must not use a token of an unknown type (RFC 6749 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenType {
    Bearer,
    #[cfg(feature = "dpop")]
    Dpop,
}

impl TokenType {
    /// Returns why a `token_type` is unusable, or `None` if the type is usable.
    fn objection(self, sent: &FieldValue) -> Option<&'static str> {
        match self {
            _ if is_text(sent, "N_A") => {
                Some("has the `token_type` `N_A`, so it issued no access token")
            }
            Self::Bearer if sent.is_nothing() || is_text(sent, "bearer") => None,
            Self::Bearer => Some("has a `token_type` other than `Bearer`, the only supported type"),
            #[cfg(feature = "dpop")]
            Self::Dpop if is_text(sent, "dpop") => None,
            #[cfg(feature = "dpop")]
            Self::Dpop => Some(
                "has a `token_type` other than `DPoP`, so the server ignored the proof and \
                 anyone who steals the token can use it",
            ),
        }
    }
}

fn is_text(field: &FieldValue, text: &str) -> bool {
    let sent = field.text();
    sent.is_some_and(|sent| sent.eq_ignore_ascii_case(text))
}

enum Scope {
    /// The response has no scope, so the server granted the requested scope (RFC 6749 §5.1).
    AsRequested,
    Granted(String),
    /// The scope isn't a string; it may be an array, for example.
    Unknown,
}

impl TokenResponse {
    /// Makes the token by calling `make` with the secret. `requested` is the requested scope, which
    /// may be empty. `assumed` is the lifetime if neither the response nor the token specifies a
    /// lifetime.
    pub(crate) fn into_token(
        self,
        requested: &str,
        assumed: Duration,
        make: impl FnOnce(SecretString) -> Result<Token, Error>,
    ) -> Result<Token, Error> {
        let token = make(self.access_token)?;
        let token = match self.expiry {
            Some(Expiry::In(lifetime)) => token.expires_in(lifetime),
            Some(Expiry::At(time)) => token.expires_at(time),
            Some(Expiry::Never) | None => token.expires_in(assumed),
        };
        let token = match self.refresh_in {
            Some(after) => token.refresh_in(after),
            None => token,
        };
        let token = match self.has_expiry_date {
            true => token.with_expiry_read_as_date(),
            false => token,
        };
        let token = token.with_quotas(self.quotas);
        Ok(match (self.scope, requested) {
            (Scope::Granted(scope), _) => {
                let missing = granted_scope::missing(requested, &scope);
                token.with_scope(scope).with_missing_scope(missing)
            }
            (Scope::AsRequested, "") | (Scope::Unknown, _) => token,
            (Scope::AsRequested, scope) => token.with_scope(scope),
        })
    }
}

impl EndpointResponse {
    /// Reads the tokens of a token endpoint.
    pub(crate) fn tokens(&self, wanted: TokenType, redactor: Redactor) -> UnjudgedResponse {
        let fields = self.fields();
        let found = match &fields {
            Err(_) if self.status.is_success() => self.find_refresh_token(true),
            _ => None,
        };
        let response = self.tokens_in(fields, wanted, redactor);
        UnjudgedResponse {
            refresh_token: response.refresh_token.or(found),
            ..response
        }
    }

    /// Reads the tokens from `fields`: the fields of this response.
    pub(crate) fn tokens_in(
        &self,
        fields: Result<ResponseFields, Malformed>,
        wanted: TokenType,
        redactor: Redactor,
    ) -> UnjudgedResponse {
        let redactor = self.hiding(redactor, fields.as_ref().ok());
        let quotas = quota_headers::parse(&self.headers, &redactor, self.started);
        // In a refusal, a field `refresh_token` may describe what is wrong with the old token.
        let sent = fields.as_ref().ok().filter(|_| self.status.is_success());
        let refresh_token = sent.and_then(|fields| fields.refresh_token.text());
        let refresh_token = refresh_token.filter(|token| !token.is_empty());
        UnjudgedResponse {
            refresh_token: refresh_token.map(SecretString::from),
            rest: match self.issued(fields, wanted, &redactor) {
                Ok(response) => Ok(TokenResponse { quotas, ..response }),
                Err(error) => Err(error.with_quotas(quotas)),
            },
        }
    }

    fn issued(
        &self,
        fields: Result<ResponseFields, Malformed>,
        wanted: TokenType,
        redactor: &Redactor,
    ) -> Result<TokenResponse, Error> {
        if self.status.is_client_error() || self.status.is_server_error() {
            // A refusal may have any body: a proxy's HTML, or no body at all.
            return Err(self.denied(&fields.unwrap_or_default(), redactor));
        }
        if !self.status.is_success() {
            let why = "has a status that is neither a success nor an error";
            return Err(unusable(RESPONSE, self.status, why));
        }
        let fields = fields.map_err(|malformed| self.malformed(&malformed, redactor))?;
        let has_no_token = fields.access_token.is_nothing() && !fields.error.is_nothing();
        if fields.error.is_error() || has_no_token {
            return Err(self.denied(&fields, redactor));
        }
        let received = Received {
            at: self.started,
            sent_at: server_time(&self.headers),
        };
        read_token(fields, wanted, received, redactor)
            .map_err(|what| unusable(RESPONSE, self.status, what))
    }

    /// Makes a redactor that also hides the issued tokens, the cookies and the values in the
    /// request's query.
    pub(crate) fn hiding(
        &self,
        mut redactor: Redactor,
        fields: Option<&ResponseFields>,
    ) -> Redactor {
        redactor.hide_all_of(&self.sent);
        redactor.hide_cookies(&self.headers);
        let tokens = fields.map(|fields| [&fields.access_token, &fields.refresh_token]);
        for token in tokens.into_iter().flatten().filter_map(FieldValue::text) {
            redactor.hide(token);
        }
        redactor
    }

    /// Returns whether the server refused the request with this error code.
    #[cfg(feature = "dpop")]
    pub(crate) fn is_refused_with(&self, code: &str) -> bool {
        let fields = self.fields().unwrap_or_default();
        self.status.is_client_error() && fields.error.text() == Some(code)
    }

    /// Checks the response of an endpoint that issues no token, such as the revocation endpoint.
    pub(crate) fn done(&self, redactor: Redactor, refused: &'static str) -> Result<(), Error> {
        if self.status.is_success() {
            return Ok(());
        }
        Err(self.denied_with(&self.fields().unwrap_or_default(), redactor, refused))
    }

    /// Returns the error if the server refused. A refusal is an error status, or a success whose
    /// body contains an `error`.
    pub(crate) fn refusal(&self, redactor: Redactor, refused: &'static str) -> Option<Error> {
        let fields = self.fields().unwrap_or_default();
        let is_refusal = !self.status.is_success() || fields.error.is_error();
        is_refusal.then(|| self.denied_with(&fields, redactor, refused))
    }

    fn denied_with(
        &self,
        fields: &ResponseFields,
        redactor: Redactor,
        refused: &'static str,
    ) -> Error {
        let redactor = self.hiding(redactor, Some(fields));
        let message = self.explain(refused, &redactor);
        Error::denied(message, self.reply(fields, &redactor))
    }

    fn denied(&self, fields: &ResponseFields, redactor: &Redactor) -> Error {
        let reply = self.reply(fields, redactor);
        let message = match reply.code.as_deref() {
            Some("invalid_client") => {
                "the token endpoint rejected this client; check the id and the secret or key, and \
                 whether the server expects the secret in the body or as basic authentication"
            }
            _ if self.status.is_server_error() => "the token endpoint failed",
            _ => "the token endpoint refused to issue a token",
        };
        Error::denied(self.explain(message, redactor), reply)
    }

    /// Returns the parts of a refusal that the error keeps.
    fn reply(&self, fields: &ResponseFields, redactor: &Redactor) -> Reply {
        let code = fields.error.text().map(|code| {
            if is_registered(code) {
                // Keeps a registered code unchanged, because such a code is no secret.
                code.to_owned()
            } else {
                redactor.redact(code)
            }
        });
        let description = fields.error_description.text();
        Reply {
            status: Some(self.status),
            description: description.map(|text| redactor.redact(text)),
            retry_after: retry_after::parse(&self.headers, self.started),
            code,
        }
    }

    fn malformed(&self, malformed: &Malformed, redactor: &Redactor) -> Error {
        let what = malformed.what(redactor);
        if let Malformed::Undecoded(_) = malformed {
            return unusable(RESPONSE, self.status, &what);
        }
        let content_type = redactor.redact(&content_type(&self.headers));
        let why = format!("{what}; its content type is {content_type}");
        unusable(RESPONSE, self.status, &why)
    }

    /// Adds to the message of a refusal why its body could not be decoded.
    fn explain(&self, message: &'static str, redactor: &Redactor) -> Cow<'static, str> {
        match &self.undecoded {
            None => message.into(),
            Some(undecoded) => {
                let what = undecoded.what(redactor);
                format!("{message}; the body could not be read, because it {what}").into()
            }
        }
    }
}

/// The times of a request and of its response.
#[derive(Clone, Copy)]
struct Received {
    /// The start of the request by the local clock.
    at: SystemTime,
    /// The time of the response by the server's clock.
    sent_at: Option<SystemTime>,
}

/// Returns the time of the response by the server's clock. This is `Date` (RFC 9110 §6.6.1) plus
/// `Age` (RFC 9111 §5.1), the time that the response spent in caches.
pub(crate) fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    let text = |name| headers.get(name)?.to_str().ok();
    let date = httpdate::parse_http_date(text(header::DATE)?.trim()).ok()?;
    let age = text(header::AGE).and_then(|age| age.trim().parse().ok());
    date.checked_add(Duration::from_secs(age.unwrap_or_default()))
}

/// Returns the token, or what is wrong with the response.
fn read_token(
    fields: ResponseFields,
    wanted: TokenType,
    received: Received,
    redactor: &Redactor,
) -> Result<TokenResponse, &'static str> {
    if fields.has_duplicate {
        return Err("has a field twice, so its value is ambiguous");
    }
    if let Some(objection) = wanted.objection(&fields.token_type) {
        return Err(objection);
    }
    let expires_in = seconds(&fields.expires_in).map_err(
        |NotSeconds| "has an `expires_in` that is neither a number nor a numeric string",
    )?;
    let access_token = match fields.access_token {
        FieldValue::Text(token) if !token.expose_secret().is_empty() => token,
        FieldValue::Absent | FieldValue::Null => return Err("has no `access_token`"),
        FieldValue::Text(_) => return Err("has an empty `access_token`"),
        FieldValue::Number(_) | FieldValue::Empty | FieldValue::Other => {
            return Err("has an `access_token` that is not a string");
        }
    };
    let (secret, sent_at) = (access_token.expose_secret(), received.sent_at);
    let until_date = expires_in.and_then(|number| received.until_date(number));
    let expiry = match until_date.or(expires_in) {
        Some(lifetime) => {
            // The server may state the lifetime of a new token, but return an older token.
            let bound = jwt::lifetime(secret, sent_at).unwrap_or(Duration::MAX);
            Some(Expiry::In(lifetime.min(bound)))
        }
        None => jwt::expiry(secret, received.at, sent_at),
    };
    // Ignores a hint of zero, which would make each new token stale immediately.
    let refresh_in = seconds(&fields.refresh_in).ok().flatten();
    let refresh_in = refresh_in.filter(|after| !after.is_zero());
    let scope = match &fields.scope {
        FieldValue::Text(scope) if !scope.expose_secret().trim().is_empty() => {
            // Redacted, because the scope is printed and logged.
            Scope::Granted(redactor.redact(scope.expose_secret()))
        }
        FieldValue::Absent | FieldValue::Null | FieldValue::Text(_) => Scope::AsRequested,
        FieldValue::Number(_) | FieldValue::Empty | FieldValue::Other => Scope::Unknown,
    };
    if let FieldValue::Number(_) | FieldValue::Empty | FieldValue::Other = fields.refresh_token {
        // This is an error, because the server may have revoked the old refresh token.
        return Err("has a `refresh_token` that is not a string");
    }
    Ok(TokenResponse {
        access_token,
        expiry,
        has_expiry_date: until_date.is_some(),
        refresh_in,
        scope,
        issued_token_type: fields.issued_token_type,
        quotas: Vec::new(),
    })
}

/// A date in `expires_in` is at most this long before the response. A number for an earlier date is
/// probably a long lifetime.
const OLDEST_DATE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl Received {
    /// Reads an `expires_in` of more than ten years as a date, in seconds since 1970. Some servers
    /// send the token's `exp` in this field. Returns the time until the date, or `None` if
    /// `expires_in` is probably a lifetime.
    fn until_date(&self, expires_in: Duration) -> Option<Duration> {
        let now = self.sent_at.unwrap_or(self.at);
        let date = Some(expires_in).filter(|number| *number > MAX_LIFETIME);
        let date = UNIX_EPOCH.checked_add(date?)?;
        let is_plausible = match date.duration_since(now) {
            Ok(left) => left <= MAX_LIFETIME,
            Err(passed) => passed.duration() <= OLDEST_DATE,
        };
        is_plausible.then(|| date.duration_since(now).unwrap_or_default())
    }
}

/// The error for a field that isn't a number of seconds.
pub(crate) struct NotSeconds;

/// Reads a number of seconds, or `None` if the field is absent. Some servers send a string or a
/// fraction. A negative number counts as zero.
pub(crate) fn seconds(field: &FieldValue) -> Result<Option<Duration>, NotSeconds> {
    let seconds = match field {
        FieldValue::Absent | FieldValue::Null => return Ok(None),
        FieldValue::Number(seconds) => Some(*seconds),
        FieldValue::Text(text) => number(text.expose_secret()),
        FieldValue::Empty | FieldValue::Other => None,
    };
    // The cast drops the fraction, and saturates at zero and at `u64::MAX`.
    let seconds = seconds.ok_or(NotSeconds)? as u64;
    Ok(Some(Duration::from_secs(seconds)))
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    // Excludes `inf` and `nan`, because `f64` parses them too.
    let is_numeric = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    let number = text.bytes().all(is_numeric).then(|| text.parse());
    number?.ok()
}

/// Returns whether one of these RFCs registers the code: RFC 6749 §5.2 and §4.1.2.1, RFC 8628 §3.5,
/// RFC 8707 §2, RFC 9449 §5 and §8.
fn is_registered(code: &str) -> bool {
    matches!(
        code,
        "invalid_request"
            | "invalid_client"
            | "invalid_grant"
            | "unauthorized_client"
            | "unsupported_grant_type"
            | "invalid_scope"
            | "invalid_target"
            | "access_denied"
            | "server_error"
            | "temporarily_unavailable"
            | "authorization_pending"
            | "slow_down"
            | "expired_token"
            | "invalid_dpop_proof"
            | "use_dpop_nonce"
    )
}

/// Returns the media type. The media type can show that the response is a proxy's page. Omits the
/// parameters, and hides a type with unusual characters.
fn content_type(headers: &HeaderMap) -> String {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return "not given".to_owned();
    };
    let full = value.to_str().unwrap_or_default();
    let kind = full.split(';').next().unwrap_or_default().trim();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/+-.".contains(&b);
    if kind.is_empty() || kind.len() > 64 || !kind.bytes().all(is_plain) {
        return "malformed".to_owned();
    }
    format!("`{kind}`")
}
