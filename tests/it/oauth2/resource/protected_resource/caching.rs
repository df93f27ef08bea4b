//! A built source stays in use until the metadata changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, advance};
use tower_auth::oauth2::{ClientCredentials, ProtectedResource, Protection};
use tower_auth::{Error, Token, TokenSource};
use tower_auth_test::{ScriptedSource, run_until_idle};

use super::{API, ISSUER, METADATA, TOKEN, changed, fetch, metadata, source, web};
use crate::support::paused;
use crate::support::web::{Page, Web, line};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Builds sources of this kind, and counts how many were built.
fn counting<T: TokenSource + Clone>(
    web: &Web,
    made: &Arc<AtomicUsize>,
    inner: T,
) -> ProtectedResource {
    let made = Arc::clone(made);
    let build = move |_: Protection| {
        made.fetch_add(1, Ordering::SeqCst);
        Ok(inner.clone())
    };
    ProtectedResource::new(API, [ISSUER, "https://new.example.com"], build)
        .unwrap()
        .transport(web.transport())
}

#[tokio::test(start_paused = true)]
async fn the_source_is_made_once_until_the_metadata_changes() {
    let web = web();
    let made = Arc::new(AtomicUsize::new(0));
    let inner = ScriptedSource::from_fn(|_| Token::bearer("token"));
    let source = counting(&web, &made, inner.clone());
    for _ in 0..5 {
        fetch(&source).await.unwrap();
    }
    assert_eq!(web.take_lines().len(), 2);
    // After an hour, the metadata is fetched again. It is the same, so no new source is made.
    advance(HOUR).await;
    fetch(&source).await.unwrap();
    assert_eq!(web.take_lines().len(), 2);
    assert_eq!(made.load(Ordering::SeqCst), 1);
    // Changed metadata is noticed only when it is fetched again, an hour later.
    let servers = json!(["https://new.example.com"]);
    let metadata = changed(|it| it["authorization_servers"] = servers);
    web.put(
        METADATA,
        Page::json(200, &metadata).header("cache-control", "max-age=600"),
    );
    fetch(&source).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 1);
    advance(HOUR).await;
    fetch(&source).await.unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2);
    assert_eq!(web.take_lines().len(), 2);
    // The metadata stays in use for as long as the response allows.
    advance(10 * MINUTE).await;
    fetch(&source).await.unwrap();
    assert_eq!(web.take_lines().len(), 2);
    assert_eq!(inner.fetches(), 9);
}

#[tokio::test(start_paused = true)]
async fn the_old_metadata_stays_in_use_when_new_cannot_be_fetched() {
    let web = web();
    let source = source(&web);
    fetch(&source).await.unwrap();
    for page in [
        Page::new(503),
        Page::new(404),
        Page::new(200).body("<html>"),
        Page::stall(),
        Page::json(
            200,
            changed(|it| {
                it["authorization_servers"] = json!(["https://evil.example.com"]);
            }),
        ),
    ] {
        web.put(METADATA, page);
        advance(HOUR).await;
        web.take_lines();
        let start = Instant::now();
        for _ in 0..3 {
            fetch(&source).await.unwrap();
        }
        assert!(start.elapsed() <= Duration::from_secs(5));
        assert_eq!(web.times(&format!("GET {METADATA}")), 1);
        assert_eq!(web.times(&format!("POST {TOKEN}")), 3);
        advance(MINUTE).await;
        fetch(&source).await.unwrap();
        assert_eq!(web.times(&format!("GET {METADATA}")), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_search_is_within_the_timeout() {
    let web = web();
    web.put(API, Page::stall());
    let source = source(&web).timeout(Duration::from_secs(3));
    let start = Instant::now();
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn a_failure_of_the_source_that_stays_has_the_metadata_looked_at_again() {
    let web = web();
    let made = Arc::new(AtomicUsize::new(0));
    let inner = ScriptedSource::from_fn(|attempt| match attempt {
        1 => Token::bearer("token"),
        2 => Err(Error::transient("reset")),
        // An origin that can't be parsed is a permanent error.
        3 => Err("no origin".parse::<tower_auth::Origin>().unwrap_err()),
        _ => Token::bearer("token"),
    });
    let source = counting(&web, &made, inner);
    fetch(&source).await.unwrap();
    assert!(fetch(&source).await.unwrap_err().is_transient());
    assert_eq!(web.take_lines().len(), 2);
    assert!(fetch(&source).await.unwrap_err().is_permanent());
    assert_eq!(web.take_lines().len(), 0);
    fetch(&source).await.unwrap();
    assert_eq!(web.take_lines().len(), 2);
}

#[tokio::test]
async fn an_error_of_the_closure_is_that_of_the_fetch() {
    let web = web();
    let build = |_: Protection| -> Result<ClientCredentials, Error> {
        Err(Error::other("no account with this one"))
    };
    let source = ProtectedResource::new(API, [ISSUER], build)
        .unwrap()
        .transport(web.transport());
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_source(), "{error}");
}

#[tokio::test]
async fn the_protection_says_what_was_found() {
    let web = web();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let see = Arc::clone(&seen);
    let build = move |protection: Protection| {
        *see.lock().unwrap() = Some(protection);
        Ok(ScriptedSource::from_fn(|_| Token::bearer("token")))
    };
    let source = ProtectedResource::new(API, [ISSUER], build)
        .unwrap()
        .transport(web.transport());
    fetch(&source).await.unwrap();
    let protection = seen.lock().unwrap().take().unwrap();
    assert_eq!(protection.issuer(), ISSUER);
    assert_eq!(protection.resource(), API);
    assert_eq!(protection.scope(), "notes:read notes:write");
}

#[tokio::test]
async fn closing_goes_to_the_source_that_was_made() {
    let web = web();
    let source = source(&web);
    // No source has been built yet, and none is built just to be closed.
    source.close(None).await.unwrap();
    assert!(web.take_lines().is_empty());
    let token = fetch(&source).await.unwrap();
    source.close(Some(token)).await.unwrap();
    let asked = web.asked().pop().unwrap();
    assert_eq!(line(&asked), "POST https://id.example.com/oauth/revoke");
    assert_eq!(asked.param("token").unwrap(), "issued");
}

#[tokio::test(start_paused = true)]
async fn a_hiccup_on_the_way_passes_within_the_fetch() {
    let web = web();
    web.put(METADATA, Page::new(502));
    let cache = paused(source(&web)).build();
    let caller = tokio::spawn(cache.token());
    run_until_idle().await;
    assert_eq!(web.times(&format!("GET {METADATA}")), 1);
    web.put(METADATA, Page::json(200, metadata()));
    assert_eq!(caller.await.unwrap().unwrap().secret(), "issued");
}
