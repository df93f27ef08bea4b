//! `Api`: which requests it accepts, and how it refuses the others.

use std::sync::{Arc, OnceLock};

use http::{Request, Response};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_auth::oauth2::{ClientCredentials, StepUp};
use tower_auth::{ApiKey, AuthLayer, TokenSource};
use tower_auth_test::{
    Api, AuthorizationServer, Refusal, ScriptedBody, ScriptedResponse, ScriptedSource, Step,
};

use crate::support::{Body, get, get_with, panic_message, post, send, text};

/// Sends a request through a layer with this source.
async fn call(
    source: impl TokenSource,
    api: &Api,
    requests: impl IntoIterator<Item = Request<Body>>,
) -> Vec<Response<ScriptedBody>> {
    let client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).any_https())
        .service(api.clone());
    let mut responses = Vec::new();
    for request in requests {
        responses.push(client.clone().oneshot(request).await.unwrap());
    }
    responses
}

async fn status(api: &Api, token: &str) -> u16 {
    status_of(api, "/notes", token).await
}

async fn status_of(api: &Api, path: &str, token: &str) -> u16 {
    let response = send(api, get_with(path, token)).await.unwrap();
    response.status().as_u16()
}

/// Returns the challenge of the refusal.
async fn challenge(api: &Api, request: Request<Body>) -> String {
    let response = send(api, request).await.unwrap();
    assert_eq!(response.status(), 401);
    response.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn an_accepted_request_is_described_unless_the_test_responds() {
    let api = Api::accepting(["a"]);
    let response = send(&api, get_with("/notes?x=1", "a")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, r#"{"method":"GET","path":"/notes"}"#);
    api.respond_with(|request| match request.path() {
        "/usual" => ScriptedResponse::as_usual().header("x", "y"),
        _ => ScriptedResponse::new(204),
    });
    assert_eq!(status(&api, "a").await, 204);
    let response = send(&api, get_with("/usual", "a")).await.unwrap();
    assert_eq!(response.headers()["x"], "y");
    assert_eq!(text(response).await, r#"{"method":"GET","path":"/usual"}"#);
    assert_eq!(status(&api, "b").await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let because = |why: &str| {
        format!(r#"Bearer realm="api", error="invalid_token", error_description="{why}""#)
    };
    assert_eq!(challenge(&api, get("/")).await, r#"Bearer realm="api""#);
    let unknown = challenge(&api, get_with("/", "unknown")).await;
    assert_eq!(unknown, because("the token is unknown"));
    let token = server.issue();
    tokio::time::advance(std::time::Duration::from_secs(3600)).await;
    let expired = challenge(&api, get_with("/", &token)).await;
    assert_eq!(expired, because("the token has expired"));
    server.revoke(&token);
    let revoked = challenge(&api, get_with("/", &token)).await;
    assert_eq!(revoked, because("the token was revoked"));
    let token = server.issue();
    api.require_audience("https://api.example.com");
    let other = challenge(&api, get_with("/", &token)).await;
    assert_eq!(other, because("the token is for another audience"));
}

#[tokio::test]
async fn a_default_api_accepts_no_token_until_the_test_says_so() {
    let api = Api::default();
    assert_eq!(status(&api, "a").await, 401);
    api.accept("a");
    assert_eq!(status(&api, "a").await, 200);
}

#[tokio::test]
async fn standalone_tokens_are_accepted_until_the_api_revokes_them() {
    let api = Api::accepting(["a", "b"]);
    api.accept("c");
    api.revoke("b");
    let mut statuses = Vec::new();
    for token in ["a", "b", "c", "d"] {
        statuses.push(status(&api, token).await);
    }
    assert_eq!(statuses, [200, 401, 200, 401]);
}

#[tokio::test]
async fn an_api_revokes_the_tokens_of_its_authorization_server_too() {
    let server = AuthorizationServer::new();
    let (api, other) = (Api::new(&server), Api::new(&server));
    let token = server.issue();
    assert_eq!(status(&other, &token).await, 200);
    api.revoke(&token);
    assert_eq!(
        (status(&api, &token).await, status(&other, &token).await),
        (401, 401)
    );
    assert!(server.issued()[0].is_revoked());
}

#[tokio::test]
async fn the_tokens_of_another_server_are_refused() {
    let (server, other) = (AuthorizationServer::new(), AuthorizationServer::new());
    let token = other.issue();
    assert_eq!(status(&Api::new(&other), &token).await, 200);
    assert_eq!(status(&Api::new(&server), &token).await, 401);
}

#[tokio::test]
async fn one_resource_refuses_and_the_others_accept() {
    let api = Api::accepting(["a"]);
    api.refuse("/broken", Refusal::Unauthorized);
    api.refuse("/busy", Refusal::Response(ScriptedResponse::new(503)));
    assert_eq!(status_of(&api, "/broken?x=1", "a").await, 401);
    assert_eq!(status_of(&api, "/busy", "a").await, 503);
    assert_eq!(status_of(&api, "/broken/child", "a").await, 200);
    api.stop_refusing();
    assert_eq!(status_of(&api, "/broken", "a").await, 200);
}

#[test]
fn a_path_that_no_request_can_have_panics() {
    let api = Api::accepting(["good"]);
    let expected = "\"notes\" doesn't start with `/`";
    let message = panic_message(|| api.refuse("notes", Refusal::Unauthorized));
    assert_eq!(message, expected);
    let message = panic_message(|| api.require_scope("notes", "read"));
    assert_eq!(message, expected);
}

#[tokio::test]
async fn an_api_and_its_server_list_the_requests_that_nobody_expected() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    api.assert_no_requests();
    server.assert_no_requests();

    send(&api, get("/notes")).await.unwrap();
    assert_eq!(
        panic_message(|| api.assert_no_requests()),
        "the API received other requests (- expected, + received):\n+ GET /notes - -> 401"
    );
    post(&server, "/oauth/token", &[("grant_type", "password")]).await;
    assert_eq!(
        panic_message(|| server.assert_no_requests()),
        "the authorization server received other requests (- expected, + received):\n\
         + POST /oauth/token - password -> 200"
    );
}

#[tokio::test]
async fn every_nth_request_is_refused_until_the_test_stops_it() {
    let api = Api::accepting(["a"]);
    api.refuse_every(3, Refusal::Unauthorized);
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(status(&api, "a").await);
    }
    assert_eq!(statuses, [200, 200, 401, 200, 200, 401, 200]);
    api.refuse_every(1, Refusal::Forbidden { scope: "x".into() });
    assert_eq!(status(&api, "a").await, 403);
    api.stop_refusing();
    assert_eq!(status(&api, "a").await, 200);
    assert_eq!(
        panic_message(|| api.refuse_every(0, Refusal::Grpc)),
        "n is 0; every request is refused with n = 1"
    );
}

#[tokio::test]
async fn a_token_without_the_scope_of_a_resource_is_forbidden() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    api.require_scope("/write", "write:notes");
    let form = [("grant_type", "x"), ("scope", "read:notes write:notes")];
    post(&server, "/oauth/token", &form).await;
    let weak = server.issue();
    assert_eq!(status_of(&api, "/write", "token-1").await, 200);
    assert_eq!(status_of(&api, "/read", &weak).await, 200);
    let response = send(&api, get_with("/write", &weak)).await.unwrap();
    assert_eq!(response.status(), 403);
    assert_eq!(
        response.headers()["www-authenticate"],
        r#"Bearer realm="api", error="insufficient_scope", scope="write:notes""#
    );
}

#[tokio::test]
async fn a_client_steps_up_to_the_scope_that_a_resource_needs() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    api.require_scope("/write", "write:notes");
    let client = server.client().unwrap();
    let source = StepUp::new(move |wanted| {
        Ok(ClientCredentials::with_client(client.clone()).scope(wanted.scope()))
    })
    .scope("read:notes")
    .allow("write:notes");

    let responses = call(source, &api, [get("/read"), get("/write")]).await;
    assert!(responses.iter().all(|response| response.status() == 200));
    api.assert_requests([
        "GET /read Bearer token-1 -> 200",
        "GET /write Bearer token-1 -> 403",
        "GET /write Bearer token-2 -> 200",
    ]);
    let scopes: Vec<_> = server
        .issued()
        .iter()
        .map(|it| it.scope().to_owned())
        .collect();
    assert_eq!(scopes, ["read:notes", "read:notes write:notes"]);
}

#[tokio::test]
async fn a_grpc_request_gets_a_status_instead_of_a_401() {
    let api = Api::accepting(["token-2"]);
    let grpc = || {
        let mut request = get("/notes.Notes/List");
        let kind = "application/grpc+proto".parse().unwrap();
        request.headers_mut().insert("content-type", kind);
        request
    };
    let response = send(&api, grpc()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "16");
    assert_eq!(response.headers()["grpc-message"], "there is no token");

    let responses = call(ScriptedSource::default(), &api, [grpc()]).await;
    assert!(responses[0].headers().get("grpc-status").is_none());
    api.assert_requests([
        "GET /notes.Notes/List - -> 200 grpc-status 16",
        "GET /notes.Notes/List Bearer token-1 -> 200 grpc-status 16",
        "GET /notes.Notes/List Bearer token-2 -> 200",
    ]);

    // `refuse` can send the gRPC refusal to a request that isn't gRPC, too.
    api.refuse("/plain", Refusal::Grpc);
    let response = send(&api, get_with("/plain", "token-2")).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "16");
}

#[tokio::test]
async fn an_api_may_require_an_audience() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    api.require_audience("https://api.example.com");
    for audience in ["https://api.example.com", "https://other.example.com"] {
        let source = server.client_credentials().unwrap().audience(audience);
        source.fetch(tower_auth::Reason::First).await.unwrap();
    }
    assert_eq!(status(&api, "token-1").await, 200);
    assert_eq!(status(&api, "token-2").await, 401);
}

