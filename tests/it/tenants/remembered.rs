//! A client that is used again for the same tenant remembers that tenant, but misses nothing that
//! happens to it.

use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio_test::{assert_pending, task};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::Token;
use tower_auth::cache::Phase;
use tower_auth::tenants::Tenants;
use tower_auth_test::{Api, run_until_idle};
use tower_service::Service;

use super::{Lives, Servers, Tenant, cache_of, evict, of, one_place, own, watched};
use crate::support::{call, issued, request};

/// A client whose response repeats the credential.
fn echo()
-> impl Service<Request<Full<Bytes>>, Response = Response<String>, Error = Infallible, Future: Send>
+ Clone {
    service_fn(|request: Request<Full<Bytes>>| async move {
        let sent = request.headers()["authorization"].to_str().unwrap();
        Ok::<_, Infallible>(Response::new(sent.to_owned()))
    })
}

/// Sends requests until the client remembers their tenant.
async fn settle<S>(client: &mut S, tenant: &'static str)
where
    S: Service<Request<Full<Bytes>>>,
    S::Error: std::fmt::Debug,
{
    for _ in 0..4 {
        call(client, of(tenant)).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_used_again_for_a_tenant_asks_no_more_for_it() {
    let (hashed, tenants) = counting();
    let mut client = tenants.by_extension().layer(echo());
    let of = |key| {
        let mut request = request("");
        request
            .extensions_mut()
            .insert(Counted(key, hashed.clone()));
        request
    };
    for _ in 0..4 {
        let response = call(&mut client, of(1)).await.unwrap();
        assert_eq!(response.body(), "Bearer 1");
    }
    let before = hashed.load(Ordering::SeqCst);
    // These requests come within the time for which a remembered tenant isn't looked up.
    for _ in 0..10 {
        let response = call(&mut client, of(1)).await.unwrap();
        assert_eq!(response.body(), "Bearer 1");
    }
    let asked = hashed.load(Ordering::SeqCst) - before;
    assert!(asked < 10, "{asked}");
}

/// A key that counts how often it is hashed, which is at least once per lookup. All keys have the
/// same hash.
#[derive(Clone)]
struct Counted(u64, Arc<AtomicUsize>);

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Counted {}

impl Hash for Counted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.1.fetch_add(1, Ordering::SeqCst);
        state.write_u64(0);
    }
}

fn counting() -> (Arc<AtomicUsize>, Tenants<Counted>) {
    let tenants = Tenants::new(|key: &Counted| {
        let secret = key.0.to_string();
        Ok(crate::support::layer(move |_| {
            std::future::ready(Token::bearer(secret.clone()))
        }))
    });
    (Arc::default(), tenants)
}

#[tokio::test]
async fn two_tenants_of_one_hash_are_two() {
    let (hashed, tenants) = counting();
    let mut client = tenants.by_extension().layer(echo());
    for key in [1, 1, 1, 1, 2, 1, 2, 2, 2, 2, 1] {
        let mut request = request("");
        request
            .extensions_mut()
            .insert(Counted(key, hashed.clone()));
        let response = call(&mut client, request).await.unwrap();
        assert_eq!(response.into_body(), format!("Bearer {key}"));
    }
    assert_eq!(tenants.len(), 2);
}

#[tokio::test]
async fn tenants_by_turns_through_one_client_have_each_their_own_credential() {
    let servers = Servers::default();
    let mut client = servers.tenants().build().by_extension().layer(echo());
    for run in [1, 2, 3, 4, 5] {
        for tenant in ["acme", "globex"] {
            for _ in 0..run {
                let response = call(&mut client, of(tenant)).await.unwrap();
                assert_eq!(response.into_body(), format!("Bearer {tenant}-1"));
            }
        }
    }
    assert_eq!(servers.made(), 2);
}

#[tokio::test]
async fn a_removal_is_seen_by_the_next_request_of_a_client_on_another_thread() {
    let servers = Servers::default();
    let tenants = servers.tenants().build();
    let mut client = tenants.by_extension().layer(echo());
    for number in 1..=5 {
        settle(&mut client, "acme").await;
        let removing = tenants.clone();
        let removed = thread::spawn(move || removing.remove(&Tenant("acme")).is_some());
        assert!(removed.join().unwrap());
        let response = call(&mut client, of("acme")).await.unwrap();
        assert_eq!(response.into_body(), format!("Bearer acme-{}", number + 1));
    }
}

#[tokio::test]
async fn a_removal_between_the_first_requests_of_a_client_is_seen() {
    for requests in 0..4 {
        let servers = Servers::default();
        let tenants = servers.tenants().build();
        let mut client = tenants.by_extension().layer(echo());
        for _ in 0..requests {
            call(&mut client, of("acme")).await.unwrap();
        }
        let issued = servers.issued("acme");
        tenants.remove(&Tenant("acme"));
        let response = call(&mut client, of("acme")).await.unwrap();
        assert_eq!(response.into_body(), format!("Bearer acme-{}", issued + 1));
    }
}

#[tokio::test]
async fn an_eviction_is_seen_by_a_client_that_remembers_the_tenant() {
    let servers = Servers::default();
    let tenants = servers.tenants().capacity(1).build();
    let mut client = tenants.by_extension().layer(echo());
    settle(&mut client, "acme").await;
    let handle = cache_of(&tenants, "acme");
    evict(&tenants).await;
    // `acme` is used again and counts towards the capacity, so the other tenant is evicted.
    let response = call(&mut client, of("acme")).await.unwrap();
    assert_eq!(response.into_body(), "Bearer acme-1");
    assert_eq!((tenants.len(), servers.made()), (1, 3));
    assert_eq!(servers.issued("acme"), 1);
    // The client and the handle share one cache, so the client notices the refusal.
    handle.reject(&handle.token().await.unwrap());
    let response = call(&mut client, of("acme")).await.unwrap();
    assert_eq!(response.into_body(), "Bearer acme-2");
    assert_eq!(servers.made(), 3);
}

#[tokio::test]
async fn an_eviction_that_closes_is_seen_by_a_client_that_remembers_the_tenant() {
    let servers = Servers::default();
    let tenants = servers
        .tenants()
        .capacity(1)
        .close_on_eviction(true)
        .build();
    let mut client = tenants.by_extension().layer(echo());
    settle(&mut client, "acme").await;
    evict(&tenants).await;
    run_until_idle().await;
    assert_eq!(servers.closed_with(), ["acme-1"]);
    let response = call(&mut client, of("acme")).await.unwrap();
    assert_eq!(response.into_body(), "Bearer acme-2");
}

#[tokio::test]
async fn a_fetch_that_a_remembered_tenants_refusal_began_is_joined_after_its_eviction() {
    let (tenants, _, mut fetches) = one_place(false);
    let api = Api::accepting(["old"]);
    let mut client = tenants.by_extension().layer(api.clone());
    let slow = cache_of(&tenants, "slow");
    issued(&mut fetches, &slow, "old", Duration::from_secs(3600)).await;
    settle(&mut client, "slow").await;
    drop(slow);
    api.revoke("old");
    api.accept("new");
    let mut first = task::spawn(client.call(of("slow")));
    assert_pending!(first.poll());
    let fetch = fetches.next().await;
    evict(&tenants).await;
    let mut second = task::spawn(client.call(of("slow")));
    assert_pending!(second.poll());
    fetches.assert_none().await;
    fetch.issue("new");
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
    assert_eq!(second.await.unwrap().status(), StatusCode::OK);
    fetches.assert_none().await;
}

/// `globex` was looked up after `acme`, but `acme` was used last.
#[tokio::test]
async fn with_few_tenants_a_remembered_one_keeps_its_place_among_those_used_last() {
    let servers = Servers::default();
    let tenants = servers.tenants().capacity(2).build();
    let mut client = tenants.by_extension().layer(echo());
    cache_of(&tenants, "globex");
    settle(&mut client, "acme").await;
    tenants.len();
    cache_of(&tenants, "globex");
    // This call lets moka process the use of `globex` before that of `acme`.
    tenants.len();
    call(&mut client, of("acme")).await.unwrap();
    tenants.len();
    cache_of(&tenants, "new");
    assert_eq!((tenants.len(), servers.made()), (2, 3));
    call(&mut client, of("acme")).await.unwrap();
    assert_eq!(servers.made(), 3);
    cache_of(&tenants, "globex");
    assert_eq!(servers.made(), 4);
}

#[tokio::test]
async fn with_many_tenants_a_remembered_one_outlasts_those_used_before_the_last_newcomer() {
    const PLACES: u64 = 100;
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let tenants = Tenants::builder(move |_: &u64| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(crate::support::layer(|_| async { Token::bearer("secret") }))
    });
    let tenants = tenants.capacity(PLACES).build();
    let mut client = tenants.by_extension().layer(echo());
    let of_first = || {
        let mut request = request("");
        request.extensions_mut().insert(0_u64);
        request
    };
    for _ in 0..4 {
        call(&mut client, of_first()).await.unwrap();
    }
    for newcomer in 1..3 * PLACES {
        drop(tenants.get(&newcomer).unwrap());
        call(&mut client, of_first()).await.unwrap();
        tenants.len();
    }
    assert_eq!(made.load(Ordering::SeqCst) as u64, 3 * PLACES);
}

