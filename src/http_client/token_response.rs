//! What a token endpoint answered: a token (RFC 6749 §5.1), a refusal (§5.2), or neither.
//!
//! Nothing here quotes the body but the two fields of a refusal that are meant to be read, and
//! those only past the [`Redactor`].

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::quota_headers;
use super::redact::Redactor;
use super::response_fields::{self, Malformed, Member, Members};
use super::response_paths::Places;
use super::retry_after;
use crate::error::{Error, Kind, Reply};
#[cfg(feature = "dpop")]
use crate::oauth2::dpop::proof::{Dpop, USE_NONCE};
use crate::quota::Quota;
use crate::token::issued_token::{Expiry, Token};
use crate::token::jwt;

/// What is assumed of a token when neither the server nor the token itself says how long it
/// lasts: the lifetime in RFC 6749's own examples (§5.1), and what most servers issue.
pub(crate) const ASSUMED_LIFETIME: Duration = Duration::from_secs(60 * 60);

pub(crate) const REPLY: &str = "the token endpoint's reply";

/// A token that was issued, and what was said of it.
pub(crate) struct TokenReply {
    access_token: SecretString,
    /// `None`: neither the server nor the token itself says it.
    expiry: Option<Expiry>,
    scope: Scope,
    /// The next refresh token (RFC 6749 §6), if one was sent.
    pub(crate) refresh_token: Option<SecretString>,
    /// What an exchange came to (RFC 8693 §2.2.1).
    pub(crate) issued_token_type: Member,
    /// What is left for the next.
    quotas: Vec<Quota>,
    /// What it must be presented with (RFC 9449).
    #[cfg(feature = "dpop")]
    pub(crate) bound_to: Option<Dpop>,
}

/// What a token must be, for whoever asked for it can present no other (RFC 6749 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenType {
    Bearer,
    #[cfg(feature = "dpop")]
    Dpop,
}

impl TokenType {
    /// What is wrong with a `token_type`, if anything.
    fn objection(self, sent: &Member) -> Option<&'static str> {
        match self {
            _ if is_text(sent, "N_A") => {
                Some("has the `token_type` `N_A`: what it issued is no access token")
            }
            Self::Bearer if sent.is_nothing() || is_text(sent, "bearer") => None,
            Self::Bearer => {
                Some("has a `token_type` other than `Bearer`, which is the only one supported")
            }
            #[cfg(feature = "dpop")]
            Self::Dpop if is_text(sent, "dpop") => None,
            #[cfg(feature = "dpop")]
            Self::Dpop => Some(
                "has a `token_type` other than `DPoP`: the server has ignored the proof, and \
                 whoever gets hold of that token can use it",
            ),
        }
    }
}

fn is_text(member: &Member, text: &str) -> bool {
    let sent = member.text();
    sent.is_some_and(|sent| sent.eq_ignore_ascii_case(text))
}

enum Scope {
    /// The one that was asked for (RFC 6749 §5.1).
    AsRequested,
    Granted(String),
    /// Said in a way that isn't RFC 6749's, such as an array.
    Unknown,
}

impl TokenReply {
    /// The token. `requested` is the scope that was asked for, empty if none was, `assumed` the
    /// lifetime of a token about which nothing is known.
    pub(crate) fn into_token(self, requested: &str, assumed: Duration) -> Result<Token, Error> {
        #[cfg(feature = "dpop")]
        let token = match self.bound_to {
            Some(dpop) => dpop.token(self.access_token)?,
            None => Token::bearer(self.access_token)?,
        };
        #[cfg(not(feature = "dpop"))]
        let token = Token::bearer(self.access_token)?;
        let token = match self.expiry {
            Some(Expiry::In(lifetime)) => token.expires_in(lifetime),
            Some(Expiry::At(time)) => token.expires_at(time),
            Some(Expiry::Never) | None => token.expires_in(assumed),
        };
        let token = token.with_quotas(self.quotas);
        Ok(match (self.scope, requested) {
            (Scope::Granted(scope), _) => token.with_scope(scope),
            (Scope::AsRequested, "") | (Scope::Unknown, _) => token,
            (Scope::AsRequested, scope) => token.with_scope(scope),
        })
    }
}

/// An answer with its body read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// When the request was started.
    pub(crate) started: SystemTime,
    /// What was sent in the address.
    pub(crate) sent: Redactor,
}

