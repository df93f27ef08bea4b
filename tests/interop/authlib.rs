//! Authlib as the authorization server. It issues a token in exchange for a service account's
//! assertion, a platform's assertion, or a user's token.

use serde_json::json;
use tower_auth::oauth2::{Client, EndpointUrl, JwtBearer, SignedJwt, TokenExchange};
use tower_auth::{Reason, SecretSource, TokenCache, TokenSource};

use crate::api::{Api, Check, call, crowd};
use crate::key::Key;
use crate::process::{Program, Server};
use crate::servers::{self, AUDIENCE, AUTHLIB, HTTP, Registered, issued, text};

/// Registers an issuer whose assertions are signed with this key.
async fn account(server: &Server, id: &str, key: &Key) {
    let description = json!({"client_id": id, "issuer": id, "method": "none", "jwks": key.jwks()});
    servers::register(server, "/interop/clients", &description).await;
}

/// Registers a service that exchanges tokens.
async fn service(server: &Server, id: &str) -> Registered {
    let description = json!({
        "client_id": id, "client_secret": "a-secret-of-a-service", "method": "client_secret_basic",
    });
    servers::register(server, "/interop/clients", &description).await
}

fn issuer(server: &Server) -> EndpointUrl {
    EndpointUrl::from_issuer(server.url("")).unwrap()
}

async fn api(server: &Server, audience: &str) -> Api {
    Api::start(|_| Check::Jwt {
        issuer: server.url(""),
        jwks: server.url("/jwks"),
        audience: audience.to_owned(),
    })
    .await
}

/// Builds the account's source of tokens for this subject.
fn tokens(server: &Server, account: &str, key: &Key, subject: &str) -> JwtBearer {
    let jwt = SignedJwt::new(key.signing())
        .issuer(account)
        .subject(subject)
        .audience(server.url("/token"));
    let client = Client::anonymous(issuer(server)).unwrap();
    JwtBearer::new(client, jwt).scope("read")
}

#[tokio::test]
async fn a_service_account_gets_tokens_for_what_it_signs() {
    const ACCOUNT: &str = "robot@project.example.com";
    let (api, key) = (api(&AUTHLIB, AUDIENCE).await, Key::new());
    account(&AUTHLIB, ACCOUNT, &key).await;
    let cache = TokenCache::new(tokens(&AUTHLIB, ACCOUNT, &key, "ada"));
    assert_eq!(crowd(&cache, &format!("{}/read", api.url), 50).await, [200]);
    assert_eq!(issued(&AUTHLIB, ACCOUNT).await, 1);
    let token = cache.token().await.unwrap();
    assert_eq!(api.claims(token.secret()).await.unwrap().sub, "ada");

    let forged = tokens(&AUTHLIB, ACCOUNT, &Key::new(), "ada");
    let error = forged.fetch(Reason::First).await.unwrap_err();
    assert!(
        error.is_invalid_grant() && error.is_permanent(),
        "{error:?}"
    );
    assert_eq!(issued(&AUTHLIB, ACCOUNT).await, 1);
}

#[tokio::test]
async fn a_pod_gets_tokens_for_what_its_platform_puts_in_a_file() {
    const CLUSTER: &str = "cluster.example.com";
    const POD: &str = "system:serviceaccount:shop:orders";
    let (api, key) = (api(&AUTHLIB, AUDIENCE).await, Key::new());
    account(&AUTHLIB, CLUSTER, &key).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, Key::new().sign(CLUSTER, POD, &AUTHLIB.url("/token"))).unwrap();
    let client = Client::anonymous(issuer(&AUTHLIB)).unwrap();
    let source = JwtBearer::new(client, SecretSource::file(&file)).scope("read");
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_invalid_grant(), "{error:?}");

    // The platform has rotated the token, and now signs with another key.
    std::fs::write(&file, key.sign(CLUSTER, POD, &AUTHLIB.url("/token"))).unwrap();
    let cache = TokenCache::new(source);
    assert_eq!(crowd(&cache, &format!("{}/read", api.url), 10).await, [200]);
    let token = cache.token().await.unwrap();
    assert_eq!(api.claims(token.secret()).await.unwrap().sub, POD);
    assert_eq!(issued(&AUTHLIB, CLUSTER).await, 1);
}

