//! A token of the server, and how long the server keeps it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::error::{Error, Kind};
use crate::http_client::bounded_response::EndpointResponse;
use crate::token::issued_token::{MAX_LIFETIME, Token};
use crate::token::redact::Redactor;

pub(super) struct Lease {
    /// The token, without its expiry. All tokens of a lease are clones of this token. So the cache
    /// takes a refusal of any of these tokens as a refusal of the lease.
    token: Token,
    pub(super) is_renewable: bool,
    /// `None` if the token never expires.
    term: Option<Term>,
}

#[derive(Clone, Copy)]
struct Term {
    length: Duration,
    ends_at: Instant,
}

impl Term {
    /// Makes the term of a lease that was requested at `asked`. Zero means that the lease never
    /// ends.
    fn new(seconds: u64, asked: Instant) -> Option<Self> {
        let length = Duration::from_secs(seconds).min(MAX_LIFETIME);
        (seconds > 0).then(|| Self {
            length,
            ends_at: asked + length,
        })
    }
}

impl Lease {
    /// Reads the lease of a token that the server issued or renewed. The request started at `asked`.
    pub(super) fn issued(token: Token, asked: Instant) -> Result<Self, Error> {
        let auth = token.extra("auth");
        let field = |name: &str| auth?.get(name);
        let Some(seconds) = field("lease_duration").and_then(Value::as_u64) else {
            let message = "the Vault server's reply has no `/auth/lease_duration` that is a \
                           number of seconds";
            return Err(Error::new(Kind::Reply, message));
        };
        let is_renewable = field("renewable").and_then(Value::as_bool);
        Ok(Self {
            is_renewable: is_renewable.unwrap_or_default(),
            term: Term::new(seconds, asked),
            token,
        })
    }

    /// Returns the lease after a renewal. A renewal usually keeps the token's text. Then the token
    /// remains the same credential.
    pub(super) fn renewed(&self, renewed: Self) -> Self {
        match renewed.token.is_same_credential(&self.token) {
            true => Self {
                token: self.token.clone(),
                ..renewed
            },
            false => renewed,
        }
    }

    /// Reads what the server says about the token (`lookup-self`). Returns `None` if the token is
    /// about to end. The request started at `asked`.
    pub(super) fn looked_up(&self, response: &EndpointResponse, asked: Instant) -> Option<Self> {
        let fields = response.fields().ok()?;
        let text = |at: &str| fields.body.at(at).first().and_then(|value| value.scalar());
        let seconds: u64 = text("/data/ttl")?.parse().ok()?;
        if seconds == 0 && text("/data/expire_time").is_some() {
            return None;
        }
        Some(Self {
            token: self.token.clone(),
            is_renewable: text("/data/renewable").as_deref() == Some("true"),
            term: Term::new(seconds, asked),
        })
    }

    /// Returns whether this lease ends later than `before`, by at least a tenth of this lease's
    /// length. When a token nears its maximum lifetime, renewals no longer extend its lease.
    pub(super) fn extends(&self, before: &Self) -> bool {
        match (self.term, before.term) {
            (Some(term), Some(before)) => term.ends_at >= before.ends_at + term.length / 10,
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    /// Returns the token without its expiry.
    pub(super) fn bare_token(&self) -> &Token {
        &self.token
    }

    /// Returns the token with its expiry.
    pub(super) fn token(&self) -> Token {
        let token = self.token.clone();
        match self.term {
            Some(term) => token.expires_in(term.length),
            None => token,
        }
    }
}

/// Returns whether the token is a batch token, which the server can't revoke.
pub(super) fn is_batch(token: &Token) -> bool {
    let auth = token.extra("auth");
    let kind = auth.and_then(|auth| auth.get("token_type"));
    kind.and_then(Value::as_str) == Some("batch")
}

/// Makes a redactor that hides the token in the server's texts.
pub(super) fn hiding(token: &Token) -> Redactor {
    let mut redactor = Redactor::default();
    redactor.hide(token.secret());
    redactor
}
