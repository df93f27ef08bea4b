//! Many tenants behind one layer: whose request it is, who is made and who goes, and that none is in
//! another's way.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_auth::{
    AuthLayer, BoxError, Error, Origin, Phase, Reason, Tenants, TenantsBuilder, Token, TokenCache,
    TokenSource,
};
use tower_service::Service;
use tower_test::mock;

use crate::support::{Api, Counting, Fetches, call, request, settle, source};

/// The key of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant(&'static str);

/// A request of a tenant.
fn of(tenant: &'static str) -> Request<Full<Bytes>> {
    let mut request = request("");
    request.extensions_mut().insert(Tenant(tenant));
    request
}

/// Authorization servers of all tenants. Each issues `name-1`, `name-2`, …, and writes down with which
/// token it was closed.
#[derive(Clone, Default)]
struct Servers {
    issued: Arc<Mutex<HashMap<&'static str, usize>>>,
    made: Arc<AtomicUsize>,
    closed_with: Arc<Mutex<Vec<String>>>,
}

struct Server {
    name: &'static str,
    servers: Servers,
}

impl Servers {
    fn tenants(&self) -> TenantsBuilder<Tenant> {
        let servers = self.clone();
        Tenants::builder(move |tenant: &Tenant| {
            servers.made.fetch_add(1, Ordering::SeqCst);
            Ok(AuthLayer::new(Server {
                name: tenant.0,
                servers: servers.clone(),
            }))
        })
    }

    fn issued(&self, name: &str) -> usize {
        self.issued.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    fn closed_with(&self) -> Vec<String> {
        self.closed_with.lock().unwrap().clone()
    }
}

impl TokenSource for Server {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        let mut issued = self.servers.issued.lock().unwrap();
        let number = issued.entry(self.name).or_insert(0);
        *number += 1;
        Token::bearer(format!("{}-{number}", self.name))
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let last = last.map_or("nothing".into(), |last| last.secret().to_owned());
        self.servers.closed_with.lock().unwrap().push(last);
        Ok(())
    }
}

/// Tenants of whom the first is `slow`, whose every fetch the test answers. There is place for one.
fn one_place(close: bool) -> (Tenants<Tenant>, Servers, Fetches) {
    let servers = Servers::default();
    let (source, fetches) = source();
    let (slow, others) = (Arc::new(Slow(source, servers.clone())), servers.clone());
    let tenants = Tenants::builder(move |tenant: &Tenant| {
        let servers = others.clone();
        let name = tenant.0;
        match name {
            "slow" => Ok(AuthLayer::new(Arc::clone(&slow))),
            _ => Ok(AuthLayer::new(Server { name, servers })),
        }
    });
    let tenants = tenants.capacity(1).close_on_eviction(close).build();
    (tenants, servers, fetches)
}

struct Slow<S>(S, Servers);

impl<S> TokenSource for Slow<S>
where
    S: TokenSource,
{
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.0.fetch(reason)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let last = last.map_or("nothing".into(), |last| last.secret().to_owned());
        self.1.closed_with.lock().unwrap().push(last);
        Ok(())
    }
}

/// Makes another tenant take the one place.
async fn put_out(tenants: &Tenants<Tenant>) {
    let other = tenants.get(&Tenant("other")).unwrap();
    other.cache().token().await.unwrap();
    assert_eq!(tenants.len(), 1);
}

fn kept(tenants: &Tenants<Tenant>, name: &'static str) -> TokenCache {
    tenants.get(&Tenant(name)).unwrap().cache().clone()
}

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
    assert_eq!(api.credentials(), acme_and_globex.repeat(2));
    assert_eq!((servers.made(), servers.issued("acme")), (2, 1));
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

fn own(error: BoxError) -> Error {
    *error.downcast().unwrap()
}

