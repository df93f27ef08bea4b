//! The authorization response (RFC 6749 §4.1.2, RFC 9207), which arrives in the browser's redirect.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::user_login::LOGIN_REFUSED;
use crate::error::{Error, Kind, Reply};
use crate::token::form;
use crate::token::redact::Redactor;

/// The verified response to an [`AuthorizationRequest`](crate::oauth2::AuthorizationRequest). The
/// response contains a code.
/// [`AuthorizationCode::finish`](crate::oauth2::AuthorizationCode::finish) exchanges this code for
/// tokens.
///
/// [`AuthorizationRequest::read`](crate::oauth2::AuthorizationRequest::read) and `RedirectListener`
/// return this type. [`Debug`](fmt::Debug) shows no part of the response.
pub struct AuthorizationResponse {
    code: SecretString,
    state: SecretString,
}

impl AuthorizationResponse {
    pub(crate) fn code(&self) -> &SecretString {
        &self.code
    }

    pub(crate) fn state(&self) -> &SecretString {
        &self.state
    }
}

/// The issuer that a response must come from, if known (RFC 9207).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "fleet", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum ExpectedIssuer {
    Unknown,
    /// If the response contains an issuer, the two issuers must be equal.
    Known(String),
    /// The response must contain this issuer.
    Required(String),
}

/// The parameters of the browser's redirect. Anyone may have sent these parameters.
#[derive(Default)]
pub(crate) struct RedirectParams {
    code: Param,
    state: Param,
    iss: Param,
    error: Param,
    error_description: Param,
}

/// The value of one parameter.
#[derive(Default)]
enum Param {
    #[default]
    Absent,
    Once(SecretString),
    /// The parameter is repeated, so its value is ambiguous. RFC 6749 §3.1 forbids this.
    Repeated,
}

impl Param {
    fn text(&self) -> Option<&SecretString> {
        match self {
            Self::Once(text) => Some(text),
            Self::Absent | Self::Repeated => None,
        }
    }
}

impl RedirectParams {
    /// Parses an address, a path with a query, or only a query.
    pub(crate) fn parse(text: &str) -> Self {
        Self::of_query(query(text))
    }

    /// Parses a query. Ignores unknown parameters (RFC 6749 §4.1.2) and parameters without a value
    /// (§3.1).
    pub(crate) fn of_query(query: &str) -> Self {
        let mut params = Self::default();
        for (name, value) in form::parse(query.as_bytes()) {
            let param = match name.as_str() {
                "code" => &mut params.code,
                "state" => &mut params.state,
                "iss" => &mut params.iss,
                "error" => &mut params.error,
                "error_description" => &mut params.error_description,
                _ => continue,
            };
            *param = match param {
                Param::Absent if value.expose_secret().is_empty() => continue,
                Param::Absent => Param::Once(value),
                Param::Once(_) | Param::Repeated => Param::Repeated,
            };
        }
        params
    }

    pub(crate) fn state(&self) -> Option<&SecretString> {
        self.state.text()
    }

    /// Returns the response. The caller has checked that `state` matches the request.
    pub(crate) fn verify(self, issuer: &ExpectedIssuer) -> Result<AuthorizationResponse, Error> {
        let all = [
            &self.code,
            &self.state,
            &self.iss,
            &self.error,
            &self.error_description,
        ];
        if all.iter().any(|param| matches!(param, Param::Repeated)) {
            return Err(unusable("has a parameter twice"));
        }
        self.check_issuer(issuer)?;
        if let Param::Once(error) = &self.error {
            return Err(self.denied(error.expose_secret()));
        }
        match (self.code, self.state) {
            (Param::Once(code), Param::Once(state)) => Ok(AuthorizationResponse { code, state }),
            _ => Err(unusable("has no `code`")),
        }
    }

    /// Compares the issuers as strings (RFC 9207 §2.4). Another server may also have sent an error
    /// response, so this check covers error responses too.
    fn check_issuer(&self, issuer: &ExpectedIssuer) -> Result<(), Error> {
        match (issuer, self.iss.text()) {
            (ExpectedIssuer::Unknown, _) | (ExpectedIssuer::Known(_), None) => Ok(()),
            (ExpectedIssuer::Required(_), None) => {
                let what = "has no `iss`, so its server is unknown";
                Err(unusable(what))
            }
            (ExpectedIssuer::Known(issuer) | ExpectedIssuer::Required(issuer), Some(iss)) => {
                if iss.expose_secret() == issuer {
                    return Ok(());
                }
                let what = "has an `iss` that isn't the expected issuer";
                Err(unusable(what))
            }
        }
    }

    /// Returns the error that the server sent (RFC 6749 §4.1.2.1).
    fn denied(&self, code: &str) -> Error {
        let mut redactor = Redactor::default();
        for secret in [self.code.text(), self.state.text()].into_iter().flatten() {
            redactor.hide(secret.expose_secret());
        }
        let description = self.error_description.text();
        let reply = Reply {
            code: Some(redactor.redact(code)),
            description: description.map(|text| redactor.redact(text.expose_secret())),
            ..Reply::default()
        };
        let message = match code {
            "access_denied" => LOGIN_REFUSED,
            _ => "the authorization server answered the login with an error",
        };
        Error::denied(message, reply)
    }
}

/// Returns the query of an address. A text is a query alone if its first `=` comes before any `:`,
/// `/` or `?`.
fn query(text: &str) -> &str {
    let text = text.split('#').next().unwrap_or_default();
    match text.find(['=', ':', '/', '?']) {
        Some(at) if !text[at..].starts_with('=') => {
            text.split_once('?').map_or("", |(_, query)| query)
        }
        _ => text,
    }
}

fn unusable(what: &str) -> Error {
    let message = format!("the browser's redirect {what}; begin the login again");
    Error::new(Kind::Reply, message)
}

impl fmt::Debug for AuthorizationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationResponse")
            .finish_non_exhaustive()
    }
}
