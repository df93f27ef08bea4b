//! Leases: renewals that keep the token's text, and logins when a renewal doesn't help.

use std::time::Duration;

use tower_auth::{Error, Reason, TokenCache, TokenSource};
use tower_auth_test::ScriptedResponse;

use crate::support::paused;
use crate::support::token_server::expiry;
use crate::support::vault_server::VaultServer;

const MINUTE: Duration = Duration::from_secs(60);

/// Gets a token once per minute for this time. No request fails.
async fn run_for(cache: &TokenCache, minutes: u32) {
    for _ in 0..minutes {
        tokio::time::sleep(MINUTE).await;
        cache.token().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn before_its_end_a_lease_is_renewed_and_the_token_stays_the_same() {
    let vault = VaultServer::new();
    let cache = paused(vault.login()).build();
    let first = cache.token().await.unwrap();
    run_for(&cache, 24 * 60).await;
    let last = cache.token().await.unwrap();
    assert_eq!(last.secret(), first.secret());
    assert_eq!(vault.count("login"), 1);
    let renewals = vault.count("renew-self");
    assert!((25..=27).contains(&renewals), "{renewals}");
    let requests = vault.service().requests();
    let renewal = requests.last().unwrap();
    assert_eq!(renewal.header("x-vault-token"), Some("hvs.token-1"));
    assert_eq!(renewal.body(), "{}");
    assert_eq!(renewal.method(), "POST");
}

/// If a renewed token were another credential, the cache would not count earlier refusals of it.
#[tokio::test(start_paused = true)]
async fn a_renewed_token_is_the_same_credential() {
    let vault = VaultServer::new();
    let login = vault.login();
    let generation = |token| {
        let shown = format!("{token:?}");
        let (_, rest) = shown.split_once("generation: ").unwrap();
        rest.split_once(',').unwrap().0.to_owned()
    };
    let first = generation(login.fetch(Reason::First).await.unwrap());
    tokio::time::sleep(30 * MINUTE).await;
    let renewed = login.fetch(Reason::Stale).await.unwrap();
    assert_eq!(expiry(&renewed), "In(3600s)");
    assert_eq!(generation(renewed), first);
    let looked_up = login.fetch(Reason::Refused).await.unwrap();
    assert_eq!(generation(looked_up), first);
    assert_eq!(vault.asked(), ["login", "renew-self", "lookup-self"]);
}

#[tokio::test(start_paused = true)]
async fn at_the_maximum_lifetime_the_source_logs_in_again() {
    let vault = VaultServer::new();
    vault.set(|state| state.max_ttl = 4 * 3600);
    let cache = paused(vault.login()).build();
    cache.token().await.unwrap();
    run_for(&cache, 3 * 60).await;
    assert_eq!(vault.count("login"), 1);
    run_for(&cache, 61).await;
    assert_eq!(vault.count("login"), 2, "{:?}", vault.asked());
    assert_eq!(cache.token().await.unwrap().secret(), "hvs.token-2");
    run_for(&cache, 20 * 60).await;
    let logins = vault.count("login");
    assert!((6..=7).contains(&logins), "{:?}", vault.asked());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_extends_the_lease_by_less_than_a_tenth_is_followed_by_a_login() {
    let vault = VaultServer::new();
    let login = vault.login();
    login.fetch(Reason::First).await.unwrap();
    // The lease grows from 3600 s to 4000 s after the login.
    vault.set(|state| state.max_ttl = 4000);
    tokio::time::sleep(Duration::from_secs(3400)).await;
    let renewed = login.fetch(Reason::Stale).await.unwrap();
    assert_eq!(expiry(&renewed), "In(600s)");
    assert_eq!(renewed.secret(), "hvs.token-1");
    // The next renewal doesn't extend the lease, so a login follows.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let next = login.fetch(Reason::Stale).await.unwrap();
    assert_eq!(
        (next.secret(), &*expiry(&next)),
        ("hvs.token-2", "In(3600s)")
    );
    assert_eq!(
        vault.asked(),
        ["login", "renew-self", "renew-self", "login"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewable_ends_with_a_login() {
    let vault = VaultServer::new();
    vault.set(|state| state.is_renewable = false);
    let cache = paused(vault.login()).build();
    cache.token().await.unwrap();
    run_for(&cache, 60).await;
    assert_eq!(vault.asked(), ["login", "login"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_without_an_end_is_never_renewed() {
    let vault = VaultServer::new();
    vault.set(|state| state.ttl = 0);
    let cache = paused(vault.login()).build();
    cache.token().await.unwrap();
    run_for(&cache, 600).await;
    assert_eq!(vault.asked(), ["login"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_is_followed_by_a_login_in_the_same_fetch() {
    let vault = VaultServer::new();
    let login = vault.login();
    login.fetch(Reason::First).await.unwrap();
    vault.revoke_all();
    let next = login.fetch(Reason::Stale).await.unwrap();
    assert_eq!(next.secret(), "hvs.token-2");
    assert_eq!(vault.asked(), ["login", "renew-self", "login"]);
}

#[tokio::test(start_paused = true)]
async fn while_the_server_is_sealed_the_token_stays_in_use_and_is_renewed_afterwards() {
    let vault = VaultServer::new();
    let cache = paused(vault.login()).build();
    cache.token().await.unwrap();
    tokio::time::sleep(56 * MINUTE).await;
    let sealed = ScriptedResponse::json(503, r#"{"errors":["Vault is sealed"]}"#);
    vault.service().respond_always(sealed);
    for _ in 0..6 {
        assert_eq!(cache.token().await.unwrap().secret(), "hvs.token-1");
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(vault.count("login"), 1);
    assert!(cache.status().last_error().is_some_and(Error::is_transient));
    vault.service().respond_as_usual();
    run_for(&cache, 2).await;
    assert_eq!(vault.count("login"), 1);
    assert_eq!(cache.token().await.unwrap().secret(), "hvs.token-1");
}

#[tokio::test(start_paused = true)]
async fn the_user_gets_a_new_login_by_asking_for_a_new_token() {
    let vault = VaultServer::new();
    let cache = paused(vault.login()).build();
    cache.token().await.unwrap();
    assert_eq!(cache.refresh_now().await.unwrap().secret(), "hvs.token-2");
    assert_eq!(vault.asked(), ["login", "login"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_that_is_about_to_end_is_replaced() {
    let vault = VaultServer::new();
    let login = vault.login();
    login.fetch(Reason::First).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_599_500)).await;
    let next = login.fetch(Reason::Refused).await.unwrap();
    assert_eq!(next.secret(), "hvs.token-2");
    assert_eq!(vault.asked(), ["login", "lookup-self", "login"]);
}
