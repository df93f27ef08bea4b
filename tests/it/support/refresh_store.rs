//! A refresh token store that the test can inspect and break.

use std::sync::{Arc, Mutex};

use secrecy::{ExposeSecret, SecretString};
use tower_auth::BoxError;
use tower_auth::oauth2::RefreshTokenStore;

/// A store that records each save, and fails or hangs when the test says so.
#[derive(Clone, Default)]
pub(crate) struct Store {
    token: Arc<Mutex<Option<String>>>,
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
        *self.token.lock().unwrap() = Some(token.to_owned());
    }

    pub(crate) fn saves(&self) -> Vec<String> {
        self.saves.lock().unwrap().clone()
    }
}

impl RefreshTokenStore for Store {
    async fn load(&self) -> Result<Option<SecretString>, BoxError> {
        Ok(self.token.lock().unwrap().clone().map(SecretString::from))
    }

    async fn save(&self, token: SecretString) -> Result<(), BoxError> {
        if *self.fails.lock().unwrap() {
            return Err("the disk is full".into());
        }
        if *self.hangs.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        self.saves
            .lock()
            .unwrap()
            .push(token.expose_secret().into());
        self.put(token.expose_secret());
        Ok(())
    }
}