#[tokio::test]
async fn an_api_reads_the_token_where_the_test_says() {
    let api = Api::accepting(["my-key"]);
    api.read_token_with(|request| request.header("x-api-key").map(str::to_owned));
    let source = ApiKey::new("my-key").header("x-api-key").unwrap();
    let responses = call(source, &api, [get("/notes")]).await;
    assert_eq!(responses[0].status(), 200);
    assert_eq!(status(&api, "my-key").await, 401);
    api.assert_requests(["GET /notes - -> 200", "GET /notes Bearer my-key -> 401"]);
}

#[tokio::test]
async fn a_closure_may_call_its_own_api() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let own = Arc::new(OnceLock::<(Api, AuthorizationServer)>::new());
    let (reading, responding) = (own.clone(), own.clone());
    api.read_token_with(move |request| {
        let (api, server) = reading.get().unwrap();
        api.accept("always");
        server.add_client("my-service", "a-secret");
        request.token().map(str::to_owned)
    });
    api.respond_with(move |request| {
        let (api, server) = responding.get().unwrap();
        server.revoke_all();
        api.revoke("always");
        api.refuse("/seen", Refusal::Unauthorized);
        api.respond_with(|_| ScriptedResponse::new(204));
        assert_eq!(api.requests().len(), 1);
        ScriptedResponse::json(200, request.path())
    });
    let _ = own.set((api.clone(), server.clone()));

    assert_eq!(status(&api, "always").await, 200);
    assert_eq!(status(&api, "always").await, 204);
    assert_eq!(status_of(&api, "/seen", "always").await, 401);
}

