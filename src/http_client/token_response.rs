//! The contents of a token endpoint's response: a token (RFC 6749 §5.1), a refusal (§5.2), or
//! neither.
//!
//! Errors show no part of the body, except for a refusal's `error` and `error_description`, and
//! other fields that explain an error. All of them pass through the [`Redactor`] first.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};

use super::body_value::{BodyValue, Malformed};
use super::bounded_response::{EndpointResponse, unusable};
use super::granted_scope;
use super::quota_headers;
use super::response_fields::{FieldValue, ResponseFields, is_registered};
use super::retry_after;
use super::token_response_format::TokenResponseFormat;
use crate::error::{Error, Kind, Reply};
use crate::quota::Quota;
use crate::sanitize::ServerText;
use crate::token::extra_fields::ExtraFields;
use crate::token::issued_token::{Expiry, MAX_LIFETIME, Token};
use crate::token::jwt;
use crate::token::redact::Redactor;

/// The lifetime of a token if neither the response nor the token specifies a lifetime. The examples
/// of RFC 6749 §5.1 and the tokens of most servers have this lifetime.
pub(crate) const ASSUMED_LIFETIME: Duration = Duration::from_secs(60 * 60);

pub(crate) const RESPONSE: &str = "the token endpoint's reply";

/// A response of which at least the refresh token has been read. The caller saves that token even
/// if the rest is unusable, because the server may have revoked the previous refresh token.
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
    /// The ID token (OpenID Connect Core §3.1.3.3).
    pub(crate) id_token: Option<SecretString>,
    extra: ExtraFields,
    quotas: Vec<Quota>,
}

/// The token that a client wants.
#[derive(Clone, Copy)]
pub(crate) struct WantedToken<'a> {
    pub(crate) token_type: TokenType,
    /// The type that a token exchange requested, if it isn't an access token (RFC 8693 §2.2.1).
    pub(crate) no_access_token: Option<&'a str>,
}

impl WantedToken<'_> {
    /// An access token that any holder can use (RFC 6750).
    pub(crate) const BEARER: Self = Self {
        token_type: TokenType::Bearer,
        no_access_token: None,
    };

    /// Returns why the type of a token is unusable, or `None` if the type is usable.
    fn objection(
        self,
        fields: &ResponseFields,
        format: &TokenResponseFormat,
    ) -> Option<&'static str> {
        let sent = &fields.token_type;
        if is_text(sent, "N_A") {
            return self.objection_to_no_access_token(fields);
        }
        let is_accepted = sent
            .text()
            .is_some_and(|sent| format.accepts_token_type(sent));
        match self.token_type {
            TokenType::Bearer if sent.is_nothing() || is_text(sent, "bearer") || is_accepted => {
                None
            }
            TokenType::Bearer => Some(
                "has a `token_type` other than `Bearer`; if the API takes this type as a bearer \
                 token, call `TokenResponseFormat::accept_token_type`",
            ),
            #[cfg(feature = "dpop")]
            TokenType::Dpop if is_text(sent, "dpop") => None,
            #[cfg(feature = "dpop")]
            TokenType::Dpop => Some(
                "has a `token_type` other than `DPoP`, so the server ignored the proof and \
                 anyone who steals the token can use it",
            ),
        }
    }

    fn objection_to_no_access_token(self, fields: &ResponseFields) -> Option<&'static str> {
        match (self.token_type, self.no_access_token) {
            #[cfg(feature = "dpop")]
            (TokenType::Dpop, _) => Some(
                "has the `token_type` `N_A`, so the token isn't bound to the client's key; \
                 use a client without `dpop` for this exchange",
            ),
            (TokenType::Bearer, None) => Some(
                "has the `token_type` `N_A`, so the issued token is no access token; to accept it, \
                 request its type with `TokenExchange::requested_token_type`",
            ),
            (TokenType::Bearer, Some(requested))
                if fields.issued_token_type.text() == Some(requested) =>
            {
                None
            }
            (TokenType::Bearer, Some(_)) => Some(
                "has the `token_type` `N_A`, but its `issued_token_type` isn't the requested type",
            ),
        }
    }
}

