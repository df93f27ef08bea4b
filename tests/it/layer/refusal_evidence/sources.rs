//! Sources whose fetch is a login or a token exchange. Servers count such requests, and lock an
//! account after too many.

#[cfg(feature = "cookies")]
use http::header::SET_COOKIE;
use serde_json::json;
use tower_auth::TokenSource;
use tower_auth::login::JsonLogin;
#[cfg(feature = "cookies")]
use tower_auth::login::Session;
use tower_auth::oauth2::{Client, RefreshToken};

use super::simulated_api::{Api, Issuer};
use super::{DAY, ROW_1, Simulation, by_turns, layer_from, paused};
use crate::support::serving::{ServerResponse, params, respond, serving};
use crate::support::token_server::{ID, SECRET, URL};

const LOGIN: &str = "https://api.example.com/v1/session/login";
const REFRESH: &str = "https://api.example.com/v1/session/refresh";

/// Asserts the usual limits while one resource refuses every token for an hour.
async fn is_no_dearer(issuer: Issuer, source: impl TokenSource) {
    let api = Api::new(&issuer, |asked| asked.path != "/admin");
    let mut simulation = Simulation::of(&api, [layer_from(paused(source).build())]);
    simulation.drive_for_an_hour(by_turns).await;
    simulation.finish().await;
    simulation.costs_at_most(ROW_1);
    simulation.is_undisturbed("/");
    // Each fetch got a token.
    let newest = issuer.issued();
    assert_eq!(newest, issuer.count(), "a login failed");
}

#[cfg(feature = "cookies")]
#[tokio::test(start_paused = true)]
async fn a_session_logs_in_no_more_often_for_a_resource_that_refuses_it() {
    let issuer = Issuer::lasting(DAY);
    let server = issuer.clone();
    let transport = serving(move |head, _| {
        let server = server.clone();
        assert_eq!(head.uri, LOGIN);
        async move {
            let number = server.issue().await?;
            let mut response = respond(200, "{}");
            let cookie = format!("sid={number}; Path=/; Max-Age=86400");
            response.headers_mut().insert(SET_COOKIE, cookie.parse()?);
            Ok(response)
        }
    });
    let session = Session::new(LOGIN, "me@example.com", "p4ssword").unwrap();
    is_no_dearer(issuer, session.transport(transport)).await;
}

/// Returns a token response whose access token and refresh token have this number.
fn issued(number: usize) -> ServerResponse {
    let body = json!({
        "access_token": format!("token-{number}"),
        "refresh_token": format!("refresh-{number}"),
        "token_type": "Bearer",
        "expires_in": 86_400,
    });
    respond(200, body.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_json_login_logs_in_no_more_often_for_a_resource_that_refuses_its_tokens() {
    for refreshes in [false, true] {
        let issuer = Issuer::lasting(DAY);
        let server = issuer.clone();
        let transport = serving(move |head, _| {
            let server = server.clone();
            assert!(head.uri == LOGIN || refreshes && head.uri == REFRESH);
            async move { Ok(issued(server.issue().await?)) }
        });
        let login = JsonLogin::new(LOGIN, "me@example.com", "p4ssword").unwrap();
        let login = login.transport(transport);
        let login = match refreshes {
            true => login.refresh_at(REFRESH).unwrap(),
            false => login,
        };
        is_no_dearer(issuer, login).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotating_refresh_token_is_exchanged_no_more_often_for_a_resource_that_refuses_its_tokens()
 {
    let issuer = Issuer::lasting(DAY);
    let server = issuer.clone();
    let transport = serving(move |_, body| {
        let server = server.clone();
        async move {
            let form: Vec<(String, String)> = params(&body);
            let current = format!("refresh-{}", server.issued());
            let is_current = form.iter().any(|(_, value)| *value == current);
            if !is_current {
                server.refuse();
                return Ok(respond(400, r#"{"error":"invalid_grant"}"#));
            }
            Ok(issued(server.issue().await?))
        }
    });
    let client = Client::new(URL, ID, SECRET).unwrap().transport(transport);
    is_no_dearer(issuer, RefreshToken::new(client, "refresh-0")).await;
}
