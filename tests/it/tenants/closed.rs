//! Tenants that are closed when they are evicted, and tenants that the user removes.

use std::time::Duration;

use tokio::time::advance;
use tokio_test::{assert_pending, task};
use tower_auth::cache::Phase;
use tower_auth_test::run_until_idle;

use super::{Servers, Tenant, cache_of, evict, one_place};
use crate::support::issued;

#[tokio::test]
async fn an_eviction_revokes_nothing_unless_asked() {
    for asked in [false, true] {
        let (tenants, servers, mut fetches) = one_place(asked);
        let slow = cache_of(&tenants, "slow");
        issued(&mut fetches, &slow, "last", Duration::from_secs(3600)).await;
        evict(&tenants).await;
        run_until_idle().await;
        let closed: &[&str] = if asked { &["last"] } else { &[] };
        assert_eq!(servers.closed_with(), closed);
        assert_eq!(slow.token().await.is_err_and(|e| e.is_closed()), asked);

        // A closed tenant comes back with a new cache.
        if asked {
            let again = cache_of(&tenants, "slow");
            issued(&mut fetches, &again, "new", Duration::from_secs(3600)).await;
        }
    }
}

#[tokio::test]
async fn a_tenant_that_is_closed_as_it_is_evicted_is_closed_when_its_fetch_has_completed() {
    let (tenants, servers, mut fetches) = one_place(true);
    let mut waiting = task::spawn(cache_of(&tenants, "slow").token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    evict(&tenants).await;
    run_until_idle().await;
    assert_eq!(servers.closed_with(), [""; 0]);
    fetch.issue("last");
    assert_eq!(waiting.await.unwrap().secret(), "last");
    run_until_idle().await;
    assert_eq!(servers.closed_with(), ["last"]);
}

#[tokio::test]
async fn a_tenant_that_is_back_before_its_fetch_has_completed_is_not_closed() {
    let (tenants, servers, mut fetches) = one_place(true);
    let mut waiting = task::spawn(cache_of(&tenants, "slow").token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    evict(&tenants).await;
    run_until_idle().await;
    let back = cache_of(&tenants, "slow");
    fetch.issue("token");
    assert_eq!(waiting.await.unwrap().secret(), "token");
    run_until_idle().await;
    // `slow` is back, so the other tenant was evicted.
    assert_eq!(tenants.len(), 1);
    run_until_idle().await;
    assert_eq!(servers.closed_with(), ["other-1"]);
    assert_eq!(back.token().await.unwrap().secret(), "token");
}

/// The fetch never completes, because its runtime is gone or nobody drives it.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_never_completes_does_not_keep_its_tenant_from_being_closed() {
    let (tenants, servers, mut fetches) = one_place(true);
    let elsewhere = crate::support::runtime();
    let mut waiting = task::spawn(cache_of(&tenants, "slow").token());
    {
        let _guard = elsewhere.enter();
        assert_pending!(waiting.poll());
    }
    assert!(fetches.try_next().is_none());
    evict(&tenants).await;
    run_until_idle().await;
    assert_eq!(servers.closed_with(), [""; 0]);
    // First the fetch timeout passes, and then the close timeout.
    advance(Duration::from_secs(31)).await;
    run_until_idle().await;
    advance(Duration::from_secs(6)).await;
    run_until_idle().await;
    assert_eq!(servers.closed_with(), ["nothing"]);
    elsewhere.shutdown_background();
}

#[test]
fn outside_of_a_runtime_who_is_evicted_is_closed_and_its_source_is_not_told() {
    let (tenants, servers, _fetches) = one_place(true);
    let slow = cache_of(&tenants, "slow");
    cache_of(&tenants, "other");
    assert_eq!(tenants.len(), 1);
    assert_eq!(slow.status().phase(), Phase::Closed);
    assert_eq!(servers.closed_with(), [""; 0]);
}

#[tokio::test]
async fn who_is_removed_is_made_again_and_nothing_is_closed_by_itself() {
    let servers = Servers::default();
    let tenants = servers.tenants().close_on_eviction(true).build();
    let before = cache_of(&tenants, "acme");
    before.token().await.unwrap();
    let removed = tenants.remove(&Tenant("acme")).unwrap();
    assert!(tenants.is_empty());
    assert!(tenants.remove(&Tenant("acme")).is_none());
    run_until_idle().await;
    assert_eq!(servers.closed_with(), [""; 0]);

    // `before` and `removed` still refer to the removed tenant's cache.
    let after = cache_of(&tenants, "acme");
    assert_eq!(after.token().await.unwrap().secret(), "acme-2");
    assert_eq!(before.token().await.unwrap().secret(), "acme-1");
    removed.cache().close().await;
    assert_eq!(servers.closed_with(), ["acme-1"]);
    assert_eq!(before.status().phase(), Phase::Closed);
    assert_eq!(after.status().phase(), Phase::Fresh);
}

#[tokio::test]
async fn who_is_removed_after_it_went_is_made_again_as_well() {
    let (tenants, _, mut fetches) = one_place(false);
    let before = cache_of(&tenants, "slow");
    issued(&mut fetches, &before, "old", Duration::from_secs(3600)).await;
    evict(&tenants).await;
    assert!(tenants.remove(&Tenant("slow")).is_none());
    let after = cache_of(&tenants, "slow");
    issued(&mut fetches, &after, "new", Duration::from_secs(3600)).await;
}
