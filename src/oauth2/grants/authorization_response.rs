//! What a browser comes back with from an authorization server (RFC 6749 §4.1.2, RFC 9207).

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::authorization_request::ExpectedIssuer;
use crate::error::{Error, Kind, Reply};
use crate::http_client::redact::Redactor;

/// The answer to an [`AuthorizationRequest`](crate::oauth2::AuthorizationRequest): a code that tokens are
/// issued for, found to be meant for this request and no other.
///
/// It comes from [`AuthorizationRequest::read`](crate::oauth2::AuthorizationRequest::read) or from
/// `RedirectListener`, and goes to [`AuthorizationCode::finish`](crate::oauth2::AuthorizationCode::finish).
/// [`Debug`](fmt::Debug) shows nothing of it.
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

/// The parameters as they came, from whoever sent them.
#[derive(Default)]
pub(crate) struct Redirect {
    code: Param,
    state: Param,
    iss: Param,
    error: Param,
    error_description: Param,
}

/// What there is of one parameter.
#[derive(Default)]
enum Param {
    #[default]
    Absent,
    Once(SecretString),
    /// Against RFC 6749 §3.1. Which is meant can't be told.
    Again,
}

impl Param {
    fn text(&self) -> Option<&SecretString> {
        match self {
            Self::Once(text) => Some(text),
            Self::Absent | Self::Again => None,
        }
    }
}

impl Redirect {
    /// Reads an address, its path and query, or its query alone.
    pub(crate) fn parse(text: &str) -> Self {
        Self::of_query(query(text))
    }

    /// Other parameters are ignored (RFC 6749 §4.1.2), and so is one without a value (§3.1).
    pub(crate) fn of_query(query: &str) -> Self {
        let mut redirect = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = SecretString::from(value.into_owned());
            let param = match name.as_ref() {
                "code" => &mut redirect.code,
                "state" => &mut redirect.state,
                "iss" => &mut redirect.iss,
                "error" => &mut redirect.error,
                "error_description" => &mut redirect.error_description,
                _ => continue,
            };
            *param = match param {
                Param::Absent if value.expose_secret().is_empty() => continue,
                Param::Absent => Param::Once(value),
                Param::Once(_) | Param::Again => Param::Again,
            };
        }
        redirect
    }

    pub(crate) fn state(&self) -> Option<&SecretString> {
        self.state.text()
    }

    /// The response, once `state` has been found to be that of the request.
    pub(crate) fn judge(self, issuer: &ExpectedIssuer) -> Result<AuthorizationResponse, Error> {
        let all = [
            &self.code,
            &self.state,
            &self.iss,
            &self.error,
            &self.error_description,
        ];
        if all.iter().any(|param| matches!(param, Param::Again)) {
            return Err(unusable("has a parameter that stands twice"));
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

    /// By plain comparison (RFC 9207 §2.4): an error too may come from a server that was never asked.
    fn check_issuer(&self, issuer: &ExpectedIssuer) -> Result<(), Error> {
        match (issuer, self.iss.text()) {
            (ExpectedIssuer::Unknown, _) | (ExpectedIssuer::Known(_), None) => Ok(()),
            (ExpectedIssuer::Required(_), None) => Err(unusable(
                "has no `iss`, so that it can't be told which server sent it",
            )),
            (ExpectedIssuer::Known(issuer) | ExpectedIssuer::Required(issuer), Some(iss)) => {
                if iss.expose_secret() == issuer {
                    return Ok(());
                }
                Err(unusable(
                    "has an `iss` that is another server's than was asked",
                ))
            }
        }
    }

    /// What the server said no with (RFC 6749 §4.1.2.1).
    fn denied(&self, code: &str) -> Error {
        let mut redactor = Redactor::default();
        for secret in [&self.code, &self.state]
            .into_iter()
            .filter_map(Param::text)
        {
            redactor.hide(secret.expose_secret());
        }
        let description = self.error_description.text();
        let reply = Reply {
            code: Some(redactor.redact(code)),
            description: description.map(|text| redactor.redact(text.expose_secret())),
            ..Reply::default()
        };
        let message = match code {
            "access_denied" => "the login was refused, by the person or by the server",
            _ => "the authorization server didn't let the person log in",
        };
        Error::denied(message, reply)
    }
}

/// The query of an address. A query that stands alone has a `=` before any `:`, `/` or `?`.
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
    let message = format!("what the browser came back with {what}; begin the login anew");
    Error::new(Kind::Reply, message)
}

impl fmt::Debug for AuthorizationResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationResponse")
            .finish_non_exhaustive()
    }
}