#[tokio::test]
async fn a_request_without_a_tenant_is_an_error_that_says_what_to_do_and_nothing_is_sent() {
    let (servers, api) = (Servers::default(), Api::default());
    let tenants = servers.tenants().build();
    let mut client = tenants.by_extension().layer(api.clone());
    let mut keyless = request("");
    // Nor if it has a credential already: whose that is isn't known either.
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
    assert_eq!((api.requests(), servers.made()), (0, 0));
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

/// Calls panic on a clone that wasn't polled ready: that is what `tower_test` mocks do.
#[tokio::test]
async fn the_clone_that_is_ready_is_the_one_that_is_called() {
    type Mocked = mock::Mock<Request<Full<Bytes>>, Response<&'static str>>;
    let (mocked, mut handle): (Mocked, _) = mock::pair();
    let tenants = Servers::default().tenants().build();
    kept(&tenants, "acme").token().await.unwrap();
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
            _ => Ok(AuthLayer::new(Counting::default())),
        },
    );
    let (tenants, api) = (tenants.capacity(1).build(), Api::accepting(["token-1"]));
    let mut client = tenants.by_extension().layer(api.clone());
    call(&mut client, of("acme")).await.unwrap();

    let error = own(call(&mut client, of("globex")).await.unwrap_err());
    assert!(error.is_source());
    // It has put nobody out: there is place for one.
    assert_eq!((tenants.len(), api.requests()), (1, 1));
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
            kept(&tenants, "acme")
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
        Ok(AuthLayer::new(move |_| async move {
            match number {
                0 => pending().await,
                1 => Err(Error::other("no such client")),
                _ => Token::bearer(format!("token-{number}")),
            }
        }))
    });
    let api = Api::default();
    for number in 2..OTHERS {
        api.accept(&format!("token-{number}"));
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
    // Time is paused: it passes only where somebody waits for it.
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_pending!(hanging.poll());
    assert!(own(of(1).await.unwrap_err()).is_source());

    advance(Duration::from_secs(30)).await;
    assert!(own(hanging.await.unwrap_err()).is_timeout());
}

#[tokio::test]
async fn who_was_asked_for_longest_ago_goes_and_a_newcomer_is_kept() {
    let servers = Servers::default();
    let tenants = servers.tenants().capacity(2).build();
    for _ in 0..50 {
        for name in ["acme", "globex"] {
            kept(&tenants, name).token().await.unwrap();
        }
    }
    assert_eq!(tenants.len(), 2);
    kept(&tenants, "acme");
    tenants.len();
    kept(&tenants, "new");
    assert_eq!(tenants.len(), 2);
    assert_eq!(servers.made(), 3);
    for name in ["new", "acme"] {
        kept(&tenants, name);
    }
    assert_eq!((tenants.len(), servers.made()), (2, 3));
    kept(&tenants, "globex");
    assert_eq!(servers.made(), 4);
}

#[tokio::test]
async fn there_is_always_place_for_one() {
    let servers = Servers::default();
    let tenants = servers.tenants().capacity(0).build();
    for _ in 0..3 {
        kept(&tenants, "acme").token().await.unwrap();
    }
    assert_eq!((servers.made(), servers.issued("acme")), (1, 1));
}

#[tokio::test]
async fn a_fetch_in_the_air_outlives_the_eviction_of_its_tenant_and_the_next_request_joins_it() {
    let (tenants, _, mut fetches) = one_place(false);
    let api = Api::accepting(["token"]);
    let client = tenants.by_extension().layer(api.clone());
    let mut first = task::spawn(client.clone().oneshot(of("slow")));
    assert_pending!(first.poll());
    let fetch = fetches.next().await;
    // Whoever began it leaves, and so does the tenant: only the fetch is left.
    drop(first);
    put_out(&tenants).await;

    let mut second = task::spawn(client.clone().oneshot(of("slow")));
    assert_pending!(second.poll());
    fetches.none().await;
    fetch.issue("token");
    assert_eq!(second.await.unwrap().status(), StatusCode::OK);
    assert_eq!(api.credentials(), ["Bearer token"]);
    fetches.none().await;
}

