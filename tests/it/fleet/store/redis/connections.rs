//! All callers use one connection. The tests also cover a connection on which no reply arrives.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower_auth::fleet::{RedisStore, TokenStore};

use super::{KEY, LONG, lease, load, number, store, text};
use crate::support::redis_server::{RedisServer, eventually};

#[tokio::test]
async fn many_who_ask_at_once_share_a_connection() {
    let server = RedisServer::start(&[]).await;
    let store = store(&server);
    let before = number(&server, "stats", "total_connections_received").await;
    let mut asked = JoinSet::new();
    for _ in 0..50 {
        let store = store.clone();
        asked.spawn(async move { load(&store).await });
    }
    assert!(asked.join_all().await.iter().all(Option::is_none));
    let held = lease(&store).await;
    assert!(store.save(KEY, b"sealed", LONG, &held).await.unwrap());
    assert!(store.release(KEY, held).await.unwrap());
    // All callers shared one connection, and this query opens another.
    let after = number(&server, "stats", "total_connections_received").await;
    assert_eq!(after - before, 2);
}

/// A proxy in front of a server. On a signal, the proxy drops everything that is sent on the first
/// connection.
struct Way {
    url: String,
    falls_silent: Option<oneshot::Sender<()>>,
    begins: Option<oneshot::Sender<()>>,
    connections: tokio::sync::watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

async fn way(server: &RedisServer) -> Way {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let to = server.url().replace("redis://", "");
    let (falls_silent, silent) = oneshot::channel::<()>();
    let (begins, begun) = oneshot::channel::<()>();
    let (count, connections) = tokio::sync::watch::channel(0);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = begun.await;
        let mut silent = Some(silent);
        let mut served = JoinSet::new();
        loop {
            let (mut here, _) = listener.accept().await.unwrap();
            count.send_modify(|count| *count += 1);
            let mut there = TcpStream::connect(&to).await.unwrap();
            let silent = silent.take();
            served.spawn(async move {
                let silenced = async {
                    match silent {
                        Some(silent) => drop(silent.await),
                        None => std::future::pending().await,
                    }
                };
                let is_silenced = tokio::select! {
                    _ = copy_bidirectional(&mut here, &mut there) => false,
                    () = silenced => true,
                };
                if is_silenced {
                    // The connection stays open, but nothing arrives.
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Way {
        url,
        falls_silent: Some(falls_silent),
        begins: Some(begins),
        connections,
        _tasks: tasks,
    }
}

impl Way {
    fn begin(&mut self) {
        self.begins.take().unwrap().send(()).unwrap();
    }
}

/// The store notices a half-open connection only when a caller waits for a reply.
#[tokio::test]
async fn a_connection_that_nothing_comes_from_is_left_with_the_first_who_waits_in_vain() {
    let server = RedisServer::start(&[]).await;
    let mut way = way(&server).await;
    way.begin();
    let store = RedisStore::open(&way.url).unwrap();
    assert_eq!(load(&store).await, None);
    way.falls_silent.take().unwrap().send(()).unwrap();
    let patience = Duration::from_millis(50);
    eventually(async || timeout(patience, load(&store)).await.is_err()).await;
    assert_eq!(load(&store).await, None);
    assert_eq!(*way.connections.borrow(), 2);
}

#[tokio::test]
async fn a_connection_that_takes_longer_than_who_waits_for_it_is_made_for_the_next() {
    let server = RedisServer::start(&[]).await;
    let mut way = way(&server).await;
    let store = RedisStore::open(&way.url).unwrap();
    for _ in 0..3 {
        let left = timeout(Duration::from_millis(20), load(&store)).await;
        assert!(left.is_err());
    }
    way.begin();
    // While the connection is opened, no caller waits for it.
    eventually(async || *way.connections.borrow() > 0).await;
    assert_eq!(load(&store).await, None);
    assert_eq!(*way.connections.borrow(), 1);
}

/// The connection gets as far as choosing the database, which is possible only after it was opened.
#[tokio::test]
async fn a_connection_is_made_though_who_wanted_it_has_left() {
    let server = RedisServer::start(&[]).await;
    let store = RedisStore::open(format!("{}/3", server.url())).unwrap();
    assert!(load(&store).now_or_never().is_none());
    eventually(async || {
        let clients: String = server.ask(&["CLIENT", "LIST"]).await.unwrap();
        clients.contains(" db=3 ")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_says_anything_is_given_up_after_five_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = RedisStore::open(format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    for _ in 0..2 {
        let asked = timeout(Duration::from_secs(6), store.load(KEY)).await;
        let error = text(asked.expect("it waits for ever"));
        assert!(error.contains("timed out"), "{error}");
    }
}
