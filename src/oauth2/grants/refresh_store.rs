//! Stores for a login that must survive the end of the process.

use std::any::Any;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::login_record::LoginRecord;
use crate::error::BoxError;

/// Stores a login: its refresh token and its last access token. The store may be a file, a keychain
/// or a database row.
///
/// A login is one text, which the store doesn't interpret. [`RefreshToken`] writes a small JSON
/// object. A text that is only a refresh token is a login too, for example a token that a person
/// pasted.
///
/// [`RefreshToken`]: crate::oauth2::RefreshToken
///
/// # One process or many
///
/// With only [`load`](Self::load) and [`save`](Self::save), **one** process may use the store. A
/// server that rotates refresh tokens (RFC 6749 §6) accepts each token once. Two processes would
/// send the same token, and many servers then end the whole login (RFC 9700 §4.14.2).
///
/// For several processes, the store also implements [`lock`](Self::lock), [`confirm`](Self::confirm)
/// and [`unlock`](Self::unlock). A process with the lock loads the login, refreshes it and saves it.
/// The next process with the lock finds the new access token, and refreshes nothing. Two stores of
/// this crate have such a lock: `RefreshTokenFile` (feature `file`), and `SharedLogin` over a fleet's
/// store (feature `fleet`).
///
/// # What a crash can lose
///
/// The server revokes the old refresh token when it sends a new refresh token. The source saves the
/// new token before it returns anything. `save` returns only when the text would survive a crash.
/// But the process may end between the server's answer and the end of `save`. No client can close
/// this gap. The [guide](crate::docs::choosing#a-refresh-token) says how long the gap is.
///
/// After such a crash, the store contains the old refresh token, and the next fetch sends this
/// token again. Some servers still accept the token for some seconds. Other servers end the login,
/// and a person has to log in again.
///
/// # Example
///
/// ```
/// use std::sync::Mutex;
///
/// use secrecy::SecretString;
/// use tower_auth::BoxError;
/// use tower_auth::oauth2::{LoginLock, RefreshTokenStore, SavedLogin};
///
/// struct Keychain(Mutex<Option<SecretString>>);
///
/// impl RefreshTokenStore for Keychain {
///     async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
///         let text = self.0.lock().map_err(|_| "poisoned")?.clone();
///         Ok(text.map(SavedLogin::new))
///     }
///
///     async fn save(&self, login: SecretString, _: &LoginLock) -> Result<(), BoxError> {
///         *self.0.lock().map_err(|_| "poisoned")? = Some(login);
///         Ok(())
///     }
/// }
/// ```
///
/// A store for several processes. The database numbers the locks, and rejects a process whose
/// number isn't the latest:
///
/// ```
/// use std::time::Duration;
///
/// use secrecy::SecretString;
/// use tower_auth::BoxError;
/// use tower_auth::oauth2::{LoginLock, RefreshTokenStore, SavedLogin};
/// # struct Table;
/// # impl Table {
/// #     async fn read(&self) -> Result<Option<(String, Duration)>, BoxError> { Ok(None) }
/// #     async fn write(&self, _: u64, _: SecretString) -> Result<(), BoxError> { Ok(()) }
/// #     async fn lock(&self, _: Duration) -> Result<Option<u64>, BoxError> { Ok(None) }
/// #     async fn extend(&self, _: u64) -> Result<bool, BoxError> { Ok(false) }
/// #     async fn unlock(&self, _: u64) -> Result<(), BoxError> { Ok(()) }
/// #     async fn clear(&self, _: u64) -> Result<(), BoxError> { Ok(()) }
/// # }
///
/// struct Row {
///     table: Table,
/// }
///
/// /// Returns the number of a lock that `Row::lock` made.
/// fn number(lock: &LoginLock) -> Result<u64, BoxError> {
///     lock.guard().copied().ok_or_else(|| "the lock has no number".into())
/// }
///
/// impl RefreshTokenStore for Row {
///     async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
///         let row = self.table.read().await?;
///         Ok(row.map(|(text, age)| SavedLogin::new(text).saved_ago(age)))
///     }
///
///     async fn save(&self, login: SecretString, lock: &LoginLock) -> Result<(), BoxError> {
///         self.table.write(number(lock)?, login).await
///     }
///
///     async fn lock(&self, time: Duration) -> Result<Option<LoginLock>, BoxError> {
///         let number: Option<u64> = self.table.lock(time).await?;
///         Ok(number.map(LoginLock::holding))
///     }
///
///     async fn confirm(&self, lock: &LoginLock) -> Result<bool, BoxError> {
///         self.table.extend(number(lock)?).await
///     }
///
///     async fn unlock(&self, lock: LoginLock) -> Result<(), BoxError> {
///         self.table.unlock(number(&lock)?).await
///     }
///
///     async fn delete(&self, lock: &LoginLock) -> Result<(), BoxError> {
///         self.table.clear(number(lock)?).await
///     }
/// }
/// ```
pub trait RefreshTokenStore: Send + Sync + 'static {
    /// Loads the last saved login. Returns `None` if the store is empty; a user must then log in.
    ///
    /// The source also calls this method without the lock.
    ///
    /// # Errors
    ///
    /// Returns an error if the login can't be read. The next fetch tries again.
    ///
    /// # Cancel safety
    ///
    /// The [fetch timeout](crate::cache::TokenCacheBuilder::fetch_timeout) may drop the future of
    /// any method of this trait. After a dropped `save`, the next fetch calls `save` again.
    fn load(&self) -> impl Future<Output = Result<Option<SavedLogin>, BoxError>> + Send;

    /// Replaces the saved login with `login`, completely or not at all. If another process has
    /// since taken the lock and saved a login, this method must not replace that login.
    ///
    /// # Errors
    ///
    /// Returns an error if the login can't be written, or if another process has saved a newer
    /// login. If the refresh token is new, the access token isn't used, and the next fetch first
    /// saves the refresh token.
    fn save(
        &self,
        login: SecretString,
        lock: &LoginLock,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Takes the lock, if no other process has it. Returns `None` if another process has the lock;
    /// the source then tries again. `time` is the longest time that this process needs the lock after
    /// each [`confirm`](Self::confirm): for a token request and the save. A lock that doesn't end with
    /// its process must end by itself after this time.
    ///
    /// Default: no lock. Then only one process may use the store.
    ///
    /// # Errors
    ///
    /// Returns an error if the store can't decide. The fetch then fails, and sends nothing.
    fn lock(
        &self,
        time: Duration,
    ) -> impl Future<Output = Result<Option<LoginLock>, BoxError>> + Send {
        let _ = time;
        ready(Ok(Some(LoginLock::none())))
    }

    /// Returns whether this process still has the lock, and extends the lock to the whole time given
    /// to [`lock`](Self::lock). The source calls this method right before it sends the refresh token.
    ///
    /// Default: `true`.
    ///
    /// # Errors
    ///
    /// Returns an error if the store can't decide. The fetch then fails, and sends nothing.
    fn confirm(&self, lock: &LoginLock) -> impl Future<Output = Result<bool, BoxError>> + Send {
        let _ = lock;
        ready(Ok(true))
    }

    /// Releases the lock. If a fetch is cancelled, the lock is only dropped. So a lock should also be
    /// released when its [guard](LoginLock::holding) is dropped, or end by itself.
    ///
    /// Default: drops the lock.
    ///
    /// # Errors
    ///
    /// Returns an error if the lock can't be released. The fetch doesn't fail.
    fn unlock(&self, lock: LoginLock) -> impl Future<Output = Result<(), BoxError>> + Send {
        drop(lock);
        ready(Ok(()))
    }

    /// Deletes the login after a [logout](crate::oauth2::RefreshToken::log_out_on_close).
    ///
    /// Default: keeps the login, whose refresh token the server no longer accepts.
    ///
    /// # Errors
    ///
    /// Returns an error if the login can't be deleted.
    fn delete(&self, lock: &LoginLock) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = lock;
        ready(Ok(()))
    }
}

