//! Stores for a refresh token that must survive the end of the process.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use secrecy::SecretString;

use crate::error::BoxError;

/// Stores a refresh token, for example in a file, a keychain or a database row.
///
/// A server that rotates refresh tokens (RFC 6749 §6, RFC 9700 §4.14.2) revokes the old token when
/// it issues the next token. The source therefore calls [`save`](Self::save) *before* it reads the
/// rest of the response. `save` must return only when the refresh token would survive a crash.
///
/// After a crash during `save`, the store contains the old token. Servers that rotate tokens accept
/// the old token for a while longer, because responses can also get lost.
///
/// # Example
///
/// ```
/// use std::sync::Mutex;
///
/// use secrecy::SecretString;
/// use tower_auth::BoxError;
/// use tower_auth::oauth2::RefreshTokenStore;
///
/// struct Keychain(Mutex<Option<SecretString>>);
///
/// impl RefreshTokenStore for Keychain {
///     async fn load(&self) -> Result<Option<SecretString>, BoxError> {
///         Ok(self.0.lock().map_err(|_| "poisoned")?.clone())
///     }
///
///     async fn save(&self, token: SecretString) -> Result<(), BoxError> {
///         *self.0.lock().map_err(|_| "poisoned")? = Some(token);
///         Ok(())
///     }
/// }
/// ```
pub trait RefreshTokenStore: Send + Sync + 'static {
    /// Loads the last saved token. Returns `None` if the store is empty; a user must then log in.
    ///
    /// # Errors
    ///
    /// Returns an error if the token can't be read. The next fetch tries again.
    ///
    /// # Cancel safety
    ///
    /// The [fetch timeout](crate::cache::TokenCacheBuilder::fetch_timeout) may drop the future of
    /// `load` or `save`. After a dropped `save`, the next fetch calls `save` again.
    fn load(&self) -> impl Future<Output = Result<Option<SecretString>, BoxError>> + Send;

    /// Replaces the saved token with `token`, completely or not at all.
    ///
    /// # Errors
    ///
    /// Returns an error if the token can't be written. In this case, the new access token isn't
    /// used, and the next fetch first saves the refresh token.
    fn save(&self, token: SecretString) -> impl Future<Output = Result<(), BoxError>> + Send;
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A [`RefreshTokenStore`] that can be a trait object.
pub(crate) trait DynRefreshTokenStore: Send + Sync + 'static {
    fn load(&self) -> Boxed<'_, Option<SecretString>>;
    fn save(&self, token: SecretString) -> Boxed<'_, ()>;
}

impl<T> DynRefreshTokenStore for T
where
    T: RefreshTokenStore,
{
    fn load(&self) -> Boxed<'_, Option<SecretString>> {
        Box::pin(RefreshTokenStore::load(self))
    }

    fn save(&self, token: SecretString) -> Boxed<'_, ()> {
        Box::pin(RefreshTokenStore::save(self, token))
    }
}

impl<T> RefreshTokenStore for Arc<T>
where
    T: RefreshTokenStore,
{
    fn load(&self) -> impl Future<Output = Result<Option<SecretString>, BoxError>> + Send {
        T::load(self)
    }

    fn save(&self, token: SecretString) -> impl Future<Output = Result<(), BoxError>> + Send {
        T::save(self, token)
    }
}

/// A store that keeps the token in memory until the process ends.
pub(crate) struct InMemory {
    token: Mutex<SecretString>,
}

impl InMemory {
    pub(crate) fn new(token: SecretString) -> Self {
        Self {
            token: Mutex::new(token),
        }
    }
}

impl RefreshTokenStore for InMemory {
    async fn load(&self) -> Result<Option<SecretString>, BoxError> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Some(token.clone()))
    }

    async fn save(&self, token: SecretString) -> Result<(), BoxError> {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(())
    }
}