#[tokio::test]
async fn a_fetch_in_the_air_outlives_one_eviction_after_the_other() {
    let (tenants, _, mut fetches) = one_place(false);
    let first = kept(&tenants, "slow");
    let mut waiting = task::spawn(first.token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    drop((waiting, first));
    let mut joined = Vec::new();
    for _ in 0..5 {
        put_out(&tenants).await;
        let mut waiting = task::spawn(kept(&tenants, "slow").token());
        assert_pending!(waiting.poll());
        joined.push(waiting);
    }
    fetches.none().await;
    fetch.issue("token");
    for waiting in joined {
        assert_eq!(waiting.await.unwrap().secret(), "token");
    }
    fetches.none().await;
}

/// With no time at all, each tenant's time is over as soon as it was asked for.
#[tokio::test]
async fn a_fetch_in_the_air_outlives_the_idle_time_of_its_tenant() {
    let (source, mut fetches) = source();
    let (source, made) = (Arc::new(source), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&made);
    let tenants = Tenants::builder(move |_: &Tenant| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(AuthLayer::new(Arc::clone(&source)))
    });
    let tenants = tenants.idle(Duration::ZERO).build();
    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut waiting = task::spawn(kept(&tenants, "acme").token());
        assert_pending!(waiting.poll());
        callers.push(waiting);
        assert!(tenants.is_empty());
    }
    // Not even housekept in between.
    let mut waiting = task::spawn(kept(&tenants, "acme").token());
    assert_pending!(waiting.poll());
    callers.push(waiting);
    let mut waiting = task::spawn(kept(&tenants, "acme").token());
    assert_pending!(waiting.poll());
    callers.push(waiting);
    assert_eq!(made.load(Ordering::SeqCst), 5);

    fetches.next().await.issue("token");
    for waiting in callers {
        assert_eq!(waiting.await.unwrap().secret(), "token");
    }
    fetches.none().await;
}

#[tokio::test]
async fn a_tenant_who_went_and_of_whom_somebody_has_a_handle_has_no_second_cache() {
    let (tenants, _, mut fetches) = one_place(false);
    let handle = kept(&tenants, "slow");
    fetches
        .issued(&handle, "token", Duration::from_secs(3600))
        .await;
    put_out(&tenants).await;
    let again = kept(&tenants, "slow");
    assert_eq!(again.token().await.unwrap().secret(), "token");
    // What is known of the one is known of the other: they are the same.
    again.reject(&again.token().await.unwrap());
    assert_eq!(handle.status().phase(), Phase::Empty);
    fetches.none().await;
}

#[tokio::test]
async fn a_tenant_who_went_and_was_closed_by_hand_is_not_found_again() {
    let (tenants, _, mut fetches) = one_place(false);
    let handle = kept(&tenants, "slow");
    put_out(&tenants).await;
    handle.close().await;
    let again = kept(&tenants, "slow");
    assert_eq!(again.status().phase(), Phase::Empty);
    fetches
        .issued(&again, "token", Duration::from_secs(3600))
        .await;
}

#[tokio::test]
async fn nobody_holds_on_to_a_tenant_who_went() {
    let alive = Arc::new(Mutex::new(Vec::<Weak<()>>::new()));
    let made = Arc::clone(&alive);
    let tenants = Tenants::builder(move |_: &usize| {
        let life = Arc::new(());
        made.lock().unwrap().push(Arc::downgrade(&life));
        Ok(AuthLayer::new(move |_| {
            let _held = &life;
            std::future::ready(Token::bearer("secret"))
        }))
    });
    let tenants = tenants.capacity(1).build();
    let alive = || {
        let alive = alive.lock().unwrap();
        alive.iter().filter(|life| life.strong_count() > 0).count()
    };
    for number in 0..100 {
        tenants.get(&number).unwrap().cache().token().await.unwrap();
    }
    // moka lets go of them a little later than it says so.
    for _ in 0..1_000_000 {
        tenants.len();
        drop(tenants.get(&99));
        if alive() == 1 {
            break;
        }
    }
    assert_eq!(alive(), 1);
}

#[tokio::test]
async fn an_eviction_revokes_nothing_unless_asked() {
    for asked in [false, true] {
        let (tenants, servers, mut fetches) = one_place(asked);
        let slow = kept(&tenants, "slow");
        fetches
            .issued(&slow, "last", Duration::from_secs(3600))
            .await;
        put_out(&tenants).await;
        settle().await;
        let closed: &[&str] = if asked { &["last"] } else { &[] };
        assert_eq!(servers.closed_with(), closed);
        assert_eq!(slow.token().await.is_err_and(|e| e.is_closed()), asked);

        // A tenant that was closed comes back with a cache of its own.
        if asked {
            let again = kept(&tenants, "slow");
            fetches
                .issued(&again, "new", Duration::from_secs(3600))
                .await;
        }
    }
}