/// moka's clock can't be paused, so this test is busy for three times the idle time. The test
/// starts again after an interruption by the machine.
#[tokio::test]
async fn a_tenant_in_use_through_one_client_is_not_idle() {
    const IDLE: Duration = Duration::from_millis(400);
    for _ in 0..50 {
        let servers = Servers::default();
        let tenants = servers.tenants().idle(IDLE).build();
        let mut client = tenants.by_extension().layer(echo());
        settle(&mut client, "acme").await;
        let start = Instant::now();
        let (mut last, mut longest) = (start, Duration::ZERO);
        while start.elapsed() < 3 * IDLE {
            call(&mut client, of("acme")).await.unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        if longest < IDLE / 2 {
            assert_eq!((tenants.len(), servers.made()), (1, 1));
            return;
        }
    }
    panic!("the machine is too busy to tell");
}

/// If the client remembered a tenant without an idle time, that tenant would never be evicted.
#[tokio::test]
async fn a_tenant_whose_idle_time_is_no_time_is_asked_for_each_time() {
    let servers = Servers::default();
    let tenants = servers.tenants().idle(Duration::ZERO).build();
    let mut client = tenants.by_extension().layer(echo());
    settle(&mut client, "acme").await;
    assert_eq!(servers.made(), 4);
}

#[tokio::test]
async fn an_idle_client_does_not_keep_the_cache_of_an_evicted_tenant() {
    let alive = Lives::default();
    let tenants = watched::<Tenant>(&alive).capacity(1).build();
    let mut client = tenants.by_extension().layer(echo());
    settle(&mut client, "acme").await;
    evict(&tenants).await;
    let first = alive.lock().unwrap()[0].clone();
    // moka drops an evicted tenant slightly later than it reports the eviction.
    for _ in 0..1_000_000 {
        tenants.len();
        drop(tenants.get(&Tenant("other")));
        if first.strong_count() == 0 {
            break;
        }
    }
    assert_eq!(first.strong_count(), 0);
    settle(&mut client, "acme").await;
}

#[tokio::test]
async fn a_refreshed_token_is_sent_by_a_client_that_remembers_the_tenant() {
    let servers = Servers::default();
    let tenants = servers.tenants().build();
    let mut client = tenants.by_extension().layer(echo());
    for number in 1..5 {
        settle(&mut client, "acme").await;
        cache_of(&tenants, "acme").refresh_now().await.unwrap();
        let response = call(&mut client, of("acme")).await.unwrap();
        assert_eq!(response.into_body(), format!("Bearer acme-{}", number + 1));
    }
}

#[tokio::test]
async fn a_closed_cache_is_seen_by_a_client_that_remembers_the_tenant() {
    let servers = Servers::default();
    let tenants = servers.tenants().build();
    let mut client = tenants.by_extension().layer(echo());
    settle(&mut client, "acme").await;
    let cache = cache_of(&tenants, "acme");
    cache.close().await;
    assert_eq!(cache.status().phase(), Phase::Closed);
    let error = call(&mut client, of("acme")).await.unwrap_err();
    assert!(own(error).is_closed());
}

#[tokio::test]
async fn a_request_of_a_remembered_tenant_that_is_not_sent_gives_its_permit_back() {
    let servers = Servers::default();
    let tenants = servers.tenants().build();
    let limited = tower::ServiceBuilder::new()
        .concurrency_limit(1)
        .service(echo());
    let mut other = limited.clone();
    let mut client = tenants.by_extension().layer(limited);
    settle(&mut client, "acme").await;
    let mut elsewhere = of("acme");
    *elsewhere.uri_mut() = "http://api.example.com/".parse().unwrap();
    let failing = client.ready().await.unwrap().call(elsewhere);
    let mut ready = task::spawn(async { other.ready().await.map(drop) });
    assert!(ready.poll().is_ready());
    drop(ready);
    other = client.get_ref().clone();
    assert!(own(failing.await.unwrap_err()).is_origin());
    drop(other);
}
