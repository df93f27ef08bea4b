//! Each clone of the service keeps a copy of the credential. The tests check when this copy is no
//! longer sent.

use std::time::Duration;

use tokio_test::{assert_pending, task};
use tower::Layer;
use tower_auth::Token;
use tower_auth::cache::Clock;
use tower_auth_test::{Api, ScriptedSource, controlled_source, run_until_idle};

use crate::support::{call, clocked, credentials, request};

#[tokio::test]
async fn a_private_copy_of_a_token_is_not_sent_once_it_is_rejected() {
    let api = Api::accepting(["token-1", "token-2"]);
    let layer = crate::support::layer(ScriptedSource::default());
    let mut client = layer.layer(api.clone());
    for _ in 0..3 {
        call(&mut client, request("")).await.unwrap();
    }
    let token = layer.cache().token().await.unwrap();
    layer.cache().reject(&token);
    call(&mut client, request("")).await.unwrap();
    assert_eq!(credentials(&api)[3..], ["Bearer token-2"]);
}

#[tokio::test]
async fn a_private_copy_of_a_token_is_not_sent_once_it_has_expired_and_renewed_once_it_is_stale() {
    let (source, mut fetches) = controlled_source();
    let (clock, hour) = (Clock::manual(), Duration::from_secs(3600));
    let cache = clocked(source, &clock).build();
    let api = Api::accepting(["first", "second", "third"]);
    let mut client = crate::support::layer_from(cache.clone()).layer(api.clone());
    let first = tokio::spawn(cache.token());
    fetches.next().await.issue_for("first", hour);
    first.await.unwrap().unwrap();
    for _ in 0..3 {
        call(&mut client, request("")).await.unwrap();
    }
    clock.advance(hour - Duration::from_secs(300));
    call(&mut client, request("")).await.unwrap();
    fetches.next().await.issue_for("second", hour);
    run_until_idle().await;
    for _ in 0..3 {
        call(&mut client, request("")).await.unwrap();
    }
    clock.advance(hour);
    let mut waiting = task::spawn(call(&mut client, request("")));
    assert_pending!(waiting.poll());
    fetches.next().await.issue_for("third", hour);
    waiting.await.unwrap();
    let expected = [
        "first", "first", "first", "first", "second", "second", "second", "third",
    ];
    assert_eq!(
        credentials(&api),
        expected.map(|secret| format!("Bearer {secret}"))
    );
}

/// The source issues clones of one token, each with its own lifetime.
#[tokio::test]
async fn a_private_copy_of_a_token_is_not_sent_once_the_same_was_issued_for_less_and_has_expired() {
    let (source, mut fetches) = controlled_source();
    let (clock, minute) = (Clock::manual(), Duration::from_secs(60));
    let cache = clocked(source, &clock).build();
    let api = Api::accepting(["kept"]);
    let mut client = crate::support::layer_from(cache.clone()).layer(api.clone());
    let same = Token::bearer("kept").unwrap();
    let first = tokio::spawn(cache.token());
    fetches.next().await.complete(Ok(same.clone()));
    first.await.unwrap().unwrap();
    for _ in 0..3 {
        call(&mut client, request("")).await.unwrap();
    }
    let forced = tokio::spawn(cache.refresh_now());
    fetches.next().await.complete(Ok(same.expires_in(minute)));
    forced.await.unwrap().unwrap();
    clock.advance(minute);
    let mut waiting = task::spawn(call(&mut client, request("")));
    assert_pending!(waiting.poll());
    assert_eq!(api.requests().len(), 3);
}

/// This is the only test here that sleeps, because the system's clocks can't be paused.
#[tokio::test]
async fn by_the_systems_clocks_too_a_private_copy_is_not_sent_once_it_has_expired() {
    let lifetime = Duration::from_millis(200);
    let api = Api::accepting(["token-1", "token-2"]);
    let mut client = crate::support::layer(ScriptedSource::expiring(lifetime)).layer(api.clone());
    for _ in 0..4 {
        call(&mut client, request("")).await.unwrap();
    }
    tokio::time::sleep(lifetime).await;
    call(&mut client, request("")).await.unwrap();
    let seen = credentials(&api);
    assert_eq!((&*seen[0], &*seen[4]), ("Bearer token-1", "Bearer token-2"));
}
