//! A store that keeps a login in the store of a fleet.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::refresh_store::{LoginLock, RefreshTokenStore, SavedLogin};
use crate::error::BoxError;
use crate::fleet::failure::millis;
use crate::fleet::held_lease::{HeldLease, LEASE_TTL};
use crate::fleet::keyring::{Keyring, Sealing};
use crate::fleet::store::token_store::{DynTokenStore, TokenStore};
use crate::source::store_key::StoreKey;

/// Keeps a login in the store of a [fleet](crate::fleet), so that processes on many machines share
/// the login. Keys seal the login, so the store can't read it.
///
/// The lock of the login is a [lease](TokenStore::lease), which the process renews in the background
/// as long as it needs the lock. A process that lost its lease sends nothing, and doesn't overwrite
/// a newer login. If a process dies with the lock, the other processes wait until its lease ends:
///
/// | a process dies | its lease lasts for at most |
/// | --- | --- |
/// | before it sends the refresh token | 3 s |
/// | after it began to send the refresh token, and before it saved the new one | the [client's timeout](crate::oauth2::Client::timeout) and 3 s for the save, but at most 2 min: by default, 13 s |
///
/// The second duration must be long, because other processes can't tell a dead process from a
/// stalled process. A process that stalls may still save the new refresh token. If another process
/// meanwhile sends the old refresh token, many servers end the login. The store may answer slowly,
/// so both durations also include three times the duration of the last load.
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
/// // The sealing key is 32 random bytes in base64: `openssl rand -base64 32`.
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
    /// The duration of the last load, in milliseconds.
    latency: Arc<AtomicU64>,
}

/// How long the store keeps a login. What remains of this time shows the age of the login.
const TTL: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How much longer than the last load another call to the store may take.
const RESERVE: Duration = Duration::from_secs(1);

/// The lock of the login.
struct LoginLease {
    held: HeldLease,
    /// How long this process needs the lock between the confirmation and the save.
    work: Duration,
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
            latency: Arc::default(),
        }
    }

    /// Returns the TTL of a lease that this process needs for `work` and for the save.
    fn ttl(&self, work: Duration) -> Duration {
        let latency = Duration::from_millis(self.latency.load(Ordering::Relaxed));
        HeldLease::ttl(work, latency + RESERVE)
    }
}

impl RefreshTokenStore for SharedLogin {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        let since = Instant::now();
        let loaded = self.store.load(&self.key).await;
        self.latency
            .store(millis(since.elapsed()), Ordering::Relaxed);
        let Some(value) = loaded? else {
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
        let held = lease_of(lock).ok_or("this process doesn't have the lock of the login")?;
        let text = login.expose_secret().as_bytes();
        let sealed = self.sealing.seal(&self.key, text);
        let sealed = sealed.ok_or("the system returned no random bytes to seal the login")?;
        match held.save(&sealed, TTL).await? {
            true => Ok(()),
            false => Err("another process has saved a newer login".into()),
        }
    }

    /// Takes a short lease. [`confirm`](RefreshTokenStore::confirm) extends the lease to `time`.
    async fn lock(&self, time: Duration) -> Result<Option<LoginLock>, BoxError> {
        let ttl = self.ttl(Duration::ZERO);
        let held = HeldLease::take(&self.store, &self.key, ttl, None).await?;
        // The TTL includes the time for the save.
        let work = time.saturating_sub(LEASE_TTL);
        Ok(held.map(|held| LoginLock::holding(LoginLease { held, work })))
    }

    async fn confirm(&self, lock: &LoginLock) -> Result<bool, BoxError> {
        match lock.guard::<LoginLease>() {
            Some(LoginLease { held, work }) => held.extend(self.ttl(*work)).await,
            None => Ok(false),
        }
    }

    async fn unlock(&self, lock: LoginLock) -> Result<(), BoxError> {
        if let Some(LoginLease { held, .. }) = lock.into_guard() {
            held.release().await?;
        }
        Ok(())
    }

    async fn delete(&self, lock: &LoginLock) -> Result<(), BoxError> {
        if let Some(held) = lease_of(lock) {
            held.delete().await?;
        }
        Ok(())
    }
}

fn lease_of(lock: &LoginLock) -> Option<&HeldLease> {
    lock.guard::<LoginLease>().map(|lease| &lease.held)
}

impl fmt::Debug for SharedLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLogin")
            .field("key", &self.key)
            .field("sealing", &self.sealing)
            .finish_non_exhaustive()
    }
}