/// The required token type. A client must not use a token of an unknown type (RFC 6749 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenType {
    Bearer,
    #[cfg(feature = "dpop")]
    Dpop,
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
    /// Limits the lifetime. Use this method if the server states the expiry in another field.
    #[cfg(feature = "azure")]
    pub(crate) fn lasting_at_most(mut self, left: Duration) -> Self {
        self.expiry = Some(Expiry::In(match self.expiry {
            Some(Expiry::In(lifetime)) => lifetime.min(left),
            Some(Expiry::At(_) | Expiry::Never) | None => left,
        }));
        self
    }

    /// Makes the token by calling `make` with the secret. `requested` is the requested scope, which
    /// may be empty. `assumed` is the lifetime if neither the response nor the token specifies a
    /// lifetime; `None` if such a token never expires.
    pub(crate) fn into_token(
        self,
        requested: &str,
        assumed: impl Into<Option<Duration>>,
        make: impl FnOnce(SecretString) -> Result<Token, Error>,
    ) -> Result<Token, Error> {
        let token = make(self.access_token)?;
        let token = match self.expiry {
            Some(Expiry::In(lifetime)) => token.expires_in(lifetime),
            Some(Expiry::At(time)) => token.expires_at(time),
            Some(Expiry::Never) | None => match assumed.into() {
                Some(assumed) => token.expires_in(assumed),
                None => token,
            },
        };
        let token = match self.refresh_in {
            Some(after) => token.refresh_in(after),
            None => token,
        };
        let token = match self.has_expiry_date {
            true => token.with_expiry_read_as_date(),
            false => token,
        };
        let token = match self.id_token {
            Some(id_token) => token.with_id_token(id_token),
            None => token,
        };
        let token = token.with_quotas(self.quotas).with_extra_fields(self.extra);
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
    pub(crate) fn tokens(&self, wanted: WantedToken<'_>, redactor: Redactor) -> UnjudgedResponse {
        let (fields, malformed) = self.read_fields(true);
        let redactor = self.hiding(redactor, &fields);
        let quotas = quota_headers::parse(&self.headers, &redactor, self.started);
        // Ignores `refresh_token` in a refusal, where it may say what is wrong with the old token.
        let refresh_token = self.refresh_token(&fields, malformed.as_ref(), true);
        let fields = match malformed {
            Some(malformed) => Err(malformed),
            None => Ok(fields),
        };
        UnjudgedResponse {
            refresh_token,
            rest: match self.issued(fields, wanted, &redactor) {
                Ok(response) => Ok(TokenResponse { quotas, ..response }),
                Err(error) => Err(error.with_quotas(quotas)),
            },
        }
    }

    /// Returns the refresh token of a body that is cut off.
    pub(crate) fn refresh_token_before_its_end(&self) -> Option<SecretString> {
        let (fields, malformed) = self.read_fields(false);
        self.refresh_token(&fields, malformed.as_ref(), false)
    }

    fn issued(
        &self,
        fields: Result<ResponseFields, Malformed>,
        wanted: WantedToken<'_>,
        redactor: &Redactor,
    ) -> Result<TokenResponse, Error> {
        if self.status.is_client_error() || self.status.is_server_error() {
            // A refusal may have any body: a proxy's HTML, or no body at all.
            return Err(self.denied(&fields.unwrap_or_default(), redactor));
        }
        if !self.status.is_success() {
            let why = "has a status that is neither a success nor an error";
            return Err(unusable(&self.name(), self.status, why));
        }
        let fields = fields.map_err(|malformed| self.malformed(&malformed, redactor))?;
        let has_no_token = fields.access_token.is_nothing() && !fields.error.is_nothing();
        if fields.reports_error || has_no_token {
            return Err(self.denied(&fields, redactor));
        }
        let received = Received {
            at: self.started,
            sent_at: server_time(&self.headers),
        };
        let format = &self.format;
        read_token(&fields, format, wanted, received, redactor).map_err(|what| {
            // Without a token, the response may be a refusal in the server's own format.
            let is_refusal = fields.access_token.is_nothing();
            let reply = Reply {
                status: Some(self.status),
                remarks: is_refusal
                    .then(|| self.remarks(&fields, redactor))
                    .flatten(),
                ..Reply::default()
            };
            Error::new(Kind::Reply, format!("{} {what}", self.name())).with_reply(reply)
        })
    }

    /// Makes a redactor that also hides the issued tokens, the cookies and the values in the
    /// request's query.
    pub(crate) fn hiding(&self, mut redactor: Redactor, fields: &ResponseFields) -> Redactor {
        redactor.hide_all_of(&self.sent);
        redactor.hide_cookies(&self.headers);
        let tokens = [
            &fields.access_token,
            &fields.refresh_token,
            &fields.id_token,
        ];
        for token in tokens.into_iter().filter_map(FieldValue::text) {
            redactor.hide(token);
        }
        // Also hides tokens at the standard places, because the format may name other places.
        for standard in ["/access_token", "/refresh_token", "/id_token"] {
            let others = fields.body.at(standard).into_iter();
            for token in others.filter_map(BodyValue::text) {
                redactor.hide(token);
            }
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
        let fields = self.fields().unwrap_or_default();
        if self.status.is_success() && !fields.says_failure {
            return Ok(());
        }
        Err(self.denied_with(&fields, redactor, refused))
    }

    /// Returns the error if the server refused. A refusal is an error status, or a success whose
    /// body reports an error.
    pub(crate) fn refusal(&self, redactor: Redactor, refused: &'static str) -> Option<Error> {
        let fields = self.fields().unwrap_or_default();
        let is_refusal = !self.status.is_success() || fields.reports_error;
        is_refusal.then(|| self.denied_with(&fields, redactor, refused))
    }

    fn denied_with(
        &self,
        fields: &ResponseFields,
        redactor: Redactor,
        refused: &'static str,
    ) -> Error {
        let redactor = self.hiding(redactor, fields);
        let message = self.explain(refused.into(), &redactor);
        Error::denied(message, self.reply(fields, &redactor))
    }

    fn denied(&self, fields: &ResponseFields, redactor: &Redactor) -> Error {
        let reply = self.reply(fields, redactor);
        let what = match reply.code.as_ref().map(ServerText::as_str) {
            Some("invalid_client") => {
                "rejected this client; check the id and the secret or key, and whether the server \
                 expects the secret in the body or as basic authentication"
            }
            _ if self.status.is_server_error() => "failed",
            _ => "refused to issue a token",
        };
        let message = format!("{} {what}", self.endpoint).into();
        Error::denied(self.explain(message, redactor), reply)
    }

    /// Returns the name of this response in error messages.
    fn name(&self) -> String {
        format!("{}'s reply", self.endpoint)
    }

    /// Returns the parts of a refusal that the error keeps.
    fn reply(&self, fields: &ResponseFields, redactor: &Redactor) -> Reply {
        let requires_login = |code: &str| self.format.requires_login(code);
        let code = fields.error.text().map(|code| {
            if is_registered(code) || requires_login(code) {
                // Keeps a known code unchanged, because such a code is no secret.
                ServerText::new(code)
            } else {
                redactor.redact(code)
            }
        });
        let description = fields.error_description.text();
        Reply {
            status: Some(self.status),
            description: description.map(|text| redactor.redact(text)),
            remarks: self.remarks(fields, redactor),
            retry_after: retry_after::parse(&self.headers, self.started),
            is_invalid_grant: fields.error.text().is_some_and(requires_login),
            is_passing: false,
            code,
        }
    }

    /// Returns what a refusal says in fields that no RFC defines.
    fn remarks(&self, fields: &ResponseFields, redactor: &Redactor) -> Option<ServerText> {
        let status = self.status.as_str();
        let remarks = self.format.remarks(fields).into_iter();
        let remarks = remarks.filter(|(_, text)| text.expose_secret() != status);
        let remarks: Vec<String> = remarks
            .map(|(name, text)| {
                let text = redactor.redact(text.expose_secret());
                format!("{}: {text}", redactor.redact(&name))
            })
            .collect();
        (!remarks.is_empty()).then(|| ServerText::new(&remarks.join("; ")))
    }

    fn malformed(&self, malformed: &Malformed, redactor: &Redactor) -> Error {
        let what = malformed.what(redactor);
        if let Malformed::Undecoded(_) = malformed {
            return unusable(&self.name(), self.status, &what);
        }
        let content_type = content_type(&self.headers);
        // A client that expects forms reads a valid form, so this client expects JSON.
        let advice = match content_type.as_str() {
            "`application/x-www-form-urlencoded`" if !self.format.is_form_encoded() => {
                "; to read it, set `TokenResponseFormat::form_encoded`"
            }
            _ => "",
        };
        let content_type = redactor.redact(&content_type);
        let why = format!("{what}; its content type is {content_type}{advice}");
        unusable(&self.name(), self.status, &why)
    }

    /// Adds the reason why the refusal's body could not be decoded to the message.
    fn explain(&self, message: Cow<'static, str>, redactor: &Redactor) -> Cow<'static, str> {
        match &self.undecoded {
            None => message,
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
    fields: &ResponseFields,
    format: &TokenResponseFormat,
    wanted: WantedToken<'_>,
    received: Received,
    redactor: &Redactor,
) -> Result<TokenResponse, Cow<'static, str>> {
    if fields.has_duplicate {
        return Err("has a field twice, so its value is ambiguous".into());
    }
    if let Some(objection) = wanted.objection(fields, format) {
        return Err(objection.into());
    }
    let expires_in = seconds(&fields.expires_in).map_err(
        |NotSeconds| "has an `expires_in` that is neither a number nor a numeric string",
    )?;
    let name = format.access_token_name();
    let access_token = match &fields.access_token {
        FieldValue::Text(token) if !token.expose_secret().is_empty() => token.clone(),
        FieldValue::Absent | FieldValue::Null => return Err(format!("has no `{name}`").into()),
        FieldValue::Text(_) => return Err(format!("has an empty `{name}`").into()),
        FieldValue::Number(_) | FieldValue::Empty | FieldValue::Other => {
            return Err(format!("has an `{name}` that is not a string").into());
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
            // Redacted, because programs print the scope.
            let scope = redactor.redact_whole(scope.expose_secret());
            Scope::Granted(format.scope_of(&scope))
        }
        FieldValue::Absent | FieldValue::Null | FieldValue::Text(_) => Scope::AsRequested,
        FieldValue::Number(_) | FieldValue::Empty | FieldValue::Other => Scope::Unknown,
    };
    if let FieldValue::Number(_) | FieldValue::Empty | FieldValue::Other = fields.refresh_token {
        // This is an error, because the server may have revoked the old refresh token.
        return Err("has a `refresh_token` that is not a string".into());
    }
    let id_token = fields.id_token.text().filter(|token| !token.is_empty());
    Ok(TokenResponse {
        access_token,
        expiry,
        has_expiry_date: until_date.is_some(),
        refresh_in,
        scope,
        issued_token_type: fields.issued_token_type.clone(),
        id_token: id_token.map(SecretString::from),
        extra: format.extra(fields),
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
