//! Stores of a login that the test can inspect and break: one without a lock, and one with a lock.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::Instant;
use tower_auth::BoxError;
use tower_auth::oauth2::{LoginLock, RefreshTokenStore, SavedLogin};

/// Returns the refresh token in the text of a login.
pub(crate) fn refresh_token_of(login: &str) -> String {
    let login: Value = serde_json::from_str(login).unwrap();
    login["refresh_token"].as_str().unwrap().to_owned()
}

/// A store that records each save, and fails or hangs when the test says so.
#[derive(Clone, Default)]
pub(crate) struct Store {
    login: Arc<Mutex<Option<String>>>,
    saves: Arc<Mutex<Vec<String>>>,
    pub(crate) fails: Arc<Mutex<bool>>,
    pub(crate) hangs: Arc<Mutex<bool>>,
}

impl Store {
    pub(crate) fn holding(token: &str) -> Self {
        let store = Self::default();
        store.put(token);
        store
    }

    pub(crate) fn put(&self, token: &str) {
        *self.login.lock().unwrap() = Some(token.to_owned());
    }

    /// Returns the refresh token of each save.
    pub(crate) fn saves(&self) -> Vec<String> {
        self.saves.lock().unwrap().clone()
    }
}

impl RefreshTokenStore for Store {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        Ok(self.login.lock().unwrap().clone().map(SavedLogin::new))
    }

    async fn save(&self, login: SecretString, _: &LoginLock) -> Result<(), BoxError> {
        if *self.fails.lock().unwrap() {
            return Err("the disk is full".into());
        }
        if *self.hangs.lock().unwrap() {
            pending::<()>().await;
        }
        let text = login.expose_secret();
        self.saves.lock().unwrap().push(refresh_token_of(text));
        self.put(text);
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreFault {
    Fails,
    Hangs,
    Panics,
    /// The next call finds that the lock was lost.
    LosesLock,
    AlwaysLosesLock,
}

/// A store with a lock. Several sources share it like processes. Its clock is Tokio's, which the
/// test pauses.
#[derive(Clone, Default)]
pub(crate) struct LockingStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    login: Option<(String, Instant)>,
    hides_age: bool,
    holder: Option<usize>,
    locks: usize,
    faults: HashMap<&'static str, StoreFault>,
    calls: Vec<&'static str>,
    saves: Vec<String>,
    /// The login that another process saves just before this process gets the lock.
    saved_before_lock: Option<String>,
}

/// Unlocks the store when it is dropped.
struct Held {
    number: usize,
    store: LockingStore,
}

impl LockingStore {
    pub(crate) fn holding(login: &str) -> Self {
        let store = Self::default();
        store.put(login);
        store
    }

    /// Saves a login, as another program that ignores the lock does.
    pub(crate) fn put(&self, login: &str) {
        self.lock_state().login = Some((login.to_owned(), Instant::now()));
    }

    /// Doesn't know the age of a login from now on.
    pub(crate) fn hides_age(&self) {
        self.lock_state().hides_age = true;
    }

    pub(crate) fn breaks(&self, call: &'static str, fault: StoreFault) {
        self.lock_state().faults.insert(call, fault);
    }

    pub(crate) fn works_again(&self) {
        self.lock_state().faults.clear();
    }

    /// Lets another process save this login just before the store grants the next lock.
    pub(crate) fn is_saved_before_the_lock(&self, login: &str) {
        self.lock_state().saved_before_lock = Some(login.to_owned());
    }

    /// Takes the lock from its holder.
    pub(crate) fn lose_lock(&self) {
        self.lock_state().holder = None;
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.lock_state().holder.is_some()
    }

    pub(crate) fn login(&self) -> Option<String> {
        let state = self.lock_state();
        state.login.as_ref().map(|(login, _)| login.clone())
    }

    /// Returns the calls since the last call of this method.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lock_state().calls)
    }

    /// Returns the refresh token of each save.
    pub(crate) fn saves(&self) -> Vec<String> {
        self.lock_state().saves.clone()
    }

    async fn call(&self, call: &'static str) -> Result<(), BoxError> {
        let fault = {
            let mut state = self.lock_state();
            state.calls.push(call);
            state.faults.get(call).copied()
        };
        match fault {
            None => Ok(()),
            Some(StoreFault::AlwaysLosesLock) => {
                self.lose_lock();
                Ok(())
            }
            Some(StoreFault::LosesLock) => {
                self.lose_lock();
                self.works_again();
                Ok(())
            }
            Some(StoreFault::Fails) => Err("the store is broken".into()),
            Some(StoreFault::Hangs) => pending().await,
            Some(StoreFault::Panics) => panic!("the store panics"),
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn is_held_by(&self, lock: &LoginLock) -> bool {
        let held = lock.guard::<Held>().unwrap();
        self.lock_state().holder == Some(held.number)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.store.lock_state();
        if state.holder == Some(self.number) {
            state.holder = None;
        }
    }
}

impl RefreshTokenStore for LockingStore {
    async fn load(&self) -> Result<Option<SavedLogin>, BoxError> {
        self.call("load").await?;
        let state = self.lock_state();
        Ok(state.login.as_ref().map(|(login, saved_at)| {
            let saved = SavedLogin::new(login.as_str());
            match state.hides_age {
                true => saved,
                false => saved.saved_ago(saved_at.elapsed()),
            }
        }))
    }

    async fn save(&self, login: SecretString, lock: &LoginLock) -> Result<(), BoxError> {
        self.call("save").await?;
        if !self.is_held_by(lock) {
            return Err("the lock was lost".into());
        }
        let text = login.expose_secret();
        self.lock_state().saves.push(refresh_token_of(text));
        self.put(text);
        Ok(())
    }

    async fn lock(&self, _: Duration) -> Result<Option<LoginLock>, BoxError> {
        self.call("lock").await?;
        let mut state = self.lock_state();
        if state.holder.is_some() {
            return Ok(None);
        }
        state.locks += 1;
        let number = state.locks;
        state.holder = Some(number);
        if let Some(login) = state.saved_before_lock.take() {
            state.login = Some((login, Instant::now()));
        }
        let store = self.clone();
        Ok(Some(LoginLock::holding(Held { number, store })))
    }

    async fn confirm(&self, lock: &LoginLock) -> Result<bool, BoxError> {
        self.call("confirm").await?;
        Ok(self.is_held_by(lock))
    }

    async fn unlock(&self, lock: LoginLock) -> Result<(), BoxError> {
        self.call("unlock").await?;
        drop(lock.into_guard::<Held>());
        Ok(())
    }

    async fn delete(&self, lock: &LoginLock) -> Result<(), BoxError> {
        self.call("delete").await?;
        assert!(self.is_held_by(lock));
        self.lock_state().login = None;
        Ok(())
    }
}
