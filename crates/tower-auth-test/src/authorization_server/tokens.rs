//! The access tokens that the server has issued. APIs ask here whether a token is valid.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tower_auth::cache::Clock;

use crate::lock::lock;

/// An access token that the server has issued.
///
/// # Example
///
/// ```
/// use std::time::SystemTime;
///
/// use tower_auth::TokenCache;
/// use tower_auth_test::AuthorizationServer;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
/// let server = AuthorizationServer::new();
/// let source = server.client_credentials()?.scope("read:notes").audience("notes");
/// TokenCache::new(source).token().await?;
///
/// let issued = &server.issued()[0];
/// assert_eq!(issued.secret(), "token-1");
/// assert_eq!(issued.grant_type(), "client_credentials");
/// assert_eq!(issued.client_id(), "my-service");
/// assert_eq!((issued.scope(), issued.audience()), ("read:notes", Some("notes")));
/// assert!(issued.expires_at() > SystemTime::now());
/// assert!(!issued.is_revoked());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct IssuedToken {
    pub(super) secret: String,
    pub(super) grant_type: String,
    pub(super) client_id: String,
    pub(super) scope: String,
    pub(super) audience: Option<String>,
    pub(super) expires_at: SystemTime,
    pub(super) is_revoked: bool,
    /// The login that it belongs to.
    pub(super) login: Option<usize>,
    /// The thumbprint of the key that it is bound to (RFC 9449 §6).
    #[cfg(feature = "dpop")]
    pub(super) key: Option<String>,
}

impl IssuedToken {
    /// Returns the token: `token-1` for the first one that the server issued.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Returns the grant that it was issued for, such as `client_credentials`.
    pub fn grant_type(&self) -> &str {
        &self.grant_type
    }

    /// Returns the client that it was issued to. Empty if the client sent no id.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Returns the granted scope. Empty if the client requested none.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Returns the `audience` of the request, or its `resource` (RFC 8707).
    pub fn audience(&self) -> Option<&str> {
        self.audience.as_deref()
    }

    /// Returns when it expires, by the server's clock.
    pub fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    /// Returns the thumbprint of the key that it is bound to (RFC 9449 §6).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::TokenCache;
    /// use tower_auth::oauth2::{ClientCredentials, DpopKey};
    /// use tower_auth_test::AuthorizationServer;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let server = AuthorizationServer::new();
    /// let key = DpopKey::generate()?;
    /// let client = server.client()?.dpop(key.clone());
    /// TokenCache::new(ClientCredentials::with_client(client)).token().await?;
    /// assert_eq!(server.issued()[0].key(), Some(key.thumbprint()));
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "dpop")]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns whether it was revoked.
    pub fn is_revoked(&self) -> bool {
        self.is_revoked
    }
}

/// What an API expects of a token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    pub(crate) audience: Option<String>,
    pub(crate) scope: Option<String>,
}

/// Why an API refuses a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// The request has no token.
    Missing,
    Unknown,
    Expired,
    Revoked,
    Audience,
    Scope,
    /// The sender didn't prove that it has the token's key.
    #[cfg(feature = "dpop")]
    Key(&'static str),
    #[cfg(feature = "dpop")]
    DpopNonce,
}

impl Invalid {
    /// Describes the reason for the response.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Missing => "there is no token",
            Self::Unknown => "the token is unknown",
            Self::Expired => "the token has expired",
            Self::Revoked => "the token was revoked",
            Self::Audience => "the token is for another audience",
            Self::Scope => "the token lacks a scope",
            #[cfg(feature = "dpop")]
            Self::Key(why) => why,
            #[cfg(feature = "dpop")]
            Self::DpopNonce => "the proof needs another nonce",
        }
    }
}

/// Returns the time that is later by `span`, or a century later if the calendar ends before.
pub(crate) fn later(time: SystemTime, span: Duration) -> SystemTime {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    time.checked_add(span).unwrap_or(time + CENTURY)
}

/// All tokens of one server, and its clock. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    clock: Clock,
    issued: Arc<Mutex<Issued>>,
}

#[derive(Debug, Default)]
struct Issued {
    in_order: Vec<IssuedToken>,
    by_secret: HashMap<String, usize>,
}

impl Tokens {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            issued: Arc::default(),
        }
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now().wall()
    }

    /// Issues the token that `fill` completes, and returns its secret.
    pub(crate) fn issue(&self, lifetime: Duration, fill: impl FnOnce(&mut IssuedToken)) -> String {
        let mut issued = lock(&self.issued);
        let number = issued.in_order.len();
        let secret = format!("token-{}", number + 1);
        let mut token = IssuedToken {
            secret: secret.clone(),
            grant_type: String::new(),
            client_id: String::new(),
            scope: String::new(),
            audience: None,
            expires_at: later(self.now(), lifetime),
            is_revoked: false,
            login: None,
            #[cfg(feature = "dpop")]
            key: None,
        };
        fill(&mut token);
        issued.in_order.push(token);
        issued.by_secret.insert(secret.clone(), number);
        secret
    }

    pub(crate) fn all(&self) -> Vec<IssuedToken> {
        lock(&self.issued).in_order.clone()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.issued).in_order.len()
    }

    /// Revokes the tokens that the filter selects.
    pub(crate) fn revoke(&self, filter: impl Fn(&IssuedToken) -> bool) {
        for token in &mut lock(&self.issued).in_order {
            token.is_revoked |= filter(token);
        }
    }

    /// Returns the token if it is valid now, and is what the API expects.
    pub(crate) fn check(&self, secret: &str, expected: &Expected) -> Result<IssuedToken, Invalid> {
        let issued = lock(&self.issued);
        let number = issued.by_secret.get(secret).ok_or(Invalid::Unknown)?;
        let token = &issued.in_order[*number];
        if token.is_revoked {
            return Err(Invalid::Revoked);
        }
        if token.expires_at <= self.now() {
            return Err(Invalid::Expired);
        }
        if expected.audience.is_some() && token.audience != expected.audience {
            return Err(Invalid::Audience);
        }
        let has = |scope: &String| token.scope.split(' ').any(|granted| granted == scope);
        if expected.scope.as_ref().is_some_and(|scope| !has(scope)) {
            return Err(Invalid::Scope);
        }
        Ok(token.clone())
    }
}
