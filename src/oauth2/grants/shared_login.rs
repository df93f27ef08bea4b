//! A store that keeps a login in the store of a fleet.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;

use super::refresh_store::{LoginLock, RefreshTokenStore, SavedLogin};
use crate::error::BoxError;
use crate::fleet::keyring::{Keyring, Sealing};
use crate::fleet::store::token_store::{DynTokenStore, Lease, TokenStore};
use crate::source::store_key::StoreKey;

/// Keeps a login in the store of a [fleet](crate::fleet), so that processes on many machines share
/// the login. Keys seal the login, so the store can't read it.
///
/// The lock of the login is a [lease](TokenStore::lease). If a process dies with the lock, the lock
/// ends 3 s after the [client's timeout](crate::oauth2::Client::timeout): by default, after 13 s. A
/// process that lost its lease sends nothing, and doesn't overwrite a newer login.
///
/// The store key names the login, such as a user and a number. All processes that share the login
/// need the same key, the same sealing keys and the same client.
///
/// The store must not lose the login. Redis must not evict keys (`maxmemory-policy noeviction`), and
/// needs persistence (`appendonly yes`). With `appendfsync everysec`, a crash of Redis loses up to
/// 1 s of saves. With `always`, a crash loses none. The login stays in the store for ten years after
/// the last refresh.
///
/// On one machine, a `RefreshTokenFile` (feature `file`) is simpler.
///
/// # Example
///
/// ```
/// use tower_auth::fleet::{Keyring, MemoryStore, StoreKey};
/// use tower_auth::oauth2::{Client, RefreshToken, SharedLogin};
///
/// # fn example(sealing_key: String) -> Result<(), tower_auth::Error> {
/// let keys = Keyring::new("2026-11", sealing_key)?;
/// let login = StoreKey::new("login").with("user", "ada").with("number", "3");
/// let store = SharedLogin::new(MemoryStore::new(), keys, &login);
///
/// let client = Client::public("https://id.example.com/oauth/token", "my-app")?;
/// let source = RefreshToken::stored(client, store);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SharedLogin {
    store: Arc<dyn DynTokenStore>,
    sealing: Sealing,
    key: Arc<str>,
}

/// How long the store keeps a login. What remains of this time shows the age of the login.
const TTL: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A lease that is released when it is dropped.
struct HeldLease {
    store: Arc<dyn DynTokenStore>,
    key: Arc<str>,
    lease: Option<Lease>,
    time: Duration,
}

impl SharedLogin {
    /// Keeps the login that `login` names in `store`. The login has another key than the tokens of a
    /// [`Fleet`](crate::fleet::Fleet), so the same store key may name both.
    pub fn new(store: impl TokenStore, keys: Keyring, login: &StoreKey) -> Self {
        let key = StoreKey::new("shared login").with_key("login", login);
        Self {
            store: Arc::new(store),
            sealing: Sealing::Sealed(keys),
            key: key.to_text().into(),
        }
    }
}

impl RefreshTokenStore for SharedLogin {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        let Some(value) = self.store.load(&self.key).await? else {
            return Ok(None);
        };
        let (sealed, remaining) = value
            .sealed()
            .map_err(|what| format!("{what}; a new login replaces it"))?;
        let opened = self.sealing.open(&self.key, sealed).map_err(|error| {
            let why = error.as_str();
            format!(
                "this process can't open the stored login ({why}); give all processes the same keys"
            )
        })?;
        let text = std::str::from_utf8(&opened).map_err(|_| "the stored login isn't text")?;
        let login = SavedLogin::new(text);
        // A remaining time of zero means that the store doesn't know the age.
        let age = TTL.checked_sub(remaining).filter(|_| !remaining.is_zero());
        Ok(Some(match age {
            Some(age) => login.saved_ago(age),
            None => login,
        }))
    }

    async fn save(&self, login: SecretString, lock: &LoginLock) -> Result<(), BoxError> {
        let lease = lease_of(lock).ok_or("this process doesn't have the lock of the login")?;
        let text = login.expose_secret().as_bytes();
        let sealed = self.sealing.seal(&self.key, text);
        let sealed = sealed.ok_or("the system returned no random bytes to seal the login")?;
        match self.store.save(&self.key, &sealed, TTL, lease).await? {
            true => Ok(()),
            false => Err("another process has saved a newer login".into()),
        }
    }

    async fn lock(&self, time: Duration) -> Result<Option<LoginLock>, BoxError> {
        let lease = self.store.lease(&self.key, time).await?;
        Ok(lease.map(|lease| {
            LoginLock::holding(HeldLease {
                store: Arc::clone(&self.store),
                key: Arc::clone(&self.key),
                lease: Some(lease),
                time,
            })
        }))
    }

    async fn confirm(&self, lock: &LoginLock) -> Result<bool, BoxError> {
        let held = lock.guard::<HeldLease>();
        let Some((time, lease)) = held.and_then(|held| Some((held.time, held.lease.as_ref()?)))
        else {
            return Ok(false);
        };
        self.store.renew(&self.key, lease, time).await
    }

    async fn unlock(&self, lock: LoginLock) -> Result<(), BoxError> {
        let held = lock.into_guard::<HeldLease>();
        if let Some(lease) = held.and_then(|mut held| held.lease.take()) {
            self.store.release(&self.key, lease).await?;
        }
        Ok(())
    }

    async fn delete(&self, lock: &LoginLock) -> Result<(), BoxError> {
        if let Some(lease) = lease_of(lock) {
            self.store.delete(&self.key, lease).await?;
        }
        Ok(())
    }
}

fn lease_of(lock: &LoginLock) -> Option<&Lease> {
    lock.guard::<HeldLease>()?.lease.as_ref()
}

/// Releases the lease of a fetch that was cancelled. Without a runtime, the lease ends by itself.
impl Drop for HeldLease {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let (store, key) = (Arc::clone(&self.store), Arc::clone(&self.key));
            runtime.spawn(async move { drop(store.release(&key, lease).await) });
        }
    }
}

impl fmt::Debug for SharedLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLogin")
            .field("key", &self.key)
            .field("sealing", &self.sealing)
            .finish_non_exhaustive()
    }
}
