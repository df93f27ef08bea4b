//! What a store keeps of a login: the refresh token, and the access token for the other processes.
//!
//! The record is a JSON object. Its times are durations, so that no process compares its clock with
//! the clock of another process. A text that isn't a JSON object is a bare refresh token.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::initial_token::RequestedAt;
use crate::error::{BoxError, Error};
use crate::oauth2::client::oauth2_client::Client;
use crate::token::extra_fields::ExtraFields;
use crate::token::issued_token::{Expiry, RefreshHint, Token};
use crate::token::json_reader;
use crate::token::secret_json;

/// The maximum length of a record, in bytes. A file that is longer isn't read.
const LONGEST: usize = 60 * 1024;

/// A login in a store.
pub(crate) struct LoginRecord {
    /// Empty if the text contains no refresh token.
    refresh_token: SecretString,
    /// The last ID token of the login. A refresh may return no ID token (OpenID Connect Core §12.2).
    id_token: Option<SecretString>,
    access_token: Option<RecordedToken>,
}

/// An access token that another process may use.
pub(crate) struct RecordedToken {
    secret: SecretString,
    /// The time until the expiry, counted from when the record was saved.
    left: Duration,
    /// The whole lifetime.
    lifetime: Duration,
    /// When the server wants a refresh, counted from when the record was saved.
    refresh_in: Option<Duration>,
    scope: Option<String>,
    missing_scope: Option<String>,
    /// The other fields of the token response.
    extra: Option<ExtraFields>,
    /// The digest of what the source requested. A source with other parameters doesn't use the
    /// token.
    request: String,
    /// The thumbprint of the key that the token is bound to.
    jkt: Option<String>,
}

/// The JSON form. Unknown fields are ignored.
#[derive(Default, Serialize, Deserialize)]
struct EncodedLogin<'a> {
    #[serde(default, skip_serializing_if = "str::is_empty")]
    refresh_token: &'a str,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    access_token: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lifetime_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_in_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing_scope: Option<String>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    id_token: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<Cow<'a, ExtraFields>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jkt: Option<String>,
}

impl LoginRecord {
    pub(crate) fn new(refresh_token: SecretString, access_token: Option<RecordedToken>) -> Self {
        Self {
            refresh_token,
            id_token: None,
            access_token,
        }
    }

    pub(crate) fn with_id_token(mut self, id_token: Option<SecretString>) -> Self {
        self.id_token = id_token;
        self
    }

    /// Reads the text of a store. Returns `None` if the text is empty.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, BoxError> {
        let text = text.trim();
        if !text.starts_with('{') {
            let bare = || Self::new(SecretString::from(text), None);
            return Ok((!text.is_empty()).then(bare));
        }
        let json = secret_json::parse(text.as_bytes());
        let encoded: Option<EncodedLogin<'_>> = json.as_ref().and_then(json_reader::read);
        let encoded = encoded
            .ok_or("the saved login is neither a login of this crate nor a refresh token")?;
        let id_token = Some(encoded.id_token).filter(|token| !token.is_empty());
        Ok(Some(Self {
            refresh_token: SecretString::from(encoded.refresh_token),
            id_token: id_token.map(SecretString::from),
            access_token: RecordedToken::of(encoded),
        }))
    }

    pub(crate) fn refresh_token(&self) -> &SecretString {
        &self.refresh_token
    }

    pub(crate) fn into_refresh_token(self) -> SecretString {
        self.refresh_token
    }

    pub(crate) fn id_token(&self) -> Option<&SecretString> {
        self.id_token.as_ref()
    }

    pub(crate) fn access_token(&self) -> Option<&RecordedToken> {
        self.access_token.as_ref()
    }

    /// Returns the text of the record. If the text would be too long, leaves out the ID token and
    /// the extra fields, and then the access token.
    pub(crate) fn encode(&self) -> SecretString {
        let text = self.encode_with(true, true);
        let text = text.or_else(|| self.encode_with(true, false));
        let text = text.or_else(|| self.encode_with(false, false));
        text.unwrap_or_else(|| self.refresh_token.clone())
    }

    fn encode_with(&self, has_access_token: bool, has_details: bool) -> Option<SecretString> {
        let mut login = EncodedLogin {
            refresh_token: self.refresh_token.expose_secret(),
            ..EncodedLogin::default()
        };
        if has_details && let Some(id_token) = &self.id_token {
            login.id_token = id_token.expose_secret();
        }
        if has_access_token && let Some(token) = &self.access_token {
            login.access_token = token.secret.expose_secret();
            login.expires_in_ms = Some(millis(token.left));
            login.lifetime_ms = Some(millis(token.lifetime));
            login.refresh_in_ms = token.refresh_in.map(millis);
            login.scope.clone_from(&token.scope);
            login.missing_scope.clone_from(&token.missing_scope);
            login.request = Some(token.request.clone());
            login.jkt.clone_from(&token.jkt);
            if has_details {
                login.extra = token.extra.as_ref().map(Cow::Borrowed);
            }
        }
        encode(&login)
    }
}

