//! Session cookies of Django's own login.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::StatusCode;
use reqwest::Client;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::login::Session;
use tower_auth::{Auth, AuthLayer, NotReplayed, Reason, TokenCache, TokenSource};

use crate::login_server::{Django, PASSWORD, USER};
use crate::servers::HTTP;

const LOGIN: &str = "POST /session/login 200";
const PROFILE: &str = "GET /session/profile 200";
const REFUSED: &str = "GET /session/profile 401";

fn session(django: &Django, password: &str) -> Session {
    Session::new(django.url("/session/login"), USER, password)
        .and_then(|session| session.user_field("/username"))
        .and_then(|session| session.session_cookie("sessionid"))
        .and_then(|session| session.log_out_at(django.url("/session/logout")))
        .unwrap()
}

fn client(cache: &TokenCache) -> Auth<Client> {
    ServiceBuilder::new()
        .layer(AuthLayer::from(cache.clone()))
        .service(HTTP.clone())
}

async fn ask(django: &Django, client: &Auth<Client>) -> reqwest::Response {
    let request = HTTP.get(django.url("/session/profile"));
    let request = request.build().unwrap();
    client.clone().oneshot(request).await.unwrap()
}

async fn is_answered(django: &Django, client: &Auth<Client>) {
    let response = ask(django, client).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.text().await.unwrap().contains(USER));
}

#[tokio::test]
async fn sessions_that_the_server_forgets_are_one_login_for_all_and_one_replay_each() {
    let django = Django::start();
    let client = client(&TokenCache::new(session(&django, PASSWORD)));
    let all = async || {
        join_all((0..20).map(|_| is_answered(&django, &client))).await;
    };
    all().await;
    assert_eq!(
        django.lines().await,
        [&[LOGIN][..], &[PROFILE; 20]].concat()
    );
    assert_eq!(django.sessions().await, 1);
    django.tell("flush-sessions").await;
    all().await;
    let seen = django.seen().await;
    let count = |line: &str| seen.iter().filter(|seen| seen.line == line).count();
    assert_eq!((count(LOGIN), count(PROFILE)), (2, 40));
    // Only requests that started before the new session arrived were refused.
    assert!((1..=20).contains(&count(REFUSED)));
    assert_eq!(seen.len(), 2 + 40 + count(REFUSED));
    assert_eq!(django.sessions().await, 1);
    let asked = seen.iter().filter(|seen| seen.line != LOGIN);
    let sessions: BTreeSet<_> = asked.map(|seen| seen.session.as_deref().unwrap()).collect();
    assert_eq!(sessions.len(), 2);
}

#[tokio::test]
async fn closing_the_cache_ends_the_session_on_the_server() {
    let django = Django::start();
    let cache = TokenCache::new(session(&django, PASSWORD));
    is_answered(&django, &client(&cache)).await;
    assert_eq!(django.sessions().await, 1);
    cache.close().await;
    assert_eq!(django.sessions().await, 0);
    let logout = "POST /session/logout 204";
    assert_eq!(django.lines().await, [LOGIN, PROFILE, logout]);
    let [_, asked, ended] = &django.seen().await[..] else {
        panic!("three requests were to be seen");
    };
    assert_eq!(ended.session, asked.session);
}

#[tokio::test]
async fn a_wrong_password_is_permanent_and_a_user_who_is_locked_out_sees_the_servers_own_refusal() {
    let django = Django::start();
    let wrong = session(&django, "not the p4ssword");
    let error = wrong.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error:?}");
    assert_eq!(error.description(), Some("Wrong name or password"));
    assert!(!format!("{error} {error:?}").contains("p4ssword"));

    let client = client(&TokenCache::new(session(&django, PASSWORD)));
    is_answered(&django, &client).await;
    django.tell("lock-everybody-out").await;
    let response = ask(&django, &client).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get::<NotReplayed>();
    assert!(
        matches!(why, Some(NotReplayed::Fetch(error)) if error.is_permanent()),
        "{why:?}"
    );
    assert_eq!(
        response.text().await.unwrap(),
        r#"{"error": "log in first"}"#
    );
    let refused = "POST /session/login 401";
    assert_eq!(
        django.lines().await,
        [refused, LOGIN, PROFILE, REFUSED, refused]
    );
}
