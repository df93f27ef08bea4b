//! A store in Redis: what it keeps, how a failing server affects it, and how it recovers.
#![cfg(feature = "redis")]

use std::error::Error as StdError;
use std::fmt::Debug;
use std::time::Duration;

use tower_auth::BoxError;
use tower_auth::fleet::{Lease, RedisStore, TokenStore};

use crate::support::redis_server::RedisServer;

mod connections;
mod failures;
mod passwords;
mod values;

const KEY: &str = "a-key_of-43-letters";
const TOKEN: &str = "tower-auth:{a-key_of-43-letters}:token";
const LEASE: &str = "tower-auth:{a-key_of-43-letters}:lease";
const LONG: Duration = Duration::from_secs(3600);
const LONG_LEASE: Duration = Duration::from_secs(100);

fn store(server: &RedisServer) -> RedisStore {
    RedisStore::open(server.url()).unwrap()
}

async fn lease(store: &RedisStore) -> Lease {
    let lease = store.lease(KEY, LONG_LEASE).await.unwrap();
    lease.expect("nobody else is there")
}

async fn load(store: &RedisStore) -> Option<Vec<u8>> {
    let value = store.load(KEY).await.unwrap()?;
    Some(value.sealed().unwrap().0.to_vec())
}

/// Returns what the store says of a value that it didn't write.
async fn foreign(store: &RedisStore) -> String {
    let value = store.load(KEY).await.unwrap().unwrap();
    value.sealed().unwrap_err().to_owned()
}

/// Returns the text of an error and its causes, as in a log.
fn whole(error: &(dyn StdError + 'static)) -> String {
    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(error) = next {
        text += &format!(" {error} {error:?}");
        next = error.source();
    }
    text
}

fn text<T>(result: Result<T, BoxError>) -> String
where
    T: Debug,
{
    let error = result.unwrap_err();
    whole(error.as_ref())
}

async fn number(server: &RedisServer, section: &str, name: &str) -> u64 {
    let info: String = server.ask(&["INFO", section]).await.unwrap();
    let value = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap().trim().parse().unwrap()
}
