//! The Digest example against a server that counts the uses of its nonces.

use std::future::ready;
use std::sync::Arc;
use std::sync::Mutex;

use futures_util::future::join_all;
use reqwest::{Client, Method, StatusCode};
use tower::{Layer, Service, ServiceExt};
use tower_auth::{BoxError, Error, Reason};

use super::{example, token};
use crate::support::digest_server::{DigestServer, PASSWORD};
use crate::support::layer;

/// Builds a client whose source reads the password from the lock.
fn client(
    password: &Arc<Mutex<&'static str>>,
) -> impl Service<reqwest::Request, Response = reqwest::Response, Error = BoxError> + Clone + use<>
{
    let (password, challenges) = (Arc::clone(password), example::Challenges::default());
    let source = move |_: Reason| {
        let token = token(*password.lock().unwrap(), &challenges, None);
        ready(Ok::<_, Error>(token))
    };
    layer(source).layer(Client::new())
}

fn known() -> Arc<Mutex<&'static str>> {
    Arc::new(Mutex::new(PASSWORD))
}

async fn get(
    client: &(impl Service<reqwest::Request, Response = reqwest::Response, Error = BoxError> + Clone),
    url: &str,
) -> StatusCode {
    let request = reqwest::Request::new(Method::GET, url.parse().unwrap());
    client.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn the_nonce_is_asked_for_once_and_counted_until_it_is_stale() {
    let (server, client) = (DigestServer::start().await, client(&known()));
    let url = format!("{}/things?b=2&a=%20", server.url());
    for _ in 0..3 {
        assert_eq!(get(&client, &url).await, 200);
    }
    assert_eq!(server.take_statuses(), [401, 200, 200, 200]);
    assert_eq!(server.counts(), [1, 2, 3]);
    server.expire_nonce();
    for _ in 0..2 {
        assert_eq!(get(&client, &url).await, 200);
    }
    assert_eq!(server.take_statuses(), [401, 200, 200]);
    assert_eq!(server.counts(), [1, 2]);
}

#[tokio::test]
async fn fifty_first_requests_at_once_use_each_count_once() {
    let (server, client) = (DigestServer::start().await, client(&known()));
    let responses = (0..50).map(|_| get(&client, server.url()));
    assert!(
        join_all(responses)
            .await
            .iter()
            .all(|status| *status == 200)
    );
    let mut counts = server.counts();
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_origin_has_a_nonce_of_its_own() {
    let (one, other) = (DigestServer::start().await, DigestServer::start().await);
    other.expire_nonce();
    let client = client(&known());
    for server in [&one, &other, &one, &other] {
        assert_eq!(get(&client, server.url()).await, 200);
    }
    for server in [one, other] {
        assert_eq!(server.take_statuses(), [401, 200, 200]);
        assert_eq!(server.counts(), [1, 2]);
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_callers_to_see_and_a_new_one_is_fetched() {
    let (server, password) = (DigestServer::start().await, known());
    let client = client(&password);
    assert_eq!(get(&client, server.url()).await, 200);
    server.take_statuses();
    server.set_password("The Lion Sleeps Tonight");
    *password.lock().unwrap() = "The Lion Sleeps Tonight";
    assert_eq!(get(&client, server.url()).await, 200);
    // One challenge is enough: the server requires no second nonce.
    assert_eq!(server.take_statuses(), [401, 200]);
    server.set_password("another");
    assert_eq!(get(&client, server.url()).await, 401);
    assert_eq!(server.take_statuses(), [401]);
}