#[tokio::test]
async fn the_responses_of_the_script_need_no_token() {
    let api = Api::accepting(["a"]);
    api.respond_next(ScriptedResponse::new(500));
    assert_eq!(send(&api, get("/")).await.unwrap().status(), 500);
    api.respond_always(ScriptedResponse::as_usual().header("x", "y"));
    let response = send(&api, get("/")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x"]),
        (401, &"y".parse().unwrap())
    );
    api.respond_as_usual();
    assert_eq!(status(&api, "a").await, 200);
    let message = panic_message(|| api.assert_requests(["GET / - -> 500"]));
    assert_eq!(
        message,
        "the API received other requests (- expected, + received):\n  \
         GET / - -> 500\n\
         + GET / - -> 401\n\
         + GET /notes Bearer a -> 200"
    );
}

#[tokio::test]
async fn the_schemes_of_a_token_are_bearer_and_dpop_in_any_case() {
    let api = Api::accepting(["a"]);
    for (value, expected) in [
        ("bearer a", 200),
        ("BEARER a", 200),
        ("DPoP a", 200),
        ("Basic a", 401),
        ("a", 401),
        ("Bearer", 401),
    ] {
        let mut request = get("/");
        let value = value.parse().unwrap();
        request.headers_mut().insert("authorization", value);
        assert_eq!(send(&api, request).await.unwrap().status(), expected);
    }
}

#[tokio::test]
async fn a_thousand_requests_share_one_fetch_and_one_revocation() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let layer = AuthLayer::new(server.client_credentials().unwrap()).any_https();
    let client = ServiceBuilder::new().layer(layer).service(api.clone());
    for issued in [1, 2] {
        let calls: Vec<_> = (0..1000)
            .map(|_| tokio::spawn(client.clone().oneshot(get("/notes"))))
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().status(), 200);
        }
        server.assert_tokens_issued(issued);
        server.revoke_all();
    }
}

#[tokio::test]
async fn a_refused_token_of_a_script_is_replaced_once() {
    let api = Api::accepting(["good"]);
    let source = ScriptedSource::new([Step::token("bad"), Step::token("good")]);
    let responses = call(source.clone(), &api, [get("/notes")]).await;
    assert_eq!(responses[0].status(), 200);
    assert_eq!(source.fetches(), 2);
}
