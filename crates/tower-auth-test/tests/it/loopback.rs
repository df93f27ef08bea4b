//! Fake servers on a port, with a real client.

use std::time::Duration;

use futures_util::FutureExt as _;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_auth::cache::Clock;
use tower_auth::oauth2::{Client, ClientCredentials};
use tower_auth::{AuthLayer, TokenCache};
use tower_auth_test::{
    Api, AuthorizationServer, Loopback, ScriptedResponse, ScriptedServer, run_until_idle,
};

use crate::support::panic_message;

fn http1() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    builder.build().unwrap()
}

fn http2() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    builder.http2_prior_knowledge().build().unwrap()
}

fn usual() -> ScriptedServer {
    ScriptedServer::new(|_| ScriptedResponse::new(200).body("usual"))
}

async fn start(server: &ScriptedServer) -> Loopback {
    server.serve().await.unwrap()
}

#[tokio::test]
async fn a_server_speaks_http1_and_http2() {
    let server = usual();
    let running = start(&server).await;
    for client in [http1(), http2()] {
        let response = client
            .post(running.url("/a?b=c"))
            .body("grant_type=x")
            .send();
        let response = response.await.unwrap();
        let expected = running.address().port();
        assert_eq!(response.url().port(), Some(expected));
        assert_eq!(response.headers()["content-length"], "5");
        assert_eq!(response.text().await.unwrap(), "usual");
    }
    server.assert_requests(["POST /a?b=c - x -> 200"; 2]);
    for request in server.requests() {
        assert_eq!(request.origin().unwrap(), running.origin());
    }
}

#[tokio::test]
async fn a_reset_is_an_error_for_the_client() {
    for client in [http1(), http2()] {
        let server = usual();
        let running = start(&server).await;
        server.respond_next(ScriptedResponse::reset());
        let error = client.get(running.url("/")).send().await.unwrap_err();
        assert!(error.is_request(), "{error:?}");
        // The next request gets another connection, or another stream.
        assert_eq!(
            client.get(running.url("/")).send().await.unwrap().status(),
            200
        );
        server.assert_requests(["GET / - -> reset", "GET / - -> 200"]);
    }
}

