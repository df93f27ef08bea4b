//! Runs a source from its first fetch to its close while the allocator looks for secrets.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tower::{Layer, ServiceExt};
use tower_auth::cache::Clock;
use tower_auth::{AuthLayer, Error, TokenCache, TokenSource};
use tower_auth_freed::{FreedSecret, join_watch, unwatched, watch};

use crate::planted::needles;
use crate::responses::ALL;
use crate::server::{Api, Server, request};

/// The number of found blocks after which a test stops.
const ENOUGH: usize = 40;

/// Makes the source fetch, refresh, get refusals, replay and close. Repeats this for each unusual
/// response and each of the first three token requests, which gets this response.
#[track_caller]
pub(crate) fn drive<S>(make: impl AsyncFn(Server) -> Result<S, Error>)
where
    S: TokenSource,
{
    let mut found = Vec::new();
    for (name, unusual) in ALL {
        for at in 0..3 {
            let freed = watch(needles(), || live(&make, Server::new(*unusual, at)));
            found.extend(freed.into_iter().map(|it| (*name, it)));
            if found.len() > ENOUGH {
                assert_none(found);
                return;
            }
        }
    }
    assert_none(found);
}

fn live<S>(make: &impl AsyncFn(Server) -> Result<S, Error>, server: Server)
where
    S: TokenSource,
{
    paused_time().block_on(async {
        match make(server).await {
            Ok(source) => use_layer(layer(source)).await,
            Err(error) => show(&error),
        }
    });
}

/// Watches work that isn't the whole run of a source.
#[track_caller]
pub(crate) fn watched(work: impl AsyncFnOnce()) {
    let found = watch(needles(), || paused_time().block_on(work()));
    assert_none(found.into_iter().map(|it| ("", it)).collect());
}

/// Does the same as [`watched`], for work with a real server. Paused time would jump to the end of
/// each timeout.
#[track_caller]
pub(crate) fn watched_in_real_time(work: impl AsyncFnOnce()) {
    let found = watch(needles(), || real_time().block_on(work()));
    assert_none(found.into_iter().map(|it| ("", it)).collect());
}

pub(crate) fn layer(source: impl TokenSource) -> AuthLayer {
    let cache = TokenCache::builder(source).fetch_attempts(1).jitter(0.0);
    AuthLayer::from(cache.clock(Clock::tokio()).build()).any_https()
}

/// Sends requests until each state of a token has occurred.
pub(crate) async fn use_layer(layer: AuthLayer) {
    let client = layer.layer(Api::default());
    for wait in [0, 0, 45, 30, 60] {
        tokio::time::sleep(Duration::from_secs(60 * wait)).await;
        match client.clone().oneshot(request()).await {
            Ok(response) => drop(response),
            Err(error) => show(error.downcast_ref().unwrap()),
        }
    }
    layer.cache().close().await;
}

fn show(error: &Error) {
    drop(format!("{error} {error:?}"));
}

fn paused_time() -> Runtime {
    runtime().start_paused(true).build().unwrap()
}

pub(crate) fn real_time() -> Runtime {
    runtime().build().unwrap()
}

fn runtime() -> Builder {
    let mut builder = Builder::new_current_thread();
    // Also watches the threads that read and write files.
    builder.on_thread_start(join_watch).enable_all();
    builder
}

/// Fails if a secret was freed. The message shows each place once, with a response that led there.
#[track_caller]
fn assert_none(found: Vec<(&str, FreedSecret)>) {
    let mut places: BTreeMap<Vec<String>, (String, usize)> = BTreeMap::new();
    for (response, freed) in found {
        let place = freed.freed_by.iter().take(3).cloned().collect();
        let first = || (format!("{response}: {freed}"), 0);
        places.entry(place).or_insert_with(first).1 += 1;
    }
    let lines = places
        .values()
        .map(|(first, count)| format!("{count} × {first}\n"));
    let lines: String = lines.collect();
    assert!(places.is_empty(), "secrets in freed memory:\n{lines}");
}

#[test]
fn the_allocator_finds_a_secret_that_is_not_zeroized() {
    use secrecy::SecretString;

    let freed = |work: fn(&str)| {
        let secret = crate::planted::text("plain");
        watch(needles(), || work(&secret)).len()
    };
    assert_eq!(freed(|secret| drop(secret.to_owned())), 1);
    assert_eq!(freed(|secret| drop(SecretString::from(secret))), 0);
    // A buffer that grows leaves its first part.
    let grow = |secret: &str| {
        let mut buffer = secrecy::zeroize::Zeroizing::new(secret.to_owned());
        buffer.push_str(secret);
    };
    assert_eq!(freed(grow), 1);
    // `SecretString::from` shrinks a buffer that has room left.
    let shrink = |secret: &str| {
        let mut buffer = String::with_capacity(2 * secret.len());
        buffer.push_str(secret);
        drop(SecretString::from(buffer));
    };
    assert_eq!(freed(shrink), 1);
    assert_eq!(freed(|secret| unwatched(|| drop(secret.to_owned()))), 0);
    let thread = |secret: &str| {
        let secret = secret.to_owned();
        let thread = std::thread::spawn(move || {
            join_watch();
            drop(secret);
        });
        thread.join().unwrap();
    };
    assert_eq!(freed(thread), 1);
}
