//! An installation of a GitHub App, whose tokens act for the app in one account.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::app_client::AppClient;
use super::rate_limit;
use crate::error::{Error, Kind};
use crate::http_client::body_value::BodyValue;
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::token_response::WantedToken;
use crate::origin::Origin;
use crate::platform::expiry_field;
#[cfg(feature = "fleet")]
use crate::source::store_key::StoreKey;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::extra_fields::ExtraFields;
use crate::token::issued_token::Token;

/// Fetches installation access tokens of a GitHub [`App`](super::App). Each token is valid for one hour.
///
/// | setting | default |
/// | --- | --- |
/// | [`repository`](Self::repository), [`repository_id`](Self::repository_id) | all repositories of the installation |
/// | [`permission`](Self::permission) | all permissions of the installation |
///
/// - A token goes to the origin of the app's [`api_url`](super::App::api_url). To upload files to a
///   release, add `https://uploads.github.com` with [`only_to`](crate::AuthLayer::only_to).
/// - [`Token::extra`] has the fields `permissions` and `repository_selection` of the response.
/// - An exceeded rate limit of GitHub is a [transient](Error::is_transient) error with a
///   [wait](Error::retry_after).
/// - For up to 5 s, some of GitHub's servers may refuse a new token. So a background refresh waits
///   for 5 s before it returns the new token. The source also waits for 5 s if a server refuses a
///   token that is less than 5 s old.
///
/// Sources: GitHub, "Create an installation access token for an app" (REST API version 2022-11-28);
/// `@octokit/auth-app` 8.3.1, which repeats requests in the first 5 s of a token.
///
/// # Example
///
/// ```
/// use tower_auth::TokenCache;
/// use tower_auth::platform::github::App;
///
/// # async fn example(app: App) -> Result<(), tower_auth::Error> {
/// let source = app
///     .installation(12_345_678)
///     .repository("hello-world")
///     .permission("contents", "read")
///     .permission("issues", "write");
/// let token = TokenCache::new(source).token().await?;
/// let granted = token.extra("permissions");
/// # Ok(()) }
/// ```
pub struct Installation {
    app: AppClient,
    place: InstallationPlace,
    repositories: Vec<String>,
    repository_ids: Vec<u64>,
    permissions: BTreeMap<String, String>,
    /// When GitHub issued the last token.
    issued_at: Mutex<Option<Instant>>,
}

/// Where the id of the installation comes from.
enum InstallationPlace {
    Id(u64),
    /// A request to this path returns the installation.
    Path {
        path: String,
        /// The id, or zero if it isn't known yet.
        found: AtomicU64,
    },
}

/// The lifetime of a token whose response has no `expires_at`.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// How long some of GitHub's servers may refuse a new token.
const REPLICATION_LAG: Duration = Duration::from_secs(5);

/// The fields of the response that the token keeps. `repositories` isn't one of them, because this
/// field may have several megabytes.
const EXTRA: [&str; 2] = ["permissions", "repository_selection"];

impl Installation {
    pub(super) fn with_id(app: AppClient, id: u64) -> Self {
        Self::new(app, InstallationPlace::Id(id))
    }

    /// Creates a source for the installation that a request to this path returns.
    pub(super) fn at(app: AppClient, path: String) -> Self {
        let found = AtomicU64::default();
        Self::new(app, InstallationPlace::Path { path, found })
    }

    fn new(app: AppClient, place: InstallationPlace) -> Self {
        Self {
            app,
            place,
            repositories: Vec::new(),
            repository_ids: Vec::new(),
            permissions: BTreeMap::new(),
            issued_at: Mutex::default(),
        }
    }

    /// Adds a repository that the token may access, by its name without the owner. Call this method
    /// again to add more repositories. Default: all repositories of the installation.
    #[must_use]
    pub fn repository(mut self, name: impl Into<String>) -> Self {
        self.repositories.push(name.into());
        self
    }

    /// Adds a repository that the token may access, by its id.
    #[must_use]
    pub fn repository_id(mut self, id: u64) -> Self {
        self.repository_ids.push(id);
        self
    }

    /// Adds a permission of the token, such as `contents` with the access `read`. The installation
    /// must have this permission. Default: all permissions of the installation.
    #[must_use]
    pub fn permission(mut self, name: impl Into<String>, access: impl Into<String>) -> Self {
        self.permissions.insert(name.into(), access.into());
        self
    }

    /// Returns the body of the request.
    fn wanted(&self) -> Value {
        let mut body = json!({});
        if !self.repositories.is_empty() {
            body["repositories"] = json!(self.repositories);
        }
        if !self.repository_ids.is_empty() {
            body["repository_ids"] = json!(self.repository_ids);
        }
        if !self.permissions.is_empty() {
            body["permissions"] = json!(self.permissions);
        }
        body
    }

