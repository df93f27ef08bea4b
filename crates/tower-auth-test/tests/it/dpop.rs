//! DPoP: nonces end to end, and proofs that are refused.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tower::{ServiceBuilder, ServiceExt as _};
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};
use tower_auth::{AuthLayer, Reason, TokenSource as _};
use tower_auth_test::{Api, AuthorizationServer, Refusal, ScriptedResponse};

use crate::support::{Body, get, panic_message, send, text};

fn source(server: &AuthorizationServer, key: DpopKey) -> ClientCredentials {
    ClientCredentials::with_client(server.client().unwrap().dpop(key))
}

/// Sends `count` requests to the API through a layer with this key.
async fn call(server: &AuthorizationServer, api: &Api, key: DpopKey, count: usize) {
    let layer = AuthLayer::new(source(server, key)).any_https();
    let client = ServiceBuilder::new().layer(layer).service(api.clone());
    for _ in 0..count {
        client.clone().oneshot(get("/notes?page=2")).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_is_bound_to_the_key_of_its_client() {
    let server = AuthorizationServer::new();
    server.require_dpop();
    let api = Api::new(&server);
    let key = DpopKey::generate().unwrap();
    let thumbprint = key.thumbprint().to_owned();
    call(&server, &api, key, 2).await;
    assert_eq!(server.issued()[0].key(), Some(thumbprint.as_str()));
    server.assert_requests(["POST /oauth/token - client_credentials -> 200"]);
    api.assert_requests(["GET /notes?page=2 DPoP token-1 -> 200"; 2]);
}

#[tokio::test]
async fn both_servers_may_ask_for_nonces() {
    let server = AuthorizationServer::new();
    server.require_dpop_nonce("of-the-server");
    let api = Api::new(&server);
    api.require_dpop_nonce("of-the-api");
    call(&server, &api, DpopKey::generate().unwrap(), 2).await;
    server.assert_requests([
        "POST /oauth/token - client_credentials -> 400",
        "POST /oauth/token - client_credentials -> 200",
    ]);
    api.assert_requests([
        "GET /notes?page=2 DPoP token-1 -> 401",
        "GET /notes?page=2 DPoP token-1 -> 200",
        "GET /notes?page=2 DPoP token-1 -> 200",
    ]);
    server.assert_tokens_issued(1);
}

#[tokio::test]
async fn a_new_nonce_costs_one_more_request() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    api.require_dpop_nonce("first");
    let layer = AuthLayer::new(source(&server, DpopKey::generate().unwrap())).any_https();
    let client = ServiceBuilder::new().layer(layer).service(api.clone());
    client.clone().oneshot(get("/")).await.unwrap();
    api.require_dpop_nonce("second");
    client.clone().oneshot(get("/")).await.unwrap();
    client.clone().oneshot(get("/")).await.unwrap();
    api.assert_requests([401, 200, 401, 200, 200].map(|it| format!("GET / DPoP token-1 -> {it}")));
}

#[tokio::test]
async fn a_server_that_requires_proofs_refuses_a_client_without_one() {
    let server = AuthorizationServer::new();
    let plain = server.client_credentials().unwrap();
    plain.fetch(Reason::First).await.unwrap();
    assert_eq!(server.issued()[0].key(), None);
    server.require_dpop();
    let error = plain.fetch(Reason::Expired).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_dpop_proof"));
    assert_eq!(error.description(), Some("there is no DPoP proof"));
    server.assert_tokens_issued(1);
}

#[cfg(feature = "loopback")]
#[tokio::test]
async fn proofs_and_nonces_work_on_loopback() {
    let server = AuthorizationServer::new();
    server.require_dpop_nonce("a");
    let notes = Api::new(&server);
    notes.require_dpop_nonce("b");
    let (id, api) = (server.serve().await.unwrap(), notes.serve().await.unwrap());
    let client = Client::new(id.url("/oauth/token"), "my-service", "a-secret").unwrap();
    let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
    let layer = AuthLayer::new(source).only_to([api.origin()]).unwrap();
    let http = reqwest::Client::builder().no_proxy();
    for http in [
        http.build().unwrap(),
        reqwest::Client::builder()
            .no_proxy()
            .http2_prior_knowledge()
            .build()
            .unwrap(),
    ] {
        let client = ServiceBuilder::new()
            .layer(layer.clone())
            .service(http.clone());
        let request = http.get(api.url("/notes?page=2")).build().unwrap();
        assert_eq!(client.oneshot(request).await.unwrap().status(), 200);
    }
    notes.assert_requests(
        [401, 200, 200].map(|it| format!("GET /notes?page=2 DPoP token-1 -> {it}")),
    );
}

#[tokio::test]
async fn the_default_port_may_be_left_out_of_a_proof() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let layer = AuthLayer::new(source(&server, DpopKey::generate().unwrap())).any_https();
    let client = ServiceBuilder::new().layer(layer).service(api.clone());
    for url in [
        "https://api.example.com:443/a",
        "https://API.example.com/",
        "https://api.example.com",
    ] {
        let request = Request::get(url).body(Body::default()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{url}");
    }
}

/// A proof that a test writes by hand.
#[derive(Clone)]
struct Proof {
    header: Header,
    claims: Value,
    key: EncodingKey,
}

fn encoding_key() -> EncodingKey {
    let pem = DpopKey::generate().unwrap().to_pem().unwrap();
    let lines = pem.expose_secret().lines();
    let encoded: String = lines.filter(|line| !line.starts_with("-----")).collect();
    EncodingKey::from_ec_der(&STANDARD.decode(encoded).unwrap())
}

impl Proof {
    fn new(key: &EncodingKey, method: &str, url: &str) -> Self {
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("dpop+jwt".into());
        header.jwk = Some(Jwk::from_encoding_key(key, Algorithm::ES256).unwrap());
        let claims = json!({ "htm": method, "htu": url, "iat": 1_700_000_000, "jti": "1" });
        Self {
            header,
            claims,
            key: key.clone(),
        }
    }

    fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.claims[claim] = value.into();
        self
    }

    fn without(mut self, claim: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(claim);
        self
    }

    fn header(mut self, change: impl FnOnce(&mut Header)) -> Self {
        change(&mut self.header);
        self
    }

    fn sign(&self) -> String {
        jsonwebtoken::encode(&self.header, &self.claims, &self.key).unwrap()
    }
}

