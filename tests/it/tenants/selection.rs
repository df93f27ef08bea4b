//! Which tenant a request belongs to, and what is built for a new tenant.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::tenants::Tenants;
use tower_auth::{Error, Token};
use tower_auth_test::{Api, ScriptedSource};
use tower_service::Service;
use tower_test::mock;

use super::{Servers, Tenant, cache_of, of, own};
use crate::support::{call, credentials, request};

#[tokio::test]
async fn each_request_carries_the_credential_of_its_tenant() {
    let servers = Servers::default();
    let api = Api::accepting(["acme-1", "globex-1"]);
    let mut client = servers.tenants().build().by_extension().layer(api.clone());
    for tenant in ["acme", "globex", "acme", "globex"] {
        let response = call(&mut client, of(tenant)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let acme_and_globex = ["Bearer acme-1", "Bearer globex-1"];
    assert_eq!(credentials(&api), acme_and_globex.repeat(2));
    assert_eq!((servers.made(), servers.issued("acme")), (2, 1));
}

#[tokio::test]
async fn a_request_that_a_clone_sends_carries_the_credential_of_its_tenant() {
    let servers = Servers::default();
    let api = Api::accepting(["acme-1", "globex-1"]);
    let client = servers.tenants().build().by_extension().layer(api.clone());
    for tenant in ["acme", "globex"] {
        let response = client.send(of(tenant)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!(credentials(&api), ["Bearer acme-1", "Bearer globex-1"]);
}

#[tokio::test]
async fn a_refusal_of_one_tenants_token_replaces_that_of_no_other() {
    let servers = Servers::default();
    let api = Api::accepting(["acme-1", "globex-1"]);
    let mut client = servers.tenants().build().by_extension().layer(api.clone());
    for tenant in ["acme", "globex"] {
        call(&mut client, of(tenant)).await.unwrap();
    }
    api.revoke("acme-1");
    api.accept("acme-2");
    for tenant in ["acme", "globex"] {
        let response = call(&mut client, of(tenant)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    assert_eq!((servers.issued("acme"), servers.issued("globex")), (2, 1));
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_closure_says_whose_a_request_is() {
    let tenants = Servers::default().tenants().build();
    let by_path = tenants.by(|request: &reqwest::Request| match request.url().path() {
        "/acme/v1" => Some(Tenant("acme")),
        "/globex/v1" => Some(Tenant("globex")),
        _ => None,
    });
    let client = by_path.layer(service_fn(|request: reqwest::Request| async move {
        let sent = request.headers()["authorization"].clone();
        Ok::<_, Infallible>(Response::new(sent))
    }));
    let of = |path| {
        let url = format!("https://api.example.com/{path}").parse().unwrap();
        client
            .clone()
            .oneshot(reqwest::Request::new(http::Method::GET, url))
    };
    assert_eq!(of("acme/v1").await.unwrap().body(), "Bearer acme-1");
    assert_eq!(of("globex/v1").await.unwrap().body(), "Bearer globex-1");
    assert!(own(of("nobody/v1").await.unwrap_err()).is_config());
}

#[tokio::test]
async fn a_request_without_a_tenant_is_an_error_that_says_what_to_do_and_nothing_is_sent() {
    let (servers, api) = (Servers::default(), Api::default());
    let tenants = servers.tenants().build();
    let mut client = tenants.by_extension().layer(api.clone());
    let mut keyless = request("");
    // A request with its own credential needs a tenant too.
    let own_credential = "Bearer own".parse().unwrap();
    keyless
        .headers_mut()
        .insert("authorization", own_credential);
    for request in [request(""), keyless] {
        let error = own(call(&mut client, request).await.unwrap_err());
        assert!(error.is_config());
        let text = error.to_string();
        for part in ["Tenant", "`Tenants::by_extension`", "`Tenants::by`"] {
            assert!(text.contains(part), "{text}");
        }
    }
    assert_eq!((api.requests().len(), servers.made()), (0, 0));
    assert!(tenants.is_empty());
}

#[tokio::test]
async fn a_request_that_is_not_sent_gives_its_permit_back() {
    let tenants = Tenants::new(|_: &Tenant| Err(Error::other("no such tenant")));
    let limited = ServiceBuilder::new()
        .concurrency_limit(1)
        .service(service_fn(|_: Request<Full<Bytes>>| async {
            Ok::<_, Infallible>(Response::new("done"))
        }));
    let mut other = limited.clone();
    let mut client = tenants.by_extension().layer(limited);
    for request in [request(""), of("nobody")] {
        let mut failing = task::spawn(client.ready().await.unwrap().call(request));
        let mut ready = task::spawn(async { other.ready().await.map(drop) });
        assert_ready_ok!(ready.poll());
        drop(ready);
        other = client.get_ref().clone();
        assert_ready_err!(failing.poll());
    }
}

/// A `tower_test` mock panics if a call goes to a clone that wasn't polled ready.
#[tokio::test]
async fn the_clone_that_is_ready_is_the_one_that_is_called() {
    type Mocked = mock::Mock<Request<Full<Bytes>>, Response<&'static str>>;
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    let tenants = Servers::default().tenants().build();
    cache_of(&tenants, "acme").token().await.unwrap();
    let mut client = tenants.by_extension().layer(mocked);
    for _ in 0..3 {
        handle.allow(1);
        let mut response = task::spawn(client.ready().await.unwrap().call(of("acme")));
        assert_pending!(response.poll());
        let (request, send) = handle.next_request().await.unwrap();
        assert_eq!(request.headers()["authorization"], "Bearer acme-1");
        send.send_response(Response::new("done"));
        assert_eq!(response.await.unwrap().into_body(), "done");
    }
}

#[tokio::test]
async fn a_tenant_that_cannot_be_made_is_an_error_for_who_asks_and_nothing_is_kept() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let tenants = Tenants::builder(
        move |_: &Tenant| match count.fetch_add(1, Ordering::SeqCst) {
            1 => Err(Error::other("the database is down")),
            _ => Ok(crate::support::layer(ScriptedSource::default())),
        },
    );
    let (tenants, api) = (tenants.capacity(1).build(), Api::accepting(["token-1"]));
    let mut client = tenants.by_extension().layer(api.clone());
    call(&mut client, of("acme")).await.unwrap();

    let error = own(call(&mut client, of("globex")).await.unwrap_err());
    assert!(error.is_source());
    // The tenant that failed evicted no other, although there is room for only one.
    assert_eq!((tenants.len(), api.requests().len()), (1, 1));
    call(&mut client, of("acme")).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    call(&mut client, of("globex")).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn a_tenant_is_made_once_for_all_who_ask_at_the_same_time() {
    const THREADS: usize = 8;
    let servers = Servers::default();
    let tenants = servers.tenants().build();
    let barrier = Barrier::new(THREADS);
    let caches: Vec<_> = std::thread::scope(|scope| {
        let asking = || {
            barrier.wait();
            cache_of(&tenants, "acme")
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(asking)).collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(servers.made(), 1);
    let runtime = crate::support::runtime();
    runtime.block_on(async {
        for cache in caches {
            assert_eq!(cache.token().await.unwrap().secret(), "acme-1");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn one_whose_server_hangs_and_one_whose_server_fails_delay_no_other() {
    const OTHERS: u64 = 1_000;
    let tenants = Tenants::new(|number: &u64| {
        let number = *number;
        Ok(crate::support::layer(move |_| async move {
            match number {
                0 => pending().await,
                1 => Err(Error::other("no such client")),
                _ => Token::bearer(format!("token-{number}")),
            }
        }))
    });
    let api = Api::default();
    for number in 2..OTHERS {
        api.accept(format!("token-{number}"));
    }
    let client = tenants.by_extension().layer(api.clone());
    let of = |number: u64| {
        let mut request = request("");
        request.extensions_mut().insert(number);
        client.clone().oneshot(request)
    };
    let start = Instant::now();
    let mut hanging = task::spawn(of(0));
    assert_pending!(hanging.poll());
    assert!(own(of(1).await.unwrap_err()).is_source());
    for response in join_all((2..OTHERS).map(&of)).await {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    // No request waited for the hanging one, so the paused time didn't move.
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_pending!(hanging.poll());
    assert!(own(of(1).await.unwrap_err()).is_source());

    advance(Duration::from_secs(30)).await;
    assert!(own(hanging.await.unwrap_err()).is_timeout());
}