/// A login that a [`RefreshTokenStore`] loaded.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use secrecy::ExposeSecret;
/// use tower_auth::oauth2::SavedLogin;
///
/// let login = SavedLogin::new("a-refresh-token").saved_ago(Duration::from_secs(60));
/// assert_eq!(login.text().expose_secret(), "a-refresh-token");
/// assert_eq!(login.age(), Some(Duration::from_secs(60)));
/// ```
#[derive(Clone)]
pub struct SavedLogin {
    text: SecretString,
    age: Option<Duration>,
}

impl SavedLogin {
    /// Makes a login from the saved text, without an age.
    pub fn new(text: impl Into<SecretString>) -> Self {
        let text = text.into();
        Self { text, age: None }
    }

    /// Sets the time since the login was saved, by the store's own clock. With this time, a process
    /// can use an access token that another process saved. Without it, the process refreshes the
    /// login first.
    ///
    /// Don't compare the clocks of two processes, because these clocks may differ. A database can
    /// compute the time in its query: `now() - saved_at`.
    #[must_use]
    pub fn saved_ago(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Adds the time that the answer of the store took.
    pub(crate) fn aged_by(mut self, time: Duration) -> Self {
        self.age = self.age.map(|age| age.saturating_add(time));
        self
    }

    /// Returns the saved text.
    pub fn text(&self) -> &SecretString {
        &self.text
    }

    /// Returns the time since the login was saved, if the store knows this time.
    pub fn age(&self) -> Option<Duration> {
        self.age
    }
}

/// Hides the text.
impl fmt::Debug for SavedLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedLogin")
            .field("age", &self.age)
            .finish_non_exhaustive()
    }
}