#[tokio::test]
async fn who_is_closed_as_it_is_evicted_is_closed_when_its_fetch_has_landed() {
    let (tenants, servers, mut fetches) = one_place(true);
    let mut waiting = task::spawn(kept(&tenants, "slow").token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    put_out(&tenants).await;
    settle().await;
    assert_eq!(servers.closed_with(), [""; 0]);
    fetch.issue("last");
    assert_eq!(waiting.await.unwrap().secret(), "last");
    settle().await;
    assert_eq!(servers.closed_with(), ["last"]);
}

#[tokio::test]
async fn who_is_back_before_its_fetch_has_landed_is_not_closed() {
    let (tenants, servers, mut fetches) = one_place(true);
    let mut waiting = task::spawn(kept(&tenants, "slow").token());
    assert_pending!(waiting.poll());
    let fetch = fetches.next().await;
    put_out(&tenants).await;
    settle().await;
    let back = kept(&tenants, "slow");
    fetch.issue("token");
    assert_eq!(waiting.await.unwrap().secret(), "token");
    settle().await;
    // The other one has gone for it.
    assert_eq!(tenants.len(), 1);
    settle().await;
    assert_eq!(servers.closed_with(), ["other-1"]);
    assert_eq!(back.token().await.unwrap().secret(), "token");
}

/// The runtime that the fetch was on is gone, or nobody drives it.
#[tokio::test(start_paused = true)]
async fn a_fetch_that_never_lands_does_not_keep_its_tenant_from_being_closed() {
    let (tenants, servers, mut fetches) = one_place(true);
    let elsewhere = crate::support::runtime();
    let mut waiting = task::spawn(kept(&tenants, "slow").token());
    {
        let _guard = elsewhere.enter();
        assert_pending!(waiting.poll());
    }
    assert!(fetches.try_next().is_none());
    put_out(&tenants).await;
    settle().await;
    assert_eq!(servers.closed_with(), [""; 0]);
    // Its fetch timeout, and the close timeout.
    advance(Duration::from_secs(31)).await;
    settle().await;
    advance(Duration::from_secs(6)).await;
    settle().await;
    assert_eq!(servers.closed_with(), ["nothing"]);
    elsewhere.shutdown_background();
}

#[test]
fn outside_of_a_runtime_who_is_evicted_is_closed_and_its_source_is_not_told() {
    let (tenants, servers, _fetches) = one_place(true);
    let slow = kept(&tenants, "slow");
    kept(&tenants, "other");
    assert_eq!(tenants.len(), 1);
    assert_eq!(slow.status().phase(), Phase::Closed);
    assert_eq!(servers.closed_with(), [""; 0]);
}

#[tokio::test]
async fn who_is_removed_is_made_anew_and_nothing_is_closed_by_itself() {
    let servers = Servers::default();
    let tenants = servers.tenants().close_on_eviction(true).build();
    let before = kept(&tenants, "acme");
    before.token().await.unwrap();
    let removed = tenants.remove(&Tenant("acme")).unwrap();
    assert!(tenants.is_empty());
    assert!(tenants.remove(&Tenant("acme")).is_none());
    settle().await;
    assert_eq!(servers.closed_with(), [""; 0]);

    // Though there are handles to the one before.
    let after = kept(&tenants, "acme");
    assert_eq!(after.token().await.unwrap().secret(), "acme-2");
    assert_eq!(before.token().await.unwrap().secret(), "acme-1");
    removed.cache().close().await;
    assert_eq!(servers.closed_with(), ["acme-1"]);
    assert_eq!(before.status().phase(), Phase::Closed);
    assert_eq!(after.status().phase(), Phase::Fresh);
}

#[tokio::test]
async fn who_is_removed_after_it_went_is_made_anew_as_well() {
    let (tenants, _, mut fetches) = one_place(false);
    let before = kept(&tenants, "slow");
    fetches
        .issued(&before, "old", Duration::from_secs(3600))
        .await;
    put_out(&tenants).await;
    assert!(tenants.remove(&Tenant("slow")).is_none());
    let after = kept(&tenants, "slow");
    fetches
        .issued(&after, "new", Duration::from_secs(3600))
        .await;
}

/// A client that says what it was sent, and where.
fn echo()
-> impl Service<Request<String>, Response = Response<(String, String)>, Error = Infallible, Future: Send>
+ Clone {
    service_fn(|request: Request<String>| async move {
        let sent = request.headers()["authorization"].to_str().unwrap();
        let sent = (request.uri().to_string(), sent.to_owned());
        Ok::<_, Infallible>(Response::new(sent))
    })
}

#[tokio::test]
async fn the_credential_of_one_origin_goes_to_no_other() {
    let tenants = Tenants::new(|origin: &Origin| {
        let secret = format!("for-{origin}");
        AuthLayer::new(move |_| std::future::ready(Token::bearer(secret.clone())))
            .only_to([origin.to_string()])
    });
    let client = tenants.by(Origin::of::<Request<String>>).layer(echo());
    let send = |to: &str| {
        let request = Request::get(to).body(String::new()).unwrap();
        client.clone().oneshot(request)
    };
    for (to, credential) in [
        ("https://a.example/x", "Bearer for-https://a.example:443"),
        ("https://b.example/x", "Bearer for-https://b.example:443"),
        (
            "https://a.example:8443/",
            "Bearer for-https://a.example:8443",
        ),
        (
            "https://a.example.b.example/",
            "Bearer for-https://a.example.b.example:443",
        ),
        (
            "https://b.example@a.example/",
            "Bearer for-https://a.example:443",
        ),
        ("HTTPS://A.Example:443/", "Bearer for-https://a.example:443"),
        ("https://[::1]/", "Bearer for-https://[::1]:443"),
    ] {
        let response = send(to).await.unwrap().into_body();
        assert_eq!(response.1, credential, "{to}");
    }
    assert_eq!(tenants.len(), 5);
    // It isn't known where they go.
    for to in ["/only/a/path", "custom://a.example/"] {
        assert!(own(send(to).await.unwrap_err()).is_config(), "{to}");
    }
    // The layer of one origin is none for another, even by hand.
    let a = tenants.get(&"https://a.example".parse().unwrap()).unwrap();
    let to_b = Request::get("https://b.example/").body(String::new());
    let error = a.layer(echo()).oneshot(to_b.unwrap()).await.unwrap_err();
    assert!(own(error).is_origin());
}

#[tokio::test]
async fn a_key_may_be_an_audience_and_a_set_of_scopes() {
    type Wanted = (&'static str, std::collections::BTreeSet<&'static str>);
    let tenants = Tenants::new(|(audience, scopes): &Wanted| {
        let scopes: Vec<_> = scopes.iter().copied().collect();
        let secret = format!("{audience}+{}", scopes.join("+"));
        Ok(AuthLayer::new(move |_| {
            std::future::ready(Token::bearer(secret.clone()))
        }))
    });
    let by = tenants.by(|request: &Request<String>| {
        let audience = match request.uri().path() {
            "/notes" => "notes",
            "/files" => "files",
            _ => return None,
        };
        let write: &[_] = if request.method().is_safe() {
            &[]
        } else {
            &["write"]
        };
        let scopes = write.iter().copied().chain(["read"]);
        Some((audience, scopes.collect()))
    });
    let client = by.layer(echo());
    for (method, path, credential) in [
        ("GET", "/notes", "Bearer notes+read"),
        ("POST", "/notes", "Bearer notes+read+write"),
        ("HEAD", "/notes", "Bearer notes+read"),
        ("PUT", "/files", "Bearer files+read+write"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://a.example{path}"));
        let request = request.body(String::new()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.into_body().1, credential);
    }
    assert_eq!(tenants.len(), 3);
}

#[test]
fn what_debug_shows_of_tenants_names_none_of_them() {
    let tenants = Servers::default().tenants().build();
    kept(&tenants, "acme");
    let layer = tenants.by_extension();
    let text = format!("{tenants:?} {layer:?} {:?}", layer.layer(()));
    assert!(!text.contains("acme"), "{text}");
}
