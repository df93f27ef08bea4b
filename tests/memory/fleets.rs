//! Tokens that processes share, and tenants.

use tower::{Layer, ServiceExt};
use tower_auth::cache::{Clock, TokenCacheBuilder};
use tower_auth::fleet::{FileStore, Fleet, Keyring, MemoryStore, RedisStore, StoreKey};
use tower_auth::tenants::Tenants;
use tower_auth::{ApiKey, AuthLayer, Token, TokenCache};
use tower_auth_freed::unwatched;

use crate::planted::{secret, text};
use crate::redis_server::RedisServer;
use crate::server::{Api, request};
use crate::watched::{layer, real_time, use_layer, watched, watched_in_real_time};

fn keyring() -> Keyring {
    Keyring::new("2026-11", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap()
}

/// Two caches: the second gets the token that the first has saved.
async fn share(fleet: impl Fn() -> Fleet) {
    for name in ["one", "other"] {
        let cache = cache(fleet(), name).clock(Clock::tokio()).build();
        use_layer(AuthLayer::from(cache).any_https()).await;
    }
}

/// Returns a cache whose source issues a token with this name.
pub(crate) fn cache(fleet: Fleet, name: &'static str) -> TokenCacheBuilder {
    let source = move |_| async move {
        let token = Token::bearer(secret(name))?.with_id_token(secret("id"));
        let extra = unwatched(|| text("extra"));
        Ok(token
            .with_extra("note", extra)
            .expires_in(std::time::Duration::from_secs(3_600)))
    };
    let fleet = fleet.key(StoreKey::new("token"));
    TokenCache::builder(source).fleet(fleet).unwrap()
}

#[test]
fn a_fleet_leaves_no_token() {
    watched(async || {
        let store = MemoryStore::new();
        share(|| Fleet::new(store.clone(), keyring())).await;
    });
    let folder = tempfile::tempdir().unwrap();
    watched(async || {
        share(|| Fleet::new(FileStore::new(folder.path().join("sealed")), keyring())).await;
    });
    watched(async || {
        share(|| Fleet::unsealed(FileStore::new(folder.path().join("unsealed")))).await;
    });
}

#[test]
fn a_fleet_with_redis_leaves_no_token() {
    let server = real_time().block_on(RedisServer::start(&[]));
    watched_in_real_time(async || {
        for name in ["one", "other"] {
            let store = RedisStore::open(server.url()).unwrap();
            let cache = cache(Fleet::new(store, keyring()), name).build();
            let token = cache.token().await.unwrap();
            unwatched(|| assert_eq!(token.secret(), text("one")));
            cache.close().await;
        }
    });
}

#[test]
fn tenants_leave_no_token() {
    watched(async || {
        let tenants = Tenants::builder(|tenant: &u8| {
            let key = ApiKey::new(secret(&tenant.to_string()));
            Ok(layer(key))
        });
        let tenants = tenants.capacity(1).build();
        for tenant in 0..3 {
            let client = tenants.get(&tenant).unwrap().layer(Api::default());
            client.oneshot(request()).await.unwrap();
        }
        tenants.remove(&2);
    });
}
