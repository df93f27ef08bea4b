//! API keys: secrets that a person issues. An API key is sent unchanged.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::HeaderName;
use secrecy::{ExposeSecret, SecretString};

use super::secret_source::{REREAD_EVERY, SecretSource};
use super::token_source::{Reason, TokenSource};
use crate::error::{Error, Kind};
use crate::token::issued_token::Token;
use crate::token::place::Place;

/// An API key, sent in a header or in the query.
///
/// | setting | default |
/// | --- | --- |
/// | place | the header `X-API-Key`; [`header`](Self::header), [`query`](Self::query) |
/// | [`prefix`](Self::prefix) | none |
/// | [`reread_every`](Self::reread_every) | 60 s, unless the key is a fixed value |
///
/// A key from the environment, a file or a closure is read again at an interval and after a
/// refusal. So no request fails when the key is replaced.
///
/// # Example
///
/// ```
/// use tower_auth::{ApiKey, AuthLayer, SecretSource};
///
/// let in_a_header = ApiKey::new(SecretSource::file("/run/secrets/api-key"));
/// let in_the_query = ApiKey::new(SecretSource::env("API_KEY")).query("api_key")?;
/// let layer = AuthLayer::new(in_a_header).only_to(["https://api.example.com"])?;
/// # Ok::<(), tower_auth::Error>(())
/// ```
pub struct ApiKey {
    keys: Keys,
    place: Place,
    prefix: String,
    reread_every: Duration,
}

enum Keys {
    Read(SecretSource),
    Fixed(SecretString),
    Rotating(Arc<Mutex<KeyPair>>),
}

/// The current key, and the key to use after a refusal.
struct KeyPair {
    used: SecretString,
    offered: Option<SecretString>,
    /// Whether the next fetch swaps the keys, whatever its [`Reason`].
    is_switching: bool,
}

/// Accepts new keys at run time. [`ApiKey::rotating`] returns this handle together with the key.
#[derive(Clone)]
#[doc(alias = "rotate")]
pub struct ApiKeyRotation {
    keys: Arc<Mutex<KeyPair>>,
}

const HEADER: HeaderName = HeaderName::from_static("x-api-key");

impl ApiKey {
    /// Makes a key that is sent in the header `X-API-Key`.
    pub fn new(key: impl Into<SecretSource>) -> Self {
        let key = key.into();
        Self::of(match key.value() {
            Some(value) => Keys::Fixed(value.clone()),
            None => Keys::Read(key),
        })
    }

    /// Makes a key and the [`ApiKeyRotation`] that replaces it at run time.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{ApiKey, AuthLayer};
    ///
    /// let (key, rotation) = ApiKey::rotating("the-old-key");
    /// let layer = AuthLayer::new(key).only_to(["https://api.example.com"])?;
    /// // Later, from a signal handler or an admin endpoint:
    /// rotation.offer("the-new-key");
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    ///
    /// The example `api_key_rotation` shows a rotation in which the program creates and deletes the
    /// keys through the API.
    #[doc(alias = "rotate")]
    pub fn rotating(key: impl Into<SecretString>) -> (Self, ApiKeyRotation) {
        let keys = Arc::new(Mutex::new(KeyPair {
            used: key.into(),
            offered: None,
            is_switching: false,
        }));
        let rotation = ApiKeyRotation {
            keys: Arc::clone(&keys),
        };
        (Self::of(Keys::Rotating(keys)), rotation)
    }

    fn of(keys: Keys) -> Self {
        Self {
            keys,
            place: Place::Header(HEADER),
            prefix: String::new(),
            reread_every: REREAD_EVERY,
        }
    }

    /// Puts the key in this header.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is not a valid header name (RFC 9110 §5.1).
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::ApiKey;
    ///
    /// let key = ApiKey::new("my-key").header("X-Functions-Key")?;
    /// assert!(ApiKey::new("my-key").header("not a name").unwrap_err().is_config());
    /// # Ok::<(), tower_auth::Error>(())
    /// ```
    pub fn header(mut self, name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        let header = HeaderName::try_from(name).map_err(|error| {
            let message = format!("`{}` is not a valid header name", name.escape_debug());
            Error::new(Kind::Config, message).with_source(error)
        })?;
        self.place = Place::Header(header);
        Ok(self)
    }

    /// Puts the key in the query, percent-encoded, after the request's own parameters. Use this
    /// place only for APIs that require it. URLs end up in logs and histories. URLs also go into
    /// the `Referer` of a redirected request, unless the client omits that header. The layer removes
    /// the key from errors of the client and from the URL of a `reqwest::Response`, even if a
    /// redirect repeats the key in another part of the URL.
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) if the name is empty.
    pub fn query(mut self, name: impl Into<Arc<str>>) -> Result<Self, Error> {
        let name = name.into();
        if name.is_empty() {
            let message = "the query parameter for the API key has no name";
            return Err(Error::new(Kind::Config, message));
        }
        self.place = Place::Query(name);
        Ok(self)
    }

    /// Puts this text in front of the key, as in `Authorization: ApiKey <key>`. Default: nothing.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets how often a key is read again from its file, variable or closure. The first request
    /// after one to two intervals starts a read in the background. Has no effect on a fixed value.
    /// Default: 60 s.
    #[must_use]
    pub fn reread_every(mut self, interval: Duration) -> Self {
        self.reread_every = interval;
        self
    }

    fn token(&self, key: &SecretString) -> Result<Token, Error> {
        // Allocates the exact capacity. A `String` that grows would leave a copy of the key in
        // memory.
        let mut whole = String::with_capacity(self.prefix.len() + key.expose_secret().len());
        whole.push_str(&self.prefix);
        whole.push_str(key.expose_secret());
        let key = SecretString::from(whole);
        match &self.place {
            Place::Header(name) => Token::header(name.clone(), key),
            Place::Query(name) => Token::query(Arc::clone(name), key),
            Place::Cookie => unreachable!("no setter chooses the cookie"),
        }
    }
}

