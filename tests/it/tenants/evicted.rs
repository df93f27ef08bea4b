//! A tenant is evicted when it is idle or the capacity is exceeded. A tenant that comes back gets
//! its fetch in flight again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt};
use tower_auth::cache::Phase;
use tower_auth::tenants::Tenants;
use tower_auth_test::{Api, controlled_source};

use super::{Lives, Servers, Tenant, cache_of, evict, of, one_place, watched};
use crate::support::{credentials, issued};

#[tokio::test]
async fn who_was_asked_for_longest_ago_goes_and_a_newcomer_is_kept() {
    let servers = Servers::default();
    let tenants = servers.tenants().capacity(2).build();
    for _ in 0..50 {
        for name in ["acme", "globex"] {
            cache_of(&tenants, name).token().await.unwrap();
        }
    }
    assert_eq!(tenants.len(), 2);
    cache_of(&tenants, "acme");
    tenants.len();
    cache_of(&tenants, "new");
    assert_eq!(tenants.len(), 2);
    assert_eq!(servers.made(), 3);
    for name in ["new", "acme"] {
        cache_of(&tenants, name);
    }
    assert_eq!((tenants.len(), servers.made()), (2, 3));
    cache_of(&tenants, "globex");
    assert_eq!(servers.made(), 4);
}

#[tokio::test]
async fn there_is_always_place_for_one() {
    let servers = Servers::default();
    let tenants = servers.tenants().capacity(0).build();
    for _ in 0..3 {
        cache_of(&tenants, "acme").token().await.unwrap();
    }
    assert_eq!((servers.made(), servers.issued("acme")), (1, 1));
}

#[tokio::test]
async fn a_fetch_in_flight_outlives_the_eviction_of_its_tenant_and_the_next_request_joins_it() {
    let (tenants, _, mut fetches) = one_place(false);
    let api = Api::accepting(["token"]);
    let client = tenants.by_extension().layer(api.clone());
    let mut first = task::spawn(client.clone().oneshot(of("slow")));
    assert_pending!(first.poll());
    let fetch = fetches.next().await;
    // The caller that started the fetch leaves, and the tenant is evicted. Only the fetch still
    // exists.
    drop(first);
    evict(&tenants).await;

    let mut second = task::spawn(client.clone().oneshot(of("slow")));
    assert_pending!(second.poll());
    fetches.assert_none().await;
    fetch.issue("token");
    assert_eq!(second.await.unwrap().status(), StatusCode::OK);
    assert_eq!(credentials(&api), ["Bearer token"]);
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_fetch_in_flight_outlives_one_eviction_after_the_other() {
    let (tenants, _, mut fetches) = one_place(false);
    let first = cache_of(&tenants, "slow");
    let mut waiting = task::spawn(first.token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    drop((waiting, first));
    let mut joined = Vec::new();
    for _ in 0..5 {
        evict(&tenants).await;
        let mut waiting = task::spawn(cache_of(&tenants, "slow").token());
        assert_pending!(waiting.poll());
        joined.push(waiting);
    }
    fetches.assert_none().await;
    fetch.issue("token");
    for waiting in joined {
        assert_eq!(waiting.await.unwrap().secret(), "token");
    }
    fetches.assert_none().await;
}

/// With an idle time of zero, each tenant is evicted right after its use.
#[tokio::test]
async fn a_fetch_in_flight_outlives_the_idle_time_of_its_tenant() {
    let (source, mut fetches) = controlled_source();
    let (source, made) = (Arc::new(source), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&made);
    let tenants = Tenants::builder(move |_: &Tenant| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(crate::support::layer(Arc::clone(&source)))
    });
    let tenants = tenants.idle(Duration::ZERO).build();
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut waiting = task::spawn(cache_of(&tenants, "acme").token());
        assert_pending!(waiting.poll());
        callers.push(waiting);
        assert!(tenants.is_empty());
    }
    // These two calls run without moka's housekeeping in between.
    let mut waiting = task::spawn(cache_of(&tenants, "acme").token());
    assert_pending!(waiting.poll());
    callers.push(waiting);
    let mut waiting = task::spawn(cache_of(&tenants, "acme").token());
    assert_pending!(waiting.poll());
    callers.push(waiting);
    assert_eq!(made.load(Ordering::SeqCst), 5);

    fetches.next().await.issue("token");
    for waiting in callers {
        assert_eq!(waiting.await.unwrap().secret(), "token");
    }
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_tenant_who_went_and_of_whom_somebody_has_a_handle_has_no_second_cache() {
    let (tenants, _, mut fetches) = one_place(false);
    let handle = cache_of(&tenants, "slow");
    issued(&mut fetches, &handle, "token", Duration::from_secs(3600)).await;
    evict(&tenants).await;
    let again = cache_of(&tenants, "slow");
    assert_eq!(again.token().await.unwrap().secret(), "token");
    // Both handles belong to the same cache, so each sees the other's refusals.
    again.reject(&again.token().await.unwrap());
    assert!(!handle.status().is_ready());
    fetches.assert_none().await;
}

#[tokio::test]
async fn a_tenant_who_went_and_was_closed_by_hand_is_not_found_again() {
    let (tenants, _, mut fetches) = one_place(false);
    let handle = cache_of(&tenants, "slow");
    evict(&tenants).await;
    handle.close().await;
    let again = cache_of(&tenants, "slow");
    assert_eq!(again.status().phase(), Phase::Empty);
    issued(&mut fetches, &again, "token", Duration::from_secs(3600)).await;
}

#[tokio::test]
async fn a_tenant_who_went_and_is_still_closing_is_not_found_again() {
    let (tenants, _, mut fetches) = one_place(false);
    let handle = cache_of(&tenants, "slow");
    let mut waiting = task::spawn(handle.token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    evict(&tenants).await;
    let mut close = task::spawn(handle.close());
    assert_pending!(close.poll());
    assert_eq!(handle.status().phase(), Phase::Closing);
    let again = cache_of(&tenants, "slow");
    assert_eq!(again.status().phase(), Phase::Empty);
    fetch.issue("last");
    close.await;
}

#[tokio::test]
async fn nobody_holds_on_to_a_tenant_who_went() {
    let alive = Lives::default();
    let tenants = watched::<usize>(&alive).capacity(1).build();
    let alive = || {
        let alive = alive.lock().unwrap();
        alive.iter().filter(|life| life.strong_count() > 0).count()
    };
    for number in 0..100 {
        tenants.get(&number).unwrap().cache().token().await.unwrap();
    }
    // moka drops evicted tenants slightly later than it reports their eviction.
    for _ in 0..1_000_000 {
        tenants.len();
        drop(tenants.get(&99));
        if alive() == 1 {
            break;
        }
    }
    assert_eq!(alive(), 1);
}