/// Sends a token request with these proofs. Returns `None` if the server issued a token, or why it
/// refused.
async fn refused(server: &AuthorizationServer, proofs: &[&str]) -> Option<String> {
    let mut request = Request::post(server.token_url());
    for proof in proofs {
        request = request.header("dpop", proof.as_bytes());
    }
    let body = Body::from("grant_type=x");
    let response = send(server, request.body(body).unwrap()).await.unwrap();
    let status = response.status();
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    if status == StatusCode::OK {
        return None;
    }
    assert_eq!(status, 400);
    assert_eq!(body["error"], "invalid_dpop_proof");
    Some(body["error_description"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_wrong_proof_gets_no_token() {
    let server = AuthorizationServer::new();
    let key = encoding_key();
    let right = || Proof::new(&key, "POST", &server.token_url());
    assert_eq!(refused(&server, &[&right().sign()]).await, None);

    let other = Proof {
        key: encoding_key(),
        ..right().with("jti", "signature")
    };
    let mut hmac = right().header(|header| header.alg = Algorithm::HS256);
    hmac.key = EncodingKey::from_secret(b"secret");
    let next = |jti: &str| right().with("jti", jti);
    for (proof, why) in [
        ("no JWT".to_owned(), "the proof is malformed"),
        ("é".to_owned(), "the proof isn't text"),
        (
            next("2").header(|it| it.typ = Some("JWT".into())).sign(),
            "typ is not dpop+jwt",
        ),
        (
            next("3").header(|it| it.typ = None).sign(),
            "typ is not dpop+jwt",
        ),
        (
            next("4").header(|it| it.jwk = None).sign(),
            "the proof has no key",
        ),
        (hmac.sign(), "the algorithm of the proof is not supported"),
        (other.sign(), "the signature of the proof is wrong"),
        (
            next("5").with("htm", "GET").sign(),
            "htm is not the request's method",
        ),
        (
            next("6").without("htm").sign(),
            "htm is not the request's method",
        ),
        (
            next("7")
                .with("htu", "https://id.example.com/oauth/revoke")
                .sign(),
            "htu is not the request's URL",
        ),
        (
            next("8")
                .with("htu", "https://evil.example.com/oauth/token")
                .sign(),
            "htu is not the request's URL",
        ),
        (
            next("9")
                .with("htu", "http://id.example.com/oauth/token")
                .sign(),
            "htu is not the request's URL",
        ),
        (
            next("10")
                .with("htu", format!("{}?a=b", server.token_url()))
                .sign(),
            "htu is not the request's URL",
        ),
        (
            next("11").without("htu").sign(),
            "htu is not the request's URL",
        ),
        (
            next("12").with("ath", "x").sign(),
            "ath is not the token's hash",
        ),
        (next("13").without("iat").sign(), "iat is missing"),
        (next("14").with("iat", "now").sign(), "iat is missing"),
        (right().without("jti").sign(), "jti is missing"),
        (right().sign(), "the proof was used before"),
    ] {
        assert_eq!(
            refused(&server, &[&proof]).await.as_deref(),
            Some(why),
            "{proof}"
        );
    }
    let (one, two) = (next("15").sign(), next("16").sign());
    assert_eq!(
        refused(&server, &[&one, &two]).await.unwrap(),
        "there are several proofs"
    );
    // None of these has used up its `jti`.
    assert_eq!(refused(&server, &[&one]).await, None);
    server.assert_tokens_issued(2);
}

#[tokio::test]
async fn a_proof_with_a_private_key_gets_no_token() {
    let server = AuthorizationServer::new();
    let key = encoding_key();
    let proof = Proof::new(&key, "POST", &server.token_url()).sign();
    let (header, rest) = proof.split_once('.').unwrap();
    let mut header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["jwk"]["d"] = "secret".into();
    let leaking = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()));
    assert_eq!(
        refused(&server, &[&leaking]).await.unwrap(),
        "the proof contains a private key"
    );
}

/// Sends a request to the API with this scheme, token and proof. Returns the challenge, or `None`
/// if the API accepted the request.
async fn challenge(api: &Api, scheme: &str, token: &str, proof: Option<Proof>) -> Option<String> {
    let mut request = Request::get("https://api.example.com/notes?page=2")
        .header("authorization", format!("{scheme} {token}"));
    if let Some(proof) = proof {
        request = request.header("dpop", proof.sign());
    }
    let response = send(api, request.body(Body::default()).unwrap())
        .await
        .unwrap();
    let challenge = response.headers().get("www-authenticate")?;
    assert_eq!(response.status(), 401);
    Some(challenge.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_bound_token_is_refused_without_a_right_proof() {
    let server = AuthorizationServer::new();
    let api = Api::new(&server);
    let key = encoding_key();
    let proof = Proof::new(&key, "POST", &server.token_url()).sign();
    assert_eq!(refused(&server, &[&proof]).await, None);

    let hash = |token: &str| URL_SAFE_NO_PAD.encode(Sha256::digest(token));
    let right = || {
        let proof = Proof::new(&key, "GET", "https://api.example.com/notes");
        proof.with("ath", hash("token-1"))
    };
    let because = |why: &str| {
        let challenge = r#"DPoP realm="api", error="invalid_dpop_proof""#;
        Some(format!(r#"{challenge}, error_description="{why}""#))
    };
    let dpop = async |proof| challenge(&api, "DPoP", "token-1", proof).await;
    assert_eq!(dpop(Some(right())).await, None);
    assert_eq!(
        dpop(Some(right())).await,
        because("the proof was used before")
    );
    let next = right().with("jti", "2");
    let bearer = challenge(&api, "Bearer", "token-1", Some(next.clone())).await;
    assert_eq!(bearer, because("the scheme is not DPoP"));
    assert_eq!(dpop(None).await, because("there is no DPoP proof"));
    let unhashed = dpop(Some(next.clone().without("ath"))).await;
    assert_eq!(unhashed, because("ath is not the token's hash"));
    let hashed = dpop(Some(next.clone().with("ath", hash("token-2")))).await;
    assert_eq!(hashed, because("ath is not the token's hash"));
    let other = Proof {
        claims: next.claims.clone(),
        ..Proof::new(&encoding_key(), "GET", "")
    };
    assert_eq!(
        dpop(Some(other)).await,
        because("the token is bound to another key")
    );

    api.require_dpop_nonce("a-nonce");
    let wrong = right().with("jti", "3").with("nonce", "another");
    let asked = r#"DPoP realm="api", error="use_dpop_nonce", error_description="the proof needs another nonce""#;
    assert_eq!(dpop(Some(wrong)).await.as_deref(), Some(asked));
    assert_eq!(
        dpop(Some(right().with("jti", "4").with("nonce", "a-nonce"))).await,
        None
    );
}

#[tokio::test(start_paused = true)]
async fn a_nonce_is_not_added_where_there_is_no_response() {
    let api = Api::accepting(["a"]);
    api.require_dpop_nonce("a-nonce");
    api.refuse("/reset", Refusal::Response(ScriptedResponse::reset()));
    api.refuse("/stall", Refusal::Response(ScriptedResponse::stall()));
    assert!(send(&api, get("/reset")).await.is_err());
    let stalled = tokio::time::timeout(Duration::from_secs(60), send(&api, get("/stall")));
    assert!(stalled.await.is_err());
    let response = send(&api, get("/other")).await.unwrap();
    assert_eq!(response.headers()["dpop-nonce"], "a-nonce");
}

#[test]
fn a_nonce_that_no_header_can_contain_panics() {
    let server = AuthorizationServer::new();
    let expected = "a nonce has to be text that a header can contain";
    assert_eq!(
        panic_message(|| server.require_dpop_nonce("a\nb")),
        expected
    );
    let api = Api::new(&server);
    assert_eq!(panic_message(|| api.require_dpop_nonce("a\nb")), expected);
}