    /// Returns the id of the installation. Looks up the id if it isn't known yet.
    async fn id(&self) -> Result<u64, Error> {
        let (path, found) = match &self.place {
            InstallationPlace::Id(id) => return Ok(*id),
            InstallationPlace::Path { path, found } => (path, found),
        };
        match found.load(Ordering::Relaxed) {
            0 => {}
            id => return Ok(id),
        }
        let (response, redactor) = self.app.send(path, None).await?;
        let refused = "GitHub found no installation of the app; check the name, and install the app \
                       there";
        if let Some(error) = response.refusal(redactor, refused) {
            return Err(explained(error, &response, refused));
        }
        let fields = response.fields().unwrap_or_default();
        let id = match *fields.body.at("/id") {
            [BodyValue::Number(id)] => id.as_u64(),
            _ => None,
        };
        let missing = || {
            Error::new(
                Kind::Reply,
                "GitHub's reply has no `id` of the installation",
            )
        };
        let id = id.ok_or_else(missing)?;
        found.store(id, Ordering::Relaxed);
        Ok(id)
    }

    async fn issue(&self) -> Result<Token, Error> {
        let path = format!("/app/installations/{}/access_tokens", self.id().await?);
        let (response, redactor) = self.app.send(&path, Some(&self.wanted())).await?;
        let issued = response.tokens(WantedToken::BEARER, redactor).rest;
        let issued = issued.map_err(|error| {
            let refused = "GitHub doesn't know this installation; check its id, and whether the app \
                           is still installed there";
            if error.status().is_some_and(|status| status.as_u16() == 404) {
                self.forget_id();
            }
            explained(error, &response, refused)
        })?;
        let token = issued.into_token("", LIFETIME, Token::bearer)?;
        let mut extra = ExtraFields::default();
        for name in EXTRA {
            if let Some(value) = token.extra(name) {
                extra.insert(name.to_owned(), value.clone().into());
            }
        }
        let token = token.with_extra_fields(extra);
        Ok(match expiry_field::read(&response, "/expires_at")? {
            Some(expiry) => token.with_expiry(expiry),
            None => token,
        })
    }

    /// Returns when GitHub issued the token before the current one. Saves the current time as the
    /// time of the current token.
    fn last_issued_at(&self) -> Option<Instant> {
        let mut issued_at = self
            .issued_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        issued_at.replace(Instant::now())
    }

    /// Makes the next fetch look up the id again, because a new installation has another id.
    fn forget_id(&self) {
        if let InstallationPlace::Path { found, .. } = &self.place {
            found.store(0, Ordering::Relaxed);
        }
    }
}

/// Makes the error of a refusal say what to do. `not_found` is the message for the status 404.
fn explained(error: Error, response: &EndpointResponse, not_found: &'static str) -> Error {
    let said = error.to_string();
    let wait = rate_limit::wait(response.status, &response.headers, response.started, &said);
    if let Some(wait) = wait {
        let message = "GitHub's rate limit for the app is exceeded";
        let error = error.with_message(message).passing();
        return error.with_retry_after(wait);
    }
    match response.status.as_u16() {
        401 => error.with_message(
            "GitHub refused the JWT of the app; check the app's client id, its private key and \
             this machine's clock",
        ),
        404 => error.with_message(not_found),
        422 => error.with_message(
            "GitHub refused the repositories or the permissions; request only what the \
             installation has",
        ),
        _ => error,
    }
}

impl TokenSource for Installation {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let token = self.app.http.within(self.issue()).await?;
        let last = self.last_issued_at();
        let waits = match reason {
            // The current token stays in use during the wait.
            Reason::Stale => true,
            Reason::Refused => last.is_some_and(|last| last.elapsed() < REPLICATION_LAG),
            Reason::First | Reason::Expired | Reason::Forced => false,
        };
        if waits {
            sleep(REPLICATION_LAG).await;
        }
        Ok(token)
    }

    #[cfg(feature = "fleet")]
    fn store_key(&self) -> Option<StoreKey> {
        let key = StoreKey::new("github installation")
            .with("api", &self.app.api_url)
            .with("app", &self.app.id);
        let names = self.repositories.iter();
        let key = names.fold(key, |key, name| key.with("repository", name));
        let ids = self.repository_ids.iter();
        let key = ids.fold(key, |key, id| key.with("repository_id", id.to_string()));
        let permissions = self.permissions.iter();
        let key = permissions.fold(key, |key, (name, access)| {
            key.with(format!("permission {name}"), access)
        });
        Some(match &self.place {
            InstallationPlace::Id(id) => key.with("id", id.to_string()),
            InstallationPlace::Path { path, .. } => key.with("path", path),
        })
    }

    fn origins(&self) -> Vec<Origin> {
        Origin::of_secure_url(&self.app.api_url)
            .into_iter()
            .collect()
    }
}

impl fmt::Debug for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Installation");
        debug.field("app", &self.app);
        match &self.place {
            InstallationPlace::Id(id) => debug.field("id", id),
            InstallationPlace::Path { path, .. } => debug.field("path", path),
        };
        debug
            .field("wanted", &self.wanted())
            .finish_non_exhaustive()
    }
}