impl Answer {
    /// Reads a token where RFC 6749 has it.
    pub(crate) fn read(&self, wanted: TokenType, redactor: Redactor) -> Result<TokenReply, Error> {
        self.judge(response_fields::parse(&self.body), wanted, redactor)
    }

    /// Reads a token where an API of its own kind has it.
    pub(crate) fn read_at(&self, places: &Places, redactor: Redactor) -> Result<TokenReply, Error> {
        let members = response_fields::parse_at(&self.body, places);
        self.judge(members, TokenType::Bearer, redactor)
    }

    fn judge(
        &self,
        members: Result<Members, Malformed>,
        wanted: TokenType,
        redactor: Redactor,
    ) -> Result<TokenReply, Error> {
        let redactor = self.hiding(redactor, members.as_ref().ok());
        let quotas = quota_headers::parse(&self.headers, &redactor, self.started);
        match self.issue(members, wanted, &redactor) {
            Ok(reply) => Ok(TokenReply { quotas, ..reply }),
            Err(error) => Err(error.with_quotas(quotas)),
        }
    }

    fn issue(
        &self,
        members: Result<Members, Malformed>,
        wanted: TokenType,
        redactor: &Redactor,
    ) -> Result<TokenReply, Error> {
        if self.status.is_client_error() || self.status.is_server_error() {
            // A refusal is one in any shape: HTML of a proxy, nothing at all.
            return Err(self.denied(&members.unwrap_or_default(), redactor));
        }
        if !self.status.is_success() {
            return Err(unusable(
                REPLY,
                self.status,
                "has a status that is no answer",
            ));
        }
        let members = members.map_err(|malformed| self.malformed(malformed, redactor))?;
        if members.access_token.is_nothing() && !members.error.is_nothing() {
            return Err(self.denied(&members, redactor));
        }
        issued(members, wanted, self.started, redactor)
            .map_err(|what| unusable(REPLY, self.status, what))
    }

    /// Hides what was issued too, and what was sent in the address.
    fn hiding(&self, mut redactor: Redactor, members: Option<&Members>) -> Redactor {
        redactor.hide_all_of(&self.sent);
        redactor.hide_cookies(&self.headers);
        let tokens = members.map(|members| [&members.access_token, &members.refresh_token]);
        for token in tokens.into_iter().flatten().filter_map(Member::text) {
            redactor.hide(token);
        }
        redactor
    }

    /// Whether the server wants the same again, with a nonce in the proof (RFC 9449 §8).
    #[cfg(feature = "dpop")]
    pub(crate) fn wants_nonce(&self) -> bool {
        let members = response_fields::parse(&self.body).unwrap_or_default();
        self.status.is_client_error() && members.error.text() == Some(USE_NONCE)
    }

    /// What an endpoint answered that has nothing to issue: `Ok` if it did as it was told.
    pub(crate) fn done(&self, redactor: Redactor, refused: &'static str) -> Result<(), Error> {
        if self.status.is_success() {
            return Ok(());
        }
        let members = response_fields::parse(&self.body).unwrap_or_default();
        let redactor = self.hiding(redactor, Some(&members));
        Err(Error::denied(refused, self.reply(&members, &redactor)))
    }

    /// What another endpoint of the server said no with, if it did: by its status, or with a success
    /// that carries `error`.
    pub(crate) fn refusal(&self, redactor: Redactor, refused: &'static str) -> Option<Error> {
        let members = response_fields::parse(&self.body).unwrap_or_default();
        let redactor = self.hiding(redactor, Some(&members));
        let is_refusal = !self.status.is_success() || !members.error.is_nothing();
        is_refusal.then(|| Error::denied(refused, self.reply(&members, &redactor)))
    }

    fn denied(&self, members: &Members, redactor: &Redactor) -> Error {
        let reply = self.reply(members, redactor);
        let message = match reply.code.as_deref() {
            Some("invalid_client") => {
                "the token endpoint doesn't accept this client; check the id, the secret or the \
                 key, and whether it wants a secret in the body or as basic authentication"
            }
            _ if self.status.is_server_error() => "the token endpoint failed",
            _ => "the token endpoint refused to issue a token",
        };
        Error::denied(message, reply)
    }