#[tokio::test]
async fn a_body_is_reset_after_its_first_bytes() {
    for client in [http1(), http2()] {
        for sent in [0, 3] {
            let server = usual();
            let running = start(&server).await;
            server.respond_next(ScriptedResponse::as_usual().reset_after(sent));
            let mut response = client.get(running.url("/")).send().await.unwrap();
            assert_eq!(response.headers()["content-length"], "5");
            let mut received = Vec::new();
            let error = loop {
                match response.chunk().await {
                    Ok(Some(chunk)) => received.extend(chunk),
                    Ok(None) => panic!("the body ended"),
                    Err(error) => break error,
                }
            };
            assert!(error.is_body() || error.is_decode(), "{error:?}");
            assert_eq!(received, &b"usual"[..sent]);
            server.assert_requests(["GET / - -> 200"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_first_bytes_of_a_reset_body_arrive_on_any_thread() {
    let server = usual();
    let running = start(&server).await;
    server.respond_always(ScriptedResponse::as_usual().reset_after(3));
    for client in [http1(), http2()] {
        for _ in 0..100 {
            let mut response = client.get(running.url("/")).send().await.unwrap();
            assert_eq!(response.chunk().await.unwrap().unwrap(), "usu");
            assert!(response.chunk().await.is_err());
        }
    }
}

#[tokio::test]
async fn a_body_stalls_after_its_first_bytes() {
    for client in [http1(), http2()] {
        let server = usual();
        let running = start(&server).await;
        server.respond_next(ScriptedResponse::as_usual().stall_after(2));
        let mut response = client.get(running.url("/")).send().await.unwrap();
        let mut received = Vec::new();
        while received.len() < 2 {
            received.extend(response.chunk().await.unwrap().unwrap());
        }
        assert_eq!(received, b"us");
        run_until_idle().await;
        assert!(response.chunk().now_or_never().is_none());
    }
}

#[tokio::test]
async fn a_header_may_announce_another_length_than_the_body_has() {
    let server = usual();
    let running = start(&server).await;
    let client = http1();
    let response = |length| {
        let response = ScriptedResponse::new(200).body("usual");
        response.header("content-length", length)
    };
    server.respond_next(response("9"));
    let response_to = client.get(running.url("/")).send().await.unwrap();
    assert!(response_to.text().await.is_err());
    server.respond_next(response("2"));
    let response_to = client.get(running.url("/")).send().await.unwrap();
    assert_eq!(response_to.text().await.unwrap(), "us");
}

#[tokio::test]
async fn an_aborted_client_leaves_its_request_without_a_status() {
    for client in [http1(), http2()] {
        let server = usual();
        let running = start(&server).await;
        server.respond_next(ScriptedResponse::stall());
        let request = tokio::spawn(client.get(running.url("/slow")).send());
        server.wait_for_requests(1).await;
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        client.get(running.url("/next")).send().await.unwrap();
        server.assert_requests(["GET /slow - -> …", "GET /next - -> 200"]);
    }
}

#[tokio::test]
async fn many_connections_are_served_at_once() {
    let server = usual();
    server.respond_always(ScriptedResponse::stall());
    let running = start(&server).await;
    let client = http1();
    let stalled: Vec<_> = (0..100)
        .map(|_| tokio::spawn(client.get(running.url("/")).send()))
        .collect();
    server.wait_for_requests(100).await;
    server.respond_as_usual();
    assert_eq!(
        client.get(running.url("/")).send().await.unwrap().status(),
        200
    );
    for request in stalled {
        assert!(!request.is_finished());
        request.abort();
    }
}

#[tokio::test]
async fn a_server_stops_when_it_is_dropped() {
    for client in [http1(), http2()] {
        let server = usual();
        let running = start(&server).await;
        let url = running.url("/");
        client.get(&url).send().await.unwrap();
        server.respond_always(ScriptedResponse::stall());
        let stalled = tokio::spawn(client.get(&url).send());
        server.wait_for_requests(2).await;

        drop(running);
        assert!(stalled.await.unwrap().is_err());
        assert!(client.get(&url).send().await.is_err());
        assert!(http1().get(&url).send().await.unwrap_err().is_connect());
        assert_eq!(server.requests().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_server_serves_no_request_on_any_thread() {
    let client = http1();
    for _ in 0..200 {
        let server = usual();
        let running = start(&server).await;
        let url = running.url("/");
        client.get(&url).send().await.unwrap();
        drop(running);
        assert!(client.get(&url).send().await.is_err());
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn one_server_can_listen_on_several_ports_and_in_memory() {
    let server = usual();
    let (one, other) = (start(&server).await, start(&server).await);
    assert_ne!(one.address(), other.address());
    let client = http1();
    client.get(one.url("/one")).send().await.unwrap();
    client.get(other.url("/other")).send().await.unwrap();
    crate::support::send(&server, crate::support::get("/memory"))
        .await
        .unwrap();
    server.assert_requests([
        "GET /one - -> 200",
        "GET /other - -> 200",
        "GET /memory - -> 200",
    ]);
}

#[tokio::test]
async fn a_url_needs_a_path() {
    let running = start(&usual()).await;
    assert_eq!(running.url("/a"), format!("{}/a", running.origin()));
    assert_eq!(
        panic_message(|| running.url("a")),
        "\"a\" doesn't start with `/`"
    );
    assert_eq!(
        format!("{running:?}"),
        format!("Loopback({})", running.address())
    );
}

#[tokio::test]
async fn a_client_gets_its_token_and_its_notes_on_loopback() {
    for http in [http1(), http2()] {
        let server = AuthorizationServer::new();
        let (id, notes) = (server.serve().await.unwrap(), Api::new(&server));
        let api = notes.serve().await.unwrap();
        let source = ClientCredentials::new(id.url("/oauth/token"), "my-service", "a-secret");
        let layer = AuthLayer::new(source.unwrap())
            .only_to([api.origin()])
            .unwrap();
        let client = ServiceBuilder::new().layer(layer).service(http.clone());
        let request = || http.get(api.url("/notes")).build().unwrap();

        assert_eq!(
            client.clone().oneshot(request()).await.unwrap().status(),
            200
        );
        server.revoke_all();
        let response = client.clone().oneshot(request()).await.unwrap();
        assert_eq!(
            response.text().await.unwrap(),
            r#"{"method":"GET","path":"/notes"}"#
        );
        server.assert_tokens_issued(2);
        notes.assert_requests([
            "GET /notes Bearer token-1 -> 200",
            "GET /notes Bearer token-1 -> 401",
            "GET /notes Bearer token-2 -> 200",
        ]);
    }
}

#[tokio::test]
async fn discovery_finds_the_token_endpoint() {
    let server = AuthorizationServer::new();
    let running = server.serve().await.unwrap();
    let client = Client::new(
        tower_auth::oauth2::EndpointUrl::from_issuer(running.origin()).unwrap(),
        "my-service",
        "a-secret",
    );
    let cache = TokenCache::new(ClientCredentials::with_client(client.unwrap()));
    assert_eq!(cache.token().await.unwrap().secret(), "token-1");
    let requests: Vec<_> = server
        .requests()
        .iter()
        .map(|it| it.path().to_owned())
        .collect();
    assert_eq!(requests.last().unwrap(), "/oauth/token");
    assert!(requests[0].starts_with("/.well-known/"));
}

#[tokio::test]
async fn tokens_expire_on_loopback_by_a_clock_that_the_test_moves() {
    let clock = Clock::manual();
    let server = AuthorizationServer::with_clock(clock.clone());
    let running = server.serve().await.unwrap();
    let source = ClientCredentials::new(running.url("/oauth/token"), "my-service", "a-secret");
    let cache = TokenCache::builder(source.unwrap())
        .clock(clock.clone())
        .build();
    cache.token().await.unwrap();
    clock.advance(Duration::from_secs(3599));
    server.assert_tokens_issued(1);
    clock.advance(Duration::from_secs(1));
    assert_eq!(cache.token().await.unwrap().secret(), "token-2");
}
