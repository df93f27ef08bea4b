//! Decides whether a fetch can use the access token that another process saved.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::initial_token::RequestedAt;
use super::login_record::LoginRecord;
use super::refresh_store::SavedLogin;
use crate::error::BoxError;
use crate::oauth2::client::oauth2_client::Client;
use crate::source::token_source::Reason;
use crate::token::issued_token::{Expiry, RefreshHint, Token};
use crate::token::known_tokens::KnownTokens;

/// A fetch for a caller that waits accepts any saved token with this much time left.
const ENOUGH: Duration = Duration::from_secs(60);

/// A login that was loaded from the store.
pub(crate) struct Loaded {
    pub(crate) record: LoginRecord,
    pub(crate) age: Option<Duration>,
    text: SecretString,
}

/// What a fetch needs.
pub(crate) struct Wanted<'a> {
    reason: Reason,
    client: &'a Client,
    /// The digest of the source's parameters.
    request: String,
    /// The start of the fetch.
    since: RequestedAt,
    /// The text that was in the store when the fetch started.
    first_text: Option<SecretString>,
    /// The access token that was in the store at that time, if the fetch must not return it.
    unwanted: Option<Token>,
}

impl Loaded {
    /// Reads a login. Returns `None` if the text is empty.
    pub(crate) fn new(saved: &SavedLogin) -> Result<Option<Self>, BoxError> {
        let record = LoginRecord::parse(saved.text().expose_secret())?;
        Ok(record.map(|record| Self {
            record,
            age: saved.age(),
            text: saved.text().clone(),
        }))
    }
}

impl<'a> Wanted<'a> {
    /// Starts a fetch.
    pub(crate) fn new(reason: Reason, client: &'a Client, request: String) -> Self {
        Self {
            reason,
            client,
            request,
            since: RequestedAt::now(),
            first_text: None,
            unwanted: None,
        }
    }

    /// Looks at the first login that the fetch loaded. Returns its access token if it is usable.
    pub(crate) fn look_first(
        &mut self,
        found: Option<&Loaded>,
        known: &KnownTokens,
    ) -> Option<Token> {
        let found = found?;
        self.first_text = Some(found.text.clone());
        if self.reason == Reason::Forced {
            let access_token = found.record.access_token();
            let token =
                access_token.map(|token| token.token(self.client, Duration::ZERO, &self.since));
            self.unwanted = token.and_then(Result::ok);
        }
        self.usable(found, known)
    }

    /// Returns the access token of a loaded login if it is usable.
    pub(crate) fn usable(&self, saved: &Loaded, known: &KnownTokens) -> Option<Token> {
        let recorded = saved.record.access_token()?;
        if !recorded.is_for(&self.request, self.client) {
            return None;
        }
        let age = self.age_of(saved)?;
        let left = recorded.left(age)?;
        let half = recorded.lifetime() / 2;
        let needed = match self.reason {
            Reason::Stale => half,
            Reason::First | Reason::Expired | Reason::Refused | Reason::Forced => half.min(ENOUGH),
        };
        if left < needed {
            return None;
        }
        let token = recorded.token(self.client, age, &self.since).ok()?;
        let token = match saved.record.id_token() {
            Some(id_token) => token.with_id_token(id_token.clone()),
            None => token,
        };
        let is_unwanted = self
            .unwanted
            .as_ref()
            .is_some_and(|unwanted| unwanted.is_same_credential(&token));
        let is_refused = is_unwanted || known.is_refused(&token);
        let is_old = match self.reason {
            Reason::Stale | Reason::Forced => known.is_latest(&token),
            Reason::First | Reason::Expired | Reason::Refused => false,
        };
        (!is_refused && !is_old).then_some(token)
    }

    /// Returns the maximum time since the login was saved. If the store doesn't know this time,
    /// returns the time since the start of the fetch. In this case, returns `None` unless the login
    /// has changed during the fetch.
    fn age_of(&self, saved: &Loaded) -> Option<Duration> {
        saved.age.or_else(|| {
            let first = self.first_text.as_ref().map(ExposeSecret::expose_secret);
            let has_changed = first != Some(saved.text.expose_secret());
            has_changed.then(|| self.since.elapsed())
        })
    }

    /// Adapts a token whose request started at `requested_at`, later than this fetch. The cache
    /// counts the token's lifetime from the start of the fetch.
    pub(crate) fn later(&self, token: Token, requested_at: &RequestedAt) -> Token {
        let waited = self.since.waited().saturating_sub(requested_at.waited());
        let token = match token.expiry() {
            Expiry::In(lifetime) => token.expires_in(lifetime + waited),
            Expiry::At(_) | Expiry::Never => token,
        };
        match token.refresh_hint() {
            Some(RefreshHint::After(after)) => token.refresh_in(after + waited),
            Some(RefreshHint::WithinLast(_)) | None => token,
        }
    }
}