impl TokenSource for ApiKey {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        match &self.keys {
            Keys::Fixed(key) => self.token(key),
            Keys::Read(source) => {
                let token = self.token(&source.read().await?)?;
                // The cache refreshes in the second half of a lifetime. So a lifetime of two
                // intervals makes the cache refresh after one interval.
                Ok(token.expires_in(self.reread_every.saturating_mul(2)))
            }
            Keys::Rotating(keys) => {
                let used = lock(keys).next(reason);
                self.token(&used)
            }
        }
    }

    fn place(&self) -> Place {
        self.place.clone()
    }
}

impl KeyPair {
    /// Returns the key to use. After a refusal, this method swaps the two keys. If the server
    /// doesn't accept the new key yet, the next refusal brings back the old key.
    fn next(&mut self, reason: Reason) -> SecretString {
        // Swaps only once if both conditions hold. A second swap would bring back the refused key.
        if std::mem::take(&mut self.is_switching) || reason == Reason::Refused {
            self.swap();
        }
        self.used.clone()
    }

    fn swap(&mut self) {
        if let Some(offered) = &mut self.offered {
            std::mem::swap(&mut self.used, offered);
        }
    }
}

impl ApiKeyRotation {
    /// Offers a new key. It replaces a key that was offered earlier. The key in use stays in use
    /// until a server refuses it. Then the layer sends the refused request again with the new key. If the
    /// server refuses the new key too, the previous key is used again. So no request fails while the
    /// server accepts one of the two keys.
    ///
    /// # Example
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_auth::{ApiKey, AuthLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::BoxError> {
    /// // An API whose operator has already replaced the key.
    /// let api = service_fn(|request: Request<String>| async move {
    ///     let is_new = request.headers()["x-api-key"] == "the-new-key";
    ///     Response::builder().status(if is_new { 200 } else { 401 }).body(())
    /// });
    /// let (key, rotation) = ApiKey::rotating("the-old-key");
    /// let layer = AuthLayer::new(key).only_to(["https://api.example.com"])?;
    /// let client = ServiceBuilder::new().layer(layer).service(api);
    ///
    /// rotation.offer("the-new-key");
    /// let request = Request::get("https://api.example.com/v1").body(String::new())?;
    /// assert_eq!(client.send(request).await?.status(), 200);
    /// # Ok(()) }
    /// ```
    #[doc(alias = "rotate")]
    pub fn offer(&self, key: impl Into<SecretString>) {
        let mut keys = lock(&self.keys);
        keys.offered = Some(key.into());
        keys.is_switching = false;
    }

    /// Uses the offered key from the next fetch on, even if no server has refused the old key.
    /// [`TokenCache::refresh_now`](crate::TokenCache::refresh_now) starts a fetch. Does nothing if
    /// no key is offered.
    ///
    /// If a server refuses the new key after the switch, the old key is used again.
    ///
    /// Call this method before you delete the old key at the API. Otherwise, the API refuses
    /// running requests, and requests that the layer can't replay fail.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{ApiKey, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let (key, rotation) = ApiKey::rotating("the-old-key");
    /// let cache = TokenCache::new(key);
    /// assert_eq!(cache.token().await?.secret(), "the-old-key");
    ///
    /// rotation.offer("the-new-key");
    /// rotation.switch();
    /// assert_eq!(cache.refresh_now().await?.secret(), "the-new-key");
    /// // Delete the old key at the API, after a time in which both keys are valid.
    /// rotation.finish();
    /// # Ok(()) }
    /// ```
    #[doc(alias = "rotate")]
    pub fn switch(&self) {
        lock(&self.keys).is_switching = true;
    }

    /// Ends the rotation: forgets the key that isn't in use. After [`switch`](Self::switch), this
    /// is the old key.
    ///
    /// Call this method when the API has deleted the old key. Otherwise, a later refusal brings
    /// back the deleted key, and the API refuses all requests until the next fetch.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::{ApiKey, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), tower_auth::Error> {
    /// let (key, rotation) = ApiKey::rotating("the-old-key");
    /// let cache = TokenCache::new(key);
    /// rotation.offer("the-new-key");
    /// rotation.switch();
    /// cache.refresh_now().await?;
    ///
    /// // The API has deleted the old key. So a refusal doesn't bring it back.
    /// rotation.finish();
    /// cache.reject(&cache.token().await?);
    /// assert_eq!(cache.token().await?.secret(), "the-new-key");
    /// # Ok(()) }
    /// ```
    pub fn finish(&self) {
        let mut keys = lock(&self.keys);
        if std::mem::take(&mut keys.is_switching) {
            keys.swap();
        }
        keys.offered = None;
    }
}

fn lock(keys: &Mutex<KeyPair>) -> MutexGuard<'_, KeyPair> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("place", &self.place)
            .field("prefix", &self.prefix)
            .field("key", &"[redacted]")
            .finish()
    }
}

impl fmt::Debug for ApiKeyRotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyRotation").finish_non_exhaustive()
    }
}
