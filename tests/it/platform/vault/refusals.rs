//! A 403 of the server: the token has ended, or its policies don't allow the request.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt};
use tower_auth::{Auth, AuthLayer, NotReplayed, TokenCache};
use tower_auth_test::{ScriptedBody, ScriptedResponse, ScriptedServer};

use crate::support::paused;
use crate::support::vault_server::{URL, VaultServer};

fn client(vault: &VaultServer) -> (Auth<ScriptedServer>, TokenCache) {
    let cache = paused(vault.login()).build();
    let layer = AuthLayer::from(cache.clone());
    (layer.layer(vault.service()), cache)
}

async fn get(client: &Auth<ScriptedServer>, path: &str) -> Response<ScriptedBody> {
    let request = Request::get(format!("{URL}/v1/secret/data/{path}"));
    let request = request.body(Full::<Bytes>::default()).unwrap();
    client.clone().oneshot(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_costs_one_login_and_no_caller_sees_it() {
    let vault = VaultServer::new();
    let (client, _) = client(&vault);
    assert_eq!(get(&client, "allowed").await.status(), 200);
    vault.revoke_all();
    let calls = (0..50).map(|_| get(&client, "allowed"));
    for response in futures_util::future::join_all(calls).await {
        assert_eq!(response.status(), 200);
    }
    assert_eq!(vault.asked(), ["login", "lookup-self", "login"]);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_the_policies_forbid_costs_no_login() {
    let vault = VaultServer::new();
    let (client, cache) = client(&vault);
    assert_eq!(get(&client, "allowed").await.status(), 200);
    let response = get(&client, "forbidden").await;
    assert_eq!(response.status(), 403);
    let why = response.extensions().get::<NotReplayed>().unwrap();
    assert!(matches!(why, NotReplayed::SameToken), "{why:?}");
    // Ten minutes with ten requests per second.
    for n in 0..6000 {
        let path = ["forbidden", "allowed", "forbidden-2", "forbidden-3"][n % 4];
        let expected = if path == "allowed" { 200 } else { 403 };
        assert_eq!(get(&client, path).await.status(), expected);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(vault.count("login"), 1);
    assert_eq!(vault.count("renew-self"), 0);
    let lookups = vault.count("lookup-self");
    assert!((2..=20).contains(&lookups), "{lookups}");
    assert_eq!(cache.token().await.unwrap().secret(), "hvs.token-1");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_asks_for_forbidden_paths_does_not_log_in_again() {
    let vault = VaultServer::new();
    let (client, _) = client(&vault);
    for n in 0..600 {
        let response = get(&client, &format!("forbidden-{}", n % 7)).await;
        assert_eq!(response.status(), 403);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(vault.count("login"), 1);
    assert!(vault.count("lookup-self") <= 20, "{:?}", vault.asked());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_noticed_after_refusals_of_a_forbidden_path() {
    let vault = VaultServer::new();
    let (client, _) = client(&vault);
    for path in ["allowed", "forbidden", "forbidden", "allowed"] {
        get(&client, path).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    vault.revoke_all();
    assert_eq!(get(&client, "allowed").await.status(), 200);
    assert_eq!(vault.count("login"), 2);
}

#[tokio::test(start_paused = true)]
async fn the_lookup_tells_the_cache_when_the_token_ends() {
    let vault = VaultServer::new();
    let (client, cache) = client(&vault);
    get(&client, "allowed").await;
    tokio::time::sleep(Duration::from_secs(1000)).await;
    let expires = || cache.status().expires_at().unwrap();
    let before = expires();
    get(&client, "forbidden").await;
    let moved = match expires().duration_since(before) {
        Ok(later) => later,
        Err(earlier) => earlier.duration(),
    };
    assert!(moved <= Duration::from_secs(1), "{moved:?}");
    assert_eq!(vault.asked(), ["login", "lookup-self"]);
}

/// The source then can't tell the two meanings of a 403 apart. Only the budget limits its logins.
#[tokio::test(start_paused = true)]
async fn a_token_that_may_not_look_itself_up_is_replaced_within_the_budget() {
    let vault = VaultServer::new();
    vault.set(|state| state.denies_self = true);
    let (client, _) = client(&vault);
    for _ in 0..600 {
        assert_eq!(get(&client, "forbidden").await.status(), 403);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let logins = vault.count("login");
    assert!((2..=10).contains(&logins), "{logins}");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_for_now_is_no_login() {
    let vault = VaultServer::new();
    let (client, _) = client(&vault);
    get(&client, "allowed").await;
    vault.service().respond_next(ScriptedResponse::new(403));
    vault.service().respond_always(ScriptedResponse::new(503));
    let response = get(&client, "allowed").await;
    let why = response.extensions().get::<NotReplayed>().unwrap();
    assert!(matches!(why, NotReplayed::Fetch(error) if error.is_transient()));
    vault.service().respond_as_usual();
    assert_eq!(get(&client, "allowed").await.status(), 200);
    assert_eq!(vault.count("login"), 1);
}