/// Returns the JSON, or `None` if it is too long.
fn encode(login: &EncodedLogin<'_>) -> Option<SecretString> {
    let bytes = secret_json::encode(login).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    (text.len() <= LONGEST).then(|| SecretString::from(text))
}

impl RecordedToken {
    /// Describes a token whose request started at `requested_at`. `request` is the digest of the
    /// request's parameters. Returns `None` for a token without an expiry.
    pub(crate) fn new(
        token: &Token,
        requested_at: &RequestedAt,
        request: String,
        client: &Client,
    ) -> Option<Self> {
        let elapsed = requested_at.elapsed();
        let (left, lifetime) = match token.expiry() {
            Expiry::Never => return None,
            Expiry::In(lifetime) => (lifetime.saturating_sub(elapsed), lifetime),
            Expiry::At(end) => {
                let left = end.duration_since(SystemTime::now()).unwrap_or_default();
                (left, left + elapsed)
            }
        };
        let refresh_in = match token.refresh_hint() {
            Some(RefreshHint::After(after)) => after.checked_sub(elapsed),
            Some(RefreshHint::WithinLast(_)) | None => None,
        };
        Some(Self {
            secret: SecretString::from(token.secret()),
            left,
            lifetime,
            refresh_in,
            scope: token.scope().map(str::to_owned),
            missing_scope: token.missing_scope().map(str::to_owned),
            extra: token.extra_fields().cloned(),
            request,
            jkt: client.thumbprint().map(str::to_owned),
        })
    }

    fn of(encoded: EncodedLogin<'_>) -> Option<Self> {
        if encoded.access_token.is_empty() {
            return None;
        }
        Some(Self {
            secret: SecretString::from(encoded.access_token),
            left: Duration::from_millis(encoded.expires_in_ms?),
            lifetime: Duration::from_millis(encoded.lifetime_ms?),
            refresh_in: encoded.refresh_in_ms.map(Duration::from_millis),
            scope: encoded.scope,
            missing_scope: encoded.missing_scope,
            extra: encoded.extra.map(Cow::into_owned),
            request: encoded.request?,
            jkt: encoded.jkt,
        })
    }

    /// Returns the time until the expiry if the record was saved `age` ago. Returns `None` if the
    /// token has expired.
    pub(crate) fn left(&self, age: Duration) -> Option<Duration> {
        let left = self.left.checked_sub(age)?;
        (!left.is_zero()).then_some(left)
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Returns whether a source can use the token: `request` and `client` are those of the source.
    pub(crate) fn is_for(&self, request: &str, client: &Client) -> bool {
        self.request == request && self.jkt.as_deref() == client.thumbprint()
    }

    /// Makes the token. The record was saved `age` ago. The lifetime of the token counts from
    /// `since`.
    pub(crate) fn token(
        &self,
        client: &Client,
        age: Duration,
        since: &RequestedAt,
    ) -> Result<Token, Error> {
        let waited = since.waited();
        let left = self.left.saturating_sub(age);
        let token = client.endpoint.make_token(self.secret.clone())?;
        let token = token.expires_in(left + waited);
        let token = match self.refresh_in.and_then(|after| after.checked_sub(age)) {
            Some(after) => token.refresh_in(after + waited),
            None => token,
        };
        let token = match &self.scope {
            Some(scope) => token.with_scope(scope.as_str()),
            None => token,
        };
        let token = match &self.extra {
            Some(extra) => token.with_extra_fields(extra.clone()),
            None => token,
        };
        Ok(token.with_missing_scope(self.missing_scope.clone()))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
