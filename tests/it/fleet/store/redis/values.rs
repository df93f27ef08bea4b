//! What the store keeps in Redis, under which keys and for how long.

use std::time::{SystemTime, UNIX_EPOCH};

use tower_auth::fleet::{Lease, RedisStore, TokenStore};

use super::{KEY, LEASE, LONG, LONG_LEASE, TOKEN, foreign, lease, load, number, store, text};
use crate::support::redis_server::RedisServer;

/// Returns the microseconds since 1970. Redis uses the same clock.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

#[tokio::test]
async fn both_keys_of_a_token_end_by_themselves() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server).prefix("reports");
    let held = lease(&store).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
    let mut keys: Vec<String> = server.ask(&["KEYS", "*"]).await.unwrap();
    keys.sort();
    assert_eq!(
        keys,
        [TOKEN, LEASE]
            .map(|key| key.replace("tower-auth", "reports"))
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    for (key, ttl) in keys.into_iter().zip([100, 3_600]) {
        let left: i64 = server.ask(&["TTL", &key]).await.unwrap();
        assert!((ttl - 10..=ttl).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn a_fencing_token_is_the_time_and_comes_after_that_of_what_is_kept() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let start = now();
    let held = lease(&store).await;
    assert!((start..=now()).contains(&held.fence()));
    assert!(store.release(KEY, held).await.unwrap());

    // A saved fence is this far ahead if the server's clock was set back by an hour since.
    let ahead = now() + 3_600_000_000;
    server
        .tell(&["SET", TOKEN, &format!("{ahead}sealed"), "EX", "60"])
        .await;
    let held = lease(&store).await;
    assert_eq!(held.fence(), ahead + 1);
    assert!(store.save(KEY, b"next", LONG, &held).await.unwrap());
    assert!(
        !store
            .save(KEY, b"late", LONG, &Lease::new(ahead))
            .await
            .unwrap()
    );
    assert_eq!(load(&store).await.as_deref(), Some(&b"next"[..]));
}

#[tokio::test]
async fn what_somebody_else_has_put_there_is_handed_on_and_overwritten() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    for foreign in ["", "short", "no-fence-at-the-beginning", "000000000000000x"] {
        server.tell(&["SET", TOKEN, foreign, "EX", "60"]).await;
        assert_eq!(load(&store).await.as_deref(), Some(foreign.as_bytes()));
        let start = now();
        let held = lease(&store).await;
        assert!((start..=now()).contains(&held.fence()));
        assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
        assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
        assert!(store.release(KEY, held).await.unwrap());
    }
    // Lua's numbers can't count beyond these fences, so a value with such a fence would never be
    // replaced.
    for foreign in ["9999999999999999", "9007199254740991"] {
        server.tell(&["SET", TOKEN, foreign]).await;
        let start = now();
        let held = lease(&store).await;
        assert!((start..=now()).contains(&held.fence()));
        assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
        assert!(store.release(KEY, held).await.unwrap());
    }
}

#[tokio::test]
async fn a_lease_without_an_end_is_nobodys() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    server
        .tell(&["SET", LEASE, "restored from somewhere"])
        .await;
    let held = lease(&store).await;
    assert!(store.release(KEY, held).await.unwrap());
}

#[tokio::test]
async fn a_lease_of_another_store_saves_nothing() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let saved = store
        .save(KEY, b"sealed", LONG, &Lease::new(u64::MAX))
        .await;
    assert!(text(saved).contains("another store"));
    assert_eq!(load(&store).await, None);
    assert!(!store.release(KEY, Lease::new(u64::MAX)).await.unwrap());
}

#[tokio::test]
async fn what_is_too_long_stays_where_it_is_until_the_next_token_replaces_it() {
    let server = RedisServer::start(&[]).await;
    server.tell(&["SETRANGE", TOKEN, "262160", "!"]).await;
    let before = sent(&server).await;
    let store = store(&server);
    let told = foreign(&store).await;
    assert!(told.contains("256 KiB") && told.contains(TOKEN), "{told}");
    let bytes = sent(&server).await - before;
    assert!(bytes < 100_000, "{bytes}");
    is_replaced(&store).await;
}

/// Checks that a fetch can replace what is stored under the token's key.
async fn is_replaced(store: &RedisStore) {
    let held = lease(store).await;
    assert!(store.renew(KEY, &held, LONG_LEASE).await.unwrap());
    assert!(store.save(KEY, b"next", LONG, &held).await.unwrap());
    assert_eq!(load(store).await.as_deref(), Some(&b"next"[..]));
    assert!(store.release(KEY, held).await.unwrap());
}

/// Commands that write a value of another type under a key, or a string that never expires.
const FOREIGN: [&[&str]; 6] = [
    &["HSET", "name", "value"],
    &["RPUSH", "item"],
    &["SADD", "item"],
    &["ZADD", "1", "item"],
    &["XADD", "*", "name", "value"],
    &["SET", "a string without an end"],
];

async fn write(server: &RedisServer, key: &str, command: &[&str]) {
    let command = [&command[..1], &[key], &command[1..]].concat();
    server.tell(&["DEL", key]).await;
    server.tell(&command).await;
}

#[tokio::test]
async fn a_value_of_another_type_is_named_and_the_next_token_replaces_it() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    for command in FOREIGN {
        write(&server, TOKEN, command).await;
        let told = foreign(&store).await;
        assert!(told.contains(TOKEN), "{command:?}: {told}");
        is_replaced(&store).await;
        write(&server, TOKEN, command).await;
        let held = lease(&store).await;
        assert!(store.delete(KEY, &held).await.unwrap(), "{command:?}");
        assert_eq!(load(&store).await, None);
        assert!(store.release(KEY, held).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_no_lease_of_any_process_is_replaced_and_told() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let hour: &[&str] = &["SET", "1234567890123456", "EX", "3600"];
    for command in FOREIGN.into_iter().chain([hour]) {
        write(&server, LEASE, command).await;
        // Releasing or renewing a lost lease changes nothing.
        assert!(!store.release(KEY, Lease::new(7)).await.unwrap());
        assert!(!store.renew(KEY, &Lease::new(7), LONG).await.unwrap());
        let held = lease(&store).await;
        assert!(format!("{held:?}").contains(LEASE), "{held:?}");
        assert!(store.release(KEY, held).await.unwrap());
    }
    // A lease that any process may have written is respected.
    write(&server, LEASE, &["SET", "1234567890123456", "EX", "120"]).await;
    assert!(store.lease(KEY, LONG_LEASE).await.unwrap().is_none());
}

/// Returns how many bytes the server has sent.
async fn sent(server: &RedisServer) -> u64 {
    number(server, "stats", "total_net_output_bytes").await
}

/// Redis was stopped, or the network was slow. The token has aged meanwhile.
#[tokio::test]
async fn a_save_that_redis_runs_late_counts_from_its_request() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let held = lease(&store).await;
    let _: String = server.ask(&["CLIENT", "PAUSE", "600"]).await.unwrap();
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
    let left: u64 = server.ask(&["PTTL", TOKEN]).await.unwrap();
    assert!(left < 3_600_000 - 400, "{left}");
}
