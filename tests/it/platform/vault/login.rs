//! The logins: what they send, and what they read.

use std::time::Duration;

use serde_json::{Value, json};
use tower::{Layer, ServiceExt};
use tower_auth::platform::vault::{Login, Server};
use tower_auth::{AuthLayer, Error, Place, Reason, SecretSource, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::token_server::{all_text_of, expiry};
use crate::support::vault_server::{ROLE_ID, SECRET_ID, URL, VaultServer};

async fn first(login: &Login) -> Result<Token, Error> {
    login.fetch(Reason::First).await
}

fn sent(vault: &VaultServer) -> (String, Value) {
    let request = vault.service().requests().pop().unwrap();
    assert_eq!(request.method(), "POST");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-vault-token"), None);
    assert_eq!(request.header("x-vault-namespace"), None);
    let body = serde_json::from_slice(request.body()).unwrap();
    (request.path().to_owned(), body)
}

/// A login to a server that always responds like this.
fn responding(status: u16, body: impl std::fmt::Display) -> Login {
    let response = ScriptedResponse::json(status, body);
    let server = ScriptedServer::new(move |_| response.clone());
    let server = Server::new(URL).unwrap().transport(server);
    Login::app_role(server, ROLE_ID, SECRET_ID)
}

#[tokio::test]
async fn an_app_role_gets_a_token_for_the_header_of_vault() {
    let vault = VaultServer::new();
    let login = vault.login();
    let token = first(&login).await.unwrap();
    assert_eq!(token.secret(), "hvs.token-1");
    assert_eq!(expiry(&token), "In(3600s)");
    let header = Place::Header(http::HeaderName::from_static("x-vault-token"));
    assert_eq!((token.place(), &login.place()), (&header, &header));
    assert_eq!(token.header_value().unwrap(), "hvs.token-1");
    let auth = token.extra("auth").unwrap();
    assert_eq!(auth["accessor"], "the-accessor");
    assert_eq!(auth.get("client_token"), None);
    let body = json!({ "role_id": ROLE_ID, "secret_id": SECRET_ID });
    let path = String::from("/v1/auth/approle/login");
    assert_eq!(sent(&vault), (path, body));
    let shown = format!("{login:?}");
    for secret in [SECRET_ID, "s3cret", ROLE_ID, "hvs."] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_jwt_is_sent_with_its_role_or_for_the_default_role() {
    let vault = VaultServer::new();
    let jwt = || SecretSource::from("the.j.wt");
    for (login, path, body) in [
        (
            Login::jwt(vault.server(), "ci", jwt()),
            "/v1/auth/jwt/login",
            json!({ "role": "ci", "jwt": "the.j.wt" }),
        ),
        (
            Login::jwt(vault.server(), "", jwt()),
            "/v1/auth/jwt/login",
            json!({ "jwt": "the.j.wt" }),
        ),
        (
            Login::jwt(vault.server(), "pod", jwt())
                .mount("kubernetes")
                .unwrap(),
            "/v1/auth/kubernetes/login",
            json!({ "role": "pod", "jwt": "the.j.wt" }),
        ),
        (
            // A cache is a source of JWTs too.
            Login::jwt(vault.server(), "ci", TokenCache::new(jwt())),
            "/v1/auth/jwt/login",
            json!({ "role": "ci", "jwt": "the.j.wt" }),
        ),
    ] {
        first(&login).await.unwrap();
        assert_eq!(sent(&vault), (path.to_owned(), body));
    }
}

#[tokio::test]
async fn a_login_outside_of_a_pod_names_the_missing_token() {
    let vault = VaultServer::new();
    let error = first(&Login::kubernetes(vault.server(), "r")).await;
    let error = error.unwrap_err();
    let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    assert!(
        error.is_config() && error.to_string().contains(path),
        "{error}"
    );
    vault.service().assert_no_requests();
}

#[tokio::test]
async fn the_credentials_are_read_again_for_each_login() {
    let vault = VaultServer::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "old").unwrap();
    let login = Login::jwt(vault.server(), "r", SecretSource::file(file.path()));
    first(&login).await.unwrap();
    std::fs::write(&file, "new\n").unwrap();
    first(&login).await.unwrap();
    assert_eq!(sent(&vault).1["jwt"], "new");
}

#[tokio::test]
async fn an_auth_method_may_be_mounted_at_any_path() {
    let vault = VaultServer::new();
    for (path, sent_to) in [
        ("ci", "/v1/auth/ci/login"),
        ("/teams/app-role/", "/v1/auth/teams/app-role/login"),
        ("a b?#%", "/v1/auth/a%20b%3F%23%25/login"),
    ] {
        let login = vault.login().mount(path).unwrap();
        first(&login).await.unwrap();
        assert_eq!(sent(&vault).0, sent_to);
    }
    for path in ["", "/", "a//b", "../sys", "a/./b"] {
        let error = vault.login().mount(path).unwrap_err();
        assert!(error.is_config(), "{path}: {error}");
    }
}

#[tokio::test]
async fn a_refused_login_shows_what_the_server_says_without_secrets() {
    let vault = VaultServer::new();
    let wrong = Login::app_role(vault.server(), "other", SECRET_ID);
    let error = first(&wrong).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the Vault server refused to issue a token (status 400; errors: invalid role or secret ID)"
    );
    let echo = json!({ "errors": [format!("no {SECRET_ID}"), "line\none"] });
    let error = first(&responding(403, echo)).await.unwrap_err();
    let shown = all_text_of(&error);
    assert!(shown.contains("errors: no [redacted]"), "{shown}");
    assert!(shown.contains("errors: line one"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[tokio::test]
async fn a_status_that_passes_by_itself_is_transient() {
    for (status, passes) in [
        (400, false),
        (403, false),
        (404, false),
        (405, false),
        (412, true),
        (429, true),
        (472, true),
        (473, true),
        (500, true),
        (502, true),
        (503, true),
    ] {
        let login = responding(status, r#"{"errors":["Vault is sealed"]}"#);
        let error = first(&login).await.unwrap_err();
        assert_eq!(error.is_transient(), passes, "{error}");
        assert_eq!(error.is_permanent(), !passes, "{error}");
        assert_eq!(error.status().unwrap(), status);
    }
}

#[tokio::test]
async fn an_unusable_response_says_what_is_wrong() {
    for (body, says) in [
        ("{}", "the Vault server's reply has no `/auth/client_token`"),
        (
            r#"{"auth":{"client_token":"","lease_duration":60}}"#,
            "has an empty `/auth/client_token`",
        ),
        (
            r#"{"auth":{"client_token":"s3cret"}}"#,
            "has no `/auth/lease_duration` that is a number of seconds",
        ),
        (
            r#"{"auth":{"client_token":"s3cret","lease_duration":-1}}"#,
            "has no `/auth/lease_duration`",
        ),
        (
            r#"{"auth":{"client_token":"s3cret","lease_duration":"1h"}}"#,
            "has no `/auth/lease_duration`",
        ),
        ("<html>", "the Vault server's reply is not valid JSON"),
    ] {
        let error = first(&responding(200, body)).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!all_text_of(&error).contains("s3cret"), "{error}");
    }
}

#[tokio::test]
async fn a_lease_of_any_length_is_no_fault() {
    for (seconds, shown) in [
        ("0", "Never"),
        ("1", "In(1s)"),
        ("2764800", "In(2764800s)"),
        ("18446744073709551615", "In(315360000s)"),
    ] {
        let body = format!(
            r#"{{"auth":{{"client_token":"t","lease_duration":{seconds},"renewable":true}}}}"#
        );
        let token = first(&responding(200, body)).await.unwrap();
        assert_eq!(expiry(&token), shown);
    }
}

#[tokio::test]
async fn the_token_goes_only_to_the_server_unless_the_user_says_otherwise() {
    let vault = VaultServer::new();
    let client = AuthLayer::new(vault.login()).layer(vault.service());
    let request = |url: &str| {
        let request = http::Request::get(url);
        request.body(http_body_util::Full::<bytes::Bytes>::default())
    };
    let url = format!("{URL}/v1/secret/data/allowed");
    let response = client.clone().oneshot(request(&url).unwrap()).await;
    assert_eq!(response.unwrap().status(), 200);
    let last = vault.service().requests().pop().unwrap();
    assert_eq!(last.header("x-vault-token"), Some("hvs.token-1"));
    assert_eq!(last.header("authorization"), None);
    let elsewhere = client.oneshot(request("https://api.example.com/").unwrap());
    let error = elsewhere.await.unwrap_err();
    assert!(Error::find(&*error).unwrap().is_origin(), "{error}");
}

#[tokio::test]
async fn closing_the_cache_revokes_the_token_only_on_request() {
    for (revokes, token_type, requests) in [
        (false, "service", &["login"][..]),
        (true, "service", &["login", "revoke-self"]),
        // The server can't revoke a batch token.
        (true, "batch", &["login"]),
    ] {
        let vault = VaultServer::new();
        vault.set(|state| state.token_type = token_type);
        let login = vault.login();
        let login = match revokes {
            true => login.revoke_on_close(),
            false => login,
        };
        let cache = TokenCache::new(login);
        cache.token().await.unwrap();
        cache.close().await;
        assert_eq!(vault.asked(), requests);
    }
}

#[tokio::test]
async fn revoking_a_token_that_has_ended_is_no_error() {
    let vault = VaultServer::new();
    let login = vault.login().revoke_on_close();
    let token = first(&login).await.unwrap();
    vault.revoke_all();
    login.close(Some(token.clone())).await.unwrap();
    vault.service().respond_next(ScriptedResponse::new(500));
    let error = login.close(Some(token)).await.unwrap_err();
    assert!(error.to_string().contains("refused to revoke"), "{error}");
    login.close(None).await.unwrap();
    assert_eq!(vault.asked(), ["login", "revoke-self", "revoke-self"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stalls_is_a_timeout() {
    let vault = VaultServer::new();
    vault.service().respond_always(ScriptedResponse::stall());
    let server = vault.server().timeout(Duration::from_secs(3));
    let login = Login::app_role(server, ROLE_ID, SECRET_ID);
    let error = first(&login).await.unwrap_err();
    assert!(error.is_timeout() && error.is_transient());
    assert_eq!(error.to_string(), "the Vault server took longer than 3s");
}

#[cfg(feature = "fleet")]
#[test]
fn the_store_key_names_everything_that_the_token_depends_on() {
    let of = |url: &str, role: &str, mount: &str, namespace: &str| {
        let server = Server::new(url).unwrap().namespace(namespace).unwrap();
        let login = Login::app_role(server, role, "secret").mount(mount);
        login.unwrap().store_key().unwrap()
    };
    let keys = [
        of("https://a.example.com", "r", "approle", ""),
        of("https://b.example.com", "r", "approle", ""),
        of("https://a.example.com", "s", "approle", ""),
        of("https://a.example.com", "r", "ci", ""),
        of("https://a.example.com", "r", "approle", "teams"),
    ];
    for (at, key) in keys.iter().enumerate() {
        assert!(!keys[at + 1..].contains(key));
    }
    assert_eq!(keys[0], of("https://a.example.com/", "r", "approle", "/"));
    // Another process may have the JWT of another identity.
    let server = || Server::new(URL).unwrap();
    let jwt = Login::jwt(server(), "r", SecretSource::file("/jwt"));
    assert!(jwt.store_key().is_none());
    assert!(Login::kubernetes(server(), "r").store_key().is_none());
}

#[cfg(feature = "fleet")]
#[tokio::test(start_paused = true)]
async fn a_status_that_passes_by_itself_is_transient_for_the_whole_fleet() {
    let store = crate::support::breakable_store::BreakableStore::default();
    let server = ScriptedServer::new(|_| {
        let response = ScriptedResponse::json(412, r#"{"errors":["not yet"]}"#);
        response.header("retry-after", "60")
    });
    for _ in 0..2 {
        let at = Server::new(URL).unwrap().transport(server.clone());
        let process = crate::support::paused(Login::app_role(at, ROLE_ID, SECRET_ID));
        let process = process.fetch_attempts(1).fleet(store.fleet()).unwrap();
        let error = process.build().token().await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.status().unwrap(), 412);
    }
    assert_eq!(server.requests().len(), 1);
}