/// The lock of a login, from [`RefreshTokenStore::lock`].
///
/// # Example
///
/// ```
/// use tower_auth::oauth2::LoginLock;
///
/// /// The number of a lease in a database.
/// #[derive(Debug, PartialEq)]
/// struct Lease(u64);
///
/// let lock = LoginLock::holding(Lease(7));
/// assert_eq!(lock.guard(), Some(&Lease(7)));
/// assert_eq!(lock.into_guard(), Some(Lease(7)));
/// assert_eq!(LoginLock::none().guard::<Lease>(), None);
/// ```
pub struct LoginLock {
    guard: Option<Box<dyn Any + Send + Sync>>,
}

impl LoginLock {
    /// Makes a lock that keeps a value while the lock exists. The value may be a locked file or the
    /// number of a lease, for example.
    pub fn holding(guard: impl Any + Send + Sync) -> Self {
        let guard: Box<dyn Any + Send + Sync> = Box::new(guard);
        Self { guard: Some(guard) }
    }

    /// Makes the value that a store without a lock returns.
    pub fn none() -> Self {
        Self { guard: None }
    }

    /// Returns the value that the lock keeps, if the value has this type.
    pub fn guard<T>(&self) -> Option<&T>
    where
        T: Any,
    {
        self.guard.as_deref()?.downcast_ref()
    }

    /// Returns the value that the lock keeps, and ends the lock. Returns `None` if the value has
    /// another type.
    pub fn into_guard<T>(self) -> Option<T>
    where
        T: Any,
    {
        let guard = self.guard?.downcast::<T>();
        guard.ok().map(|guard| *guard)
    }

    /// Returns whether the store has no lock.
    pub(crate) fn is_none(&self) -> bool {
        self.guard.is_none()
    }
}

impl fmt::Debug for LoginLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginLock")
            .field("holds", &self.guard.is_some())
            .finish()
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A [`RefreshTokenStore`] that can be a trait object.
pub(crate) trait DynRefreshTokenStore: Send + Sync + 'static {
    fn load(&self) -> Boxed<'_, Option<SavedLogin>>;
    fn save<'a>(&'a self, login: SecretString, lock: &'a LoginLock) -> Boxed<'a, ()>;
    fn lock(&self, time: Duration) -> Boxed<'_, Option<LoginLock>>;
    fn confirm<'a>(&'a self, lock: &'a LoginLock) -> Boxed<'a, bool>;
    fn unlock(&self, lock: LoginLock) -> Boxed<'_, ()>;
    fn delete<'a>(&'a self, lock: &'a LoginLock) -> Boxed<'a, ()>;
}

impl<T> DynRefreshTokenStore for T
where
    T: RefreshTokenStore,
{
    fn load(&self) -> Boxed<'_, Option<SavedLogin>> {
        Box::pin(RefreshTokenStore::load(self))
    }

    fn save<'a>(&'a self, login: SecretString, lock: &'a LoginLock) -> Boxed<'a, ()> {
        Box::pin(RefreshTokenStore::save(self, login, lock))
    }

    fn lock(&self, time: Duration) -> Boxed<'_, Option<LoginLock>> {
        Box::pin(RefreshTokenStore::lock(self, time))
    }

    fn confirm<'a>(&'a self, lock: &'a LoginLock) -> Boxed<'a, bool> {
        Box::pin(RefreshTokenStore::confirm(self, lock))
    }

    fn unlock(&self, lock: LoginLock) -> Boxed<'_, ()> {
        Box::pin(RefreshTokenStore::unlock(self, lock))
    }

    fn delete<'a>(&'a self, lock: &'a LoginLock) -> Boxed<'a, ()> {
        Box::pin(RefreshTokenStore::delete(self, lock))
    }
}

impl<T> RefreshTokenStore for Arc<T>
where
    T: RefreshTokenStore,
{
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        T::load(self).await
    }

    async fn save(&self, login: SecretString, lock: &LoginLock) -> Result<(), BoxError> {
        T::save(self, login, lock).await
    }

    async fn lock(&self, time: Duration) -> Result<Option<LoginLock>, BoxError> {
        T::lock(self, time).await
    }

    async fn confirm(&self, lock: &LoginLock) -> Result<bool, BoxError> {
        T::confirm(self, lock).await
    }

    async fn unlock(&self, lock: LoginLock) -> Result<(), BoxError> {
        T::unlock(self, lock).await
    }

    async fn delete(&self, lock: &LoginLock) -> Result<(), BoxError> {
        T::delete(self, lock).await
    }
}

/// A store that keeps the refresh token in memory until the process ends. The access token isn't
/// kept, because the cache of this process has it.
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
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        // A bare token may look like a record.
        let record = LoginRecord::new(token.clone(), None);
        Ok(Some(SavedLogin::new(record.encode())))
    }

    async fn save(&self, login: SecretString, _: &LoginLock) -> Result<(), BoxError> {
        let record = LoginRecord::parse(login.expose_secret())?;
        let token = record.map(LoginRecord::into_refresh_token);
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token.unwrap_or_default();
        Ok(())
    }

    async fn delete(&self, _: &LoginLock) -> Result<(), BoxError> {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = SecretString::default();
        Ok(())
    }
}
