//! The table of issued tokens, which says which of them are valid. The authorization server and the
//! API share this table. The verdict is based on the table.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use crate::Stopwatch;
use crate::pace::Pace;

pub(crate) struct Truth {
    watch: Stopwatch,
    lifetime: Duration,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The number of the current signing key.
    key: u32,
    tokens: Vec<Issued>,
    sent_late: usize,
    refusals: Vec<Duration>,
}

#[derive(Clone)]
pub(crate) struct Issued {
    secret: String,
    /// When the token expires by the server's clock, counted from the response.
    expires: Duration,
    /// When the token became invalid before its expiry, and why.
    spoilt: Option<(Duration, &'static str)>,
    /// When the client requested the token, and when the client received it.
    pub(crate) received: Option<(Duration, Duration)>,
}

impl Issued {
    pub(crate) fn spoilt(&self) -> Option<Duration> {
        self.spoilt.map(|(time, _)| time)
    }
}

impl Truth {
    pub(crate) fn new(watch: Stopwatch, pace: &Pace) -> Self {
        Self {
            watch,
            lifetime: pace.lifetime,
            table: Mutex::default(),
        }
    }

    /// Issues a token, signed with the current key.
    pub(crate) fn issue(&self) -> String {
        let mut table = self.lock();
        let secret = format!("key-{}-token-{}", table.key, table.tokens.len());
        let expires = self.watch.now() + self.lifetime;
        table.tokens.push(Issued {
            secret: secret.clone(),
            expires,
            spoilt: None,
            received: None,
        });
        secret
    }

    /// Records that the client received a token that it requested at `asked`.
    pub(crate) fn received(&self, secret: &str, asked: Duration) {
        let now = self.watch.now();
        let mut table = self.lock();
        if let Some(token) = table.find(secret) {
            token.received = Some((asked, now));
        }
    }

    /// Returns why the API refuses a request with this `Authorization`. Returns `None` if the API
    /// accepts the request.
    pub(crate) fn refuses(&self, authorization: Option<&HeaderValue>) -> Option<&'static str> {
        let now = self.watch.now();
        let secret = authorization.and_then(|value| value.to_str().ok());
        let secret = secret.and_then(|value| value.strip_prefix("Bearer "));
        let mut table = self.lock();
        let token = secret.and_then(|secret| table.find(secret));
        let (is_late, refusal) = match token {
            None => (false, Some("unknown")),
            // An expired token counts as late, even if it was also revoked.
            Some(token) if now > token.expires => (true, Some("expired")),
            Some(token) => (false, token.spoilt.map(|(_, why)| why)),
        };
        table.sent_late += usize::from(is_late);
        if refusal.is_some() {
            table.refusals.push(now);
        }
        refusal
    }

    /// Makes all tokens signed so far invalid, even a token that the client hasn't received yet.
    pub(crate) fn rotate_keys(&self) {
        let now = self.watch.now();
        let mut table = self.lock();
        table.key += 1;
        for token in &mut table.tokens {
            token.spoilt.get_or_insert((now, "signed with an old key"));
        }
    }

    /// Revokes the client's current token.
    pub(crate) fn revoke_current(&self) {
        let now = self.watch.now();
        let mut table = self.lock();
        let mut latest = table.tokens.iter_mut().rev();
        if let Some(token) = latest.find(|token| token.received.is_some()) {
            token.spoilt.get_or_insert((now, "revoked"));
        }
    }

    pub(crate) fn sent_late(&self) -> usize {
        self.lock().sent_late
    }

    /// Returns the times at which the API refused requests.
    pub(crate) fn refusals(&self) -> Vec<Duration> {
        self.lock().refusals.clone()
    }

    /// Returns the tokens that the client received, in order of arrival.
    pub(crate) fn tokens_received(&self) -> Vec<Issued> {
        let table = self.lock();
        let received = table.tokens.iter().filter(|token| token.received.is_some());
        let mut tokens: Vec<Issued> = received.cloned().collect();
        tokens.sort_by_key(|token| token.received.map(|(_, got)| got));
        tokens
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Searches from the latest token, because the wanted token is nearly always the latest.
    fn find(&mut self, secret: &str) -> Option<&mut Issued> {
        let mut latest = self.tokens.iter_mut().rev();
        latest.find(|token| token.secret == secret)
    }
}