    /// What is kept of a refusal.
    fn reply(&self, members: &Members, redactor: &Redactor) -> Reply {
        let code = members.error.text().map(|code| {
            if is_registered(code) {
                // A published word is nobody's secret, and it is acted upon.
                code.to_owned()
            } else {
                redactor.redact(code)
            }
        });
        let description = members.error_description.text();
        Reply {
            status: Some(self.status),
            description: description.map(|text| redactor.redact(text)),
            retry_after: retry_after::parse(&self.headers, self.started),
            code,
        }
    }

    fn malformed(&self, malformed: Malformed, redactor: &Redactor) -> Error {
        let what = malformed.what();
        let content_type = redactor.redact(&content_type(&self.headers));
        unusable(
            REPLY,
            self.status,
            &format!("{what}; its content type is {content_type}"),
        )
    }
}

/// An answer that can't be understood. `what` must hold no text of the body.
pub(crate) fn unusable(answer: &str, status: StatusCode, what: &str) -> Error {
    let reply = Reply {
        status: Some(status),
        ..Reply::default()
    };
    Error::new(Kind::Reply, format!("{answer} {what}")).with_reply(reply)
}

/// The token, or what is wrong with the answer.
fn issued(
    members: Members,
    wanted: TokenType,
    now: SystemTime,
    redactor: &Redactor,
) -> Result<TokenReply, &'static str> {
    if members.stands_twice {
        return Err("has a member that stands twice, and which is meant can't be told");
    }
    if let Some(objection) = wanted.objection(&members.token_type) {
        return Err(objection);
    }
    let expires_in = lifetime(&members.expires_in)?;
    let access_token = match members.access_token {
        Member::Text(token) if !token.expose_secret().is_empty() => token,
        Member::Absent | Member::Null => return Err("has no `access_token`"),
        Member::Text(_) => return Err("has an empty `access_token`"),
        Member::Number(_) | Member::Other => return Err("has an `access_token` that is no text"),
    };
    let expiry = match expires_in {
        Some(lifetime) => Some(Expiry::In(lifetime)),
        None => jwt::expiry(access_token.expose_secret(), now),
    };
    let scope = match &members.scope {
        Member::Text(scope) if !scope.expose_secret().trim().is_empty() => {
            // It is printed and logged.
            Scope::Granted(redactor.redact(scope.expose_secret()))
        }
        Member::Absent | Member::Null | Member::Text(_) => Scope::AsRequested,
        Member::Number(_) | Member::Other => Scope::Unknown,
    };
    let refresh_token = match members.refresh_token {
        Member::Text(token) if !token.expose_secret().is_empty() => Some(token),
        Member::Absent | Member::Null | Member::Text(_) => None,
        // To go on with the old one could be to use one that was taken back.
        Member::Number(_) | Member::Other => return Err("has a `refresh_token` that is no text"),
    };
    Ok(TokenReply {
        access_token,
        expiry,
        scope,
        refresh_token,
        issued_token_type: members.issued_token_type,
        quotas: Vec::new(),
        #[cfg(feature = "dpop")]
        bound_to: None,
    })
}

/// `expires_in`, which some servers send as a text or with a fraction. Below zero is zero.
fn lifetime(expires_in: &Member) -> Result<Option<Duration>, &'static str> {
    let unread = || "has an `expires_in` that is neither a number nor a numeric string";
    seconds(expires_in).map_err(|NotSeconds| unread())
}

/// What should have been a number of seconds.
pub(crate) struct NotSeconds;

/// A number of seconds, `None` if it isn't said.
pub(crate) fn seconds(member: &Member) -> Result<Option<Duration>, NotSeconds> {
    let seconds = match member {
        Member::Absent | Member::Null => return Ok(None),
        Member::Number(seconds) => Some(*seconds),
        Member::Text(text) => number(text.expose_secret()),
        Member::Other => None,
    };
    // The cast cuts the fraction and stops at both ends.
    let seconds = seconds.ok_or(NotSeconds)? as u64;
    Ok(Some(Duration::from_secs(seconds)))
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    // `f64` also reads `inf` and `nan`.
    let is_numeric = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if is_numeric { text.parse().ok() } else { None }
}

/// The codes of RFC 6749 §5.2 and §4.1.2.1, RFC 8628 §3.5, RFC 8707 §2, and RFC 9449 §5 and §8.
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

/// The media type, which tells a proxy's page from an answer. Anything but a plain one is not
/// repeated.
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
