//! A server that is flushed, full, down or restarted.

use futures_util::FutureExt;
use tower_auth::fleet::{RedisStore, TokenStore};

use super::{KEY, LEASE, LONG, lease, load, number, store, text};
use crate::support::redis_server::{RedisServer, eventually};

#[tokio::test]
async fn a_flush_between_lease_and_save_costs_nobody_anything() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let held = lease(&store).await;
    server.tell(&["FLUSHALL"]).await;
    server.tell(&["SCRIPT", "FLUSH"]).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));

    server.tell(&["FLUSHALL"]).await;
    let next = lease(&store).await;
    assert!(next.fence() > held.fence());
    // The first holder has lost its lease, so its release does nothing.
    assert!(!store.release(KEY, held).await.unwrap());
    assert!(store.lease(KEY, LONG).await.unwrap().is_none());
    assert!(store.release(KEY, next).await.unwrap());
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_an_error_until_it_does() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let held = lease(&store).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());

    // The server becomes a replica of a primary that doesn't exist, so it takes no writes.
    server.tell(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    let error = text(store.save(KEY, b"next", LONG, &held).await);
    assert!(
        error.contains("READONLY") || error.contains("read only"),
        "{error}"
    );
    assert!(store.release(KEY, held).await.is_err());
    // The store reconnects after each failure, because another server may now have the name.
    let before = number(&server, "stats", "total_connections_received").await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    let after = number(&server, "stats", "total_connections_received").await;
    assert_eq!(after - before, 2);
    server.tell(&["REPLICAOF", "NO", "ONE"]).await;

    // The lease that couldn't be released still prevents another.
    let held = store.lease(KEY, LONG).await.unwrap();
    assert!(held.is_none());
    server.tell(&["DEL", LEASE]).await;
    let held = lease(&store).await;
    server.tell(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    let error = text(store.save(KEY, b"next", LONG, &held).await);
    assert!(error.contains("OOM"), "{error}");
    assert_eq!(load(&store).await.as_deref(), Some(&b"sealed"[..]));
    server.tell(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert!(store.save(KEY, b"next", LONG, &held).await.unwrap());
    assert!(store.release(KEY, held).await.unwrap());
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_found_once_it_is_there() {
    let mut server = RedisServer::stopped(&[]);
    let store = store(&server);
    for _ in 0..2 {
        let error = text(store.load(KEY).await);
        assert!(error.contains("refused"), "{error}");
    }
    server.run().await;
    assert_eq!(load(&store).await, None);
}

#[tokio::test]
async fn a_cluster_that_is_down_at_the_start_is_found_once_it_is_there() {
    let mut server = RedisServer::stopped(&["--cluster-enabled", "yes"]);
    let store = RedisStore::open_cluster([server.url()]).unwrap();
    assert!(store.load(KEY).await.is_err());
    server.run().await;
    server
        .tell(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    eventually(async || store.load(KEY).await.is_ok()).await;
    server.kill();
    assert!(store.load(KEY).await.is_err());
    server.run().await;
    eventually(async || store.load(KEY).await.is_ok()).await;
}

#[test]
fn an_invalid_address_of_a_cluster_is_an_error_without_its_password() {
    let other_password = ["redis://:planted@127.0.0.1:1", "redis://:other@127.0.0.1:2"];
    for urls in [
        &[][..],
        &["http://:planted@127.0.0.1"],
        &["redis://:planted@h:x"],
        &other_password,
    ] {
        let error = RedisStore::open_cluster(urls).unwrap_err();
        assert!(error.is_config(), "{urls:?}");
        assert!(
            !super::whole(&error).contains("planted"),
            "{urls:?}: {error}"
        );
    }
    let store = RedisStore::open_cluster(["redis://:planted@127.0.0.1:1"]).unwrap();
    let shown = format!("{store:?}");
    assert!(
        shown.contains("127.0.0.1:1") && !shown.contains("planted"),
        "{shown}"
    );
}

#[test]
fn opening_a_store_takes_no_runtime() {
    let store = RedisStore::open("redis://127.0.0.1:1").unwrap();
    let error = store.load(KEY).now_or_never().unwrap();
    assert!(text(error).contains("runtime"));
}

/// A server may close an idle connection, and a day may pass between two tokens.
#[tokio::test]
async fn a_server_that_was_restarted_while_nobody_asked_costs_nobody_anything() {
    let mut server = RedisServer::start(&[]).await;
    let store = store(&server);
    assert_eq!(load(&store).await, None);
    server.kill();
    server.run().await;
    assert_eq!(load(&store).await, None);
    server.tell(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert_eq!(load(&store).await, None);
}