#[tokio::test]
async fn a_token_is_exchanged_for_one_further_on() {
    const STOCK: &str = "https://stock.example.com";
    let (first, stock) = (api(&AUTHLIB, AUDIENCE).await, api(&AUTHLIB, STOCK).await);
    let key = Key::new();
    account(&AUTHLIB, "portal", &key).await;
    let orders = service(&AUTHLIB, "orders").await;
    let subject = TokenCache::new(tokens(&AUTHLIB, "portal", &key, "ada"));
    let actor = TokenCache::new(tokens(&AUTHLIB, "portal", &key, "orders"));
    let client = Client::new(issuer(&AUTHLIB), &orders.id, orders.secret).unwrap();
    let exchange = TokenExchange::new(client.basic_auth(), subject.clone())
        .actor(actor)
        .audience(STOCK)
        .scope("read");
    let cache = TokenCache::new(exchange);
    assert_eq!(
        crowd(&cache, &format!("{}/read", stock.url), 20).await,
        [200]
    );
    let token = cache.token().await.unwrap();
    let claims = stock.claims(token.secret()).await.unwrap();
    assert_eq!(
        (claims.sub.as_str(), claims.act),
        ("ada", Some(json!({"sub": "orders"})))
    );

    // The exchanged token is valid for its audience only.
    assert!(first.claims(token.secret()).await.is_none());
    assert_eq!(
        call(&subject, &format!("{}/read", first.url))
            .await
            .status(),
        200
    );
    assert_eq!(issued(&AUTHLIB, "orders").await, 1);
    assert_eq!(issued(&AUTHLIB, "portal").await, 2);
}

/// Starts a separate server, so that the test can rotate its keys.
fn of_its_own() -> Server {
    Server::start(Program::python("authlib_server/serve.py"))
}

async fn rotate_keys(server: &Server) {
    text(HTTP.post(server.url("/interop/rotate-keys"))).await;
}

#[tokio::test]
async fn when_the_servers_keys_are_rotated_one_new_token_serves_all_callers() {
    let (server, key) = (of_its_own(), Key::new());
    let api = api(&server, AUDIENCE).await;
    account(&server, "robot", &key).await;
    let cache = TokenCache::new(tokens(&server, "robot", &key, "ada"));
    let url = format!("{}/read", api.url);
    assert_eq!(crowd(&cache, &url, 20).await, [200]);
    rotate_keys(&server).await;
    assert_eq!(crowd(&cache, &url, 20).await, [200]);
    assert_eq!(issued(&server, "robot").await, 2);
    assert!(api.statuses().contains(&401));
}

#[tokio::test]
async fn a_subject_that_is_good_no_more_is_fetched_anew_and_exchanged() {
    let (server, key) = (of_its_own(), Key::new());
    let api = api(&server, AUDIENCE).await;
    account(&server, "portal", &key).await;
    let orders = service(&server, "orders").await;
    let subject = TokenCache::new(tokens(&server, "portal", &key, "ada"));
    let client = Client::new(issuer(&server), &orders.id, orders.secret).unwrap();
    let exchange = TokenExchange::new(client.basic_auth(), subject).scope("read");
    let cache = TokenCache::new(exchange);
    let url = format!("{}/read", api.url);
    assert_eq!(call(&cache, &url).await.status(), 200);
    rotate_keys(&server).await;
    // After the rotation, the API refuses the exchanged token and the server refuses the subject
    // token.
    assert_eq!(crowd(&cache, &url, 20).await, [200]);
    assert_eq!(issued(&server, "portal").await, 2);
    assert_eq!(issued(&server, "orders").await, 2);
}
