//! A password goes to the server and nowhere else.

use tower_auth::fleet::{RedisStore, TokenStore};

use super::{KEY, LONG, load, store, text, whole};
use crate::support::redis_server::RedisServer;

const PASSWORD: &str = "planted-password";

#[tokio::test]
async fn a_password_that_is_refused_is_not_shown_and_asked_for_again() {
    let server = RedisServer::start(&["--requirepass", "other"]).await;
    for user in ["", "default", "nobody"] {
        let url = server.url_with(&format!("{user}:{PASSWORD}@"));
        for url in [url.clone(), format!("{url}/?protocol=resp3")] {
            let store = RedisStore::open(url).unwrap();
            let error = text(store.load(KEY).await) + &text(store.lease(KEY, LONG).await);
            assert!(!error.contains(PASSWORD), "{error}");
            assert!(!format!("{store:?}").contains(PASSWORD), "{store:?}");
        }
    }
    let error = text(store(&server).load(KEY).await);
    assert!(error.contains("NOAUTH"), "{error}");

    // The store works once its URL has the server's password.
    let url = server.url_with(&format!(":{PASSWORD}@"));
    let store = RedisStore::open(url).unwrap();
    assert!(store.load(KEY).await.is_err());
    let url = server.url_with(":other@");
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut set = redis::cmd("CONFIG");
    set.arg(&["SET", "requirepass", PASSWORD]);
    let () = set.query_async(&mut connection).await.unwrap();
    assert_eq!(load(&store).await, None);
}

/// Redis repeats the unknown command in its error, and the command contains the password.
#[tokio::test]
async fn a_server_that_does_not_know_how_to_take_a_password_does_not_get_it_into_a_log() {
    let unknown = [
        "--rename-command",
        "HELLO",
        "",
        "--rename-command",
        "AUTH",
        "",
    ];
    let server = RedisServer::start(&unknown).await;
    for protocol in ["resp2", "resp3"] {
        let url = server.url_with(&format!("user:{PASSWORD}@"));
        let store = RedisStore::open(format!("{url}/?protocol={protocol}")).unwrap();
        let error = text(store.load(KEY).await);
        assert!(!error.contains(PASSWORD), "{error}");
    }
    // Without a password, the error may contain the server's text.
    let url = format!("{}/?protocol=resp3", server.url());
    let error = text(RedisStore::open(url).unwrap().load(KEY).await);
    assert!(error.contains("unknown command"), "{error}");
}

#[tokio::test]
async fn an_address_that_is_none_or_leads_nowhere_does_not_show_its_password() {
    let addresses = [
        "127.0.0.1:6379",
        "http://:planted-password@127.0.0.1",
        "redis://",
        "redis://:planted-password@",
        "redis://:planted-password@:6379",
        "redis://:planted-password@127.0.0.1:port",
        "redis://:planted-password@127.0.0.1/database",
        "redis://:planted-password@127.0.0.1?protocol=planted-password",
        "redis://:x?protocol=planted-password@127.0.0.1",
        "redis://:%ff@127.0.0.1",
        "redis://:planted-password@0.0.0.0",
    ];
    for address in addresses {
        let error = RedisStore::open(address).unwrap_err();
        assert!(error.is_config(), "{error:?}");
        let error = whole(&error);
        assert!(error.contains("the Redis address is invalid"), "{error}");
        assert!(!error.contains(PASSWORD), "{error}");
    }
    let store = RedisStore::open(format!("redis://user:{PASSWORD}@127.0.0.1:1")).unwrap();
    let shown = format!("{store:?}");
    assert!(
        shown.contains("127.0.0.1:1") && !shown.contains(PASSWORD),
        "{shown}"
    );
    let error = text(store.load(KEY).await);
    assert!(
        error.contains("refused") && !error.contains(PASSWORD),
        "{error}"
    );
}
