//! Proofs for an API, the nonces that it requires, and how often a request is sent.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};
use tower::{Layer, Service, service_fn};
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};
use tower_auth::{NotReplayed, Reason, TokenSource};
use tower_auth_test::ScriptedResponse;

use super::{credentials, layer, ok, proof, proofs, respond, server};
use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};
use crate::support::{call, request};

const WANTS_NONCE: &str = r#"DPoP error="use_dpop_nonce", error_description="nonce required""#;

/// Returns the response to a proof without the required nonce (RFC 9449 §9).
fn nonce_wanted(nonce: &str) -> ScriptedResponse {
    respond(401, "dpop-nonce", nonce, "").header("www-authenticate", WANTS_NONCE)
}

/// Returns the response to a token that isn't valid.
fn token_refused() -> ScriptedResponse {
    respond(
        401,
        "www-authenticate",
        r#"DPoP error="invalid_token", algs="ES256""#,
        "",
    )
}

#[tokio::test]
async fn a_replay_has_a_proof_of_its_own_for_the_new_token() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| match number {
        1 => token_refused(),
        _ => ok(),
    });
    let response = call(&mut layer.layer(api), request("body")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(credentials(&seen), ["DPoP token-1", "DPoP token-2"]);
    let sent = proofs(&seen);
    assert_ne!(sent[0].jti, sent[1].jti);
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest("token-2"));
    assert_eq!(sent[1].ath.as_ref(), Some(&hash));
    assert_eq!(seen.requests()[1].text(), "body");
    assert_eq!(asked.requests().len(), 2);
}

#[tokio::test]
async fn an_api_that_wants_a_nonce_gets_it_with_the_same_token() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| match number {
        1 => nonce_wanted("n-1"),
        // This success response carries the next nonce.
        2 => respond(200, "dpop-nonce", "n-2", ""),
        _ => ok(),
    });
    let mut client = layer.layer(api);
    for _ in 0..2 {
        let response = call(&mut client, request("body")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }
    let sent = proofs(&seen);
    let nonces: Vec<_> = sent.iter().map(|proof| proof.nonce.as_deref()).collect();
    assert_eq!(nonces, [None, Some("n-1"), Some("n-2")]);
    assert_eq!(seen.requests()[1].text(), "body");
    assert_eq!(credentials(&seen), ["DPoP token-1"; 3]);
    assert_eq!(asked.requests().len(), 1, "it was the proof's fault");
}

#[tokio::test]
async fn nonces_are_kept_by_origin_and_shared_by_tokens() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| respond(200, "dpop-nonce", &format!("n-{number}"), ""));
    let mut client = layer.layer(api);
    for address in [
        "https://one.example.com/a",
        "https://two.example.com/a",
        "https://one.example.com:444/a",
        "https://ONE.example.com:443/b",
    ] {
        let request = Request::get(address).body(String::new()).unwrap();
        call(&mut client, request).await.unwrap();
    }
    layer.cache().refresh_now().await.unwrap();
    let request = Request::get("https://two.example.com/").body(String::new());
    call(&mut client, request.unwrap()).await.unwrap();
    let sent = proofs(&seen);
    let nonces: Vec<_> = sent.iter().map(|proof| proof.nonce.as_deref()).collect();
    assert_eq!(nonces, [None, None, None, Some("n-1"), Some("n-2")]);
    assert_eq!(credentials(&seen)[4], "DPoP token-2");
    assert!(proofs(&asked).iter().all(|proof| proof.nonce.is_none()));
}

/// A request is sent once more for the nonce, and once more for a new token. The order doesn't
/// matter.
#[tokio::test]
async fn a_nonce_that_is_wanted_takes_nothing_from_the_replay_with_a_new_token() {
    for refused_first in [false, true] {
        let (layer, asked, _) = layer();
        let (api, seen) = server(move |number, _| match (number, refused_first) {
            (1, true) | (2, false) => token_refused(),
            (1, false) | (2, true) => nonce_wanted("n-1"),
            _ => ok(),
        });
        let response = call(&mut layer.layer(api), request("body")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{refused_first}");
        let sent = proofs(&seen);
        assert_eq!(sent.len(), 3);
        assert_eq!(sent[2].nonce.as_deref(), Some("n-1"));
        assert_eq!(credentials(&seen)[2], "DPoP token-2");
        assert_eq!(asked.requests().len(), 2);
    }
}

#[tokio::test]
async fn an_api_that_is_never_content_with_a_nonce_gets_two_requests_and_costs_no_token() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| nonce_wanted(&format!("n-{number}")));
    let response = call(&mut layer.layer(api), request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::Again)
    ));
    assert_eq!(seen.requests().len(), 2);
    assert_eq!(layer.cache().token().await.unwrap().secret(), "token-1");
    assert_eq!(asked.requests().len(), 1);
}

#[tokio::test]
async fn with_both_tries_used_up_the_caller_gets_the_refusal() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| match number % 2 {
        1 => nonce_wanted("n"),
        _ => token_refused(),
    });
    let response = call(&mut layer.layer(api), request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::Again)
    ));
    assert_eq!(seen.requests().len(), 3);
    assert_eq!(asked.requests().len(), 2);
}

#[tokio::test]
async fn without_replays_the_nonce_is_there_for_the_next_request() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| match number {
        1 => nonce_wanted("n-1"),
        _ => ok(),
    });
    let mut client = layer.retry(false).layer(api);
    let refused = call(&mut client, request("")).await.unwrap();
    assert!(matches!(refused.extensions().get(), Some(NotReplayed::Off)));
    let response = call(&mut client, request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(proofs(&seen)[1].nonce.as_deref(), Some("n-1"));
    assert_eq!(asked.requests().len(), 1);
}

#[tokio::test]
async fn a_thousand_with_an_old_nonce_are_sent_once_more_and_cost_no_token() {
    let (layer, asked, _) = layer();
    layer.cache().token().await.unwrap();
    let (api, seen) = server(|_, headers| match proof(headers).nonce.as_deref() {
        Some("now") => ok(),
        _ => nonce_wanted("now"),
    });
    // All requests are sent before the first response arrives.
    let barrier = Arc::new(tokio::sync::Barrier::new(1000));
    let slow = service_fn(move |request: Request<Full<Bytes>>| {
        let (mut api, barrier) = (api.clone(), Arc::clone(&barrier));
        async move {
            if proof(request.headers()).nonce.is_none() {
                barrier.wait().await;
            }
            api.call(request).await
        }
    });
    let client = layer.layer(slow);
    let all = (0..1000).map(|_| {
        let mut client = client.clone();
        async move { call(&mut client, request("")).await.unwrap().status() }
    });
    assert!(join_all(all).await.iter().all(|status| *status == 200));
    assert_eq!(seen.requests().len(), 2000);
    assert_eq!(asked.requests().len(), 1);
}

#[tokio::test]
async fn what_is_no_nonce_is_ignored() {
    let (layer, ..) = layer();
    let long = "n".repeat(1025);
    let bad = ["", "two words", "quo\"te", "back\\slash", &long];
    let bad: Vec<String> = bad.iter().map(|bad| (*bad).to_owned()).collect();
    let count = bad.len();
    let (api, seen) = server(move |number, _| match bad.get(number - 1) {
        Some(bad) => respond(200, "dpop-nonce", bad, ""),
        None => respond(200, "dpop-nonce", "one", "").header("dpop-nonce", "two"),
    });
    let mut client = layer.layer(api);
    for _ in 0..count + 2 {
        call(&mut client, request("")).await.unwrap();
    }
    assert!(proofs(&seen).iter().all(|proof| proof.nonce.is_none()));
}

#[tokio::test]
async fn as_many_origins_as_ever_have_their_nonces_kept_in_a_bounded_room() {
    let (layer, ..) = layer();
    let (api, seen) = server(|_, _| respond(200, "dpop-nonce", "n", ""));
    let mut client = layer.layer(api);
    let to = |number: usize| {
        let address = format!("https://{number}.example.com/");
        Request::get(address).body(String::new()).unwrap()
    };
    for number in (0..65).chain([64, 0]) {
        call(&mut client, to(number)).await.unwrap();
    }
    let sent = proofs(&seen);
    assert_eq!(sent[65].nonce.as_deref(), Some("n"));
    assert_eq!(sent[66].nonce, None, "it made room for others");
}

#[tokio::test]
async fn a_token_that_is_not_bound_is_refused_by_whoever_wanted_one_that_is() {
    for kind in [r#""token_type":"Bearer","#, "", r#""token_type":null,"#] {
        let body = format!(r#"{{{kind}"access_token":"loose","expires_in":60}}"#);
        let issuer = TokenServer::new(200, body);
        let client = Client::new(URL, ID, SECRET)
            .unwrap()
            .transport(issuer.transport());
        let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_reply());
        let text = all_text_of(&error);
        assert!(text.contains("ignored the proof"), "{text}");
        assert!(!text.contains("loose"));
    }
}

#[tokio::test]
async fn a_request_with_a_path_alone_is_not_sent() {
    let (layer, ..) = layer();
    let (api, seen) = server(|_, _| ok());
    let request = Request::get("/only/a/path").body(String::new()).unwrap();
    let error = call(&mut layer.layer(api), request).await.unwrap_err();
    let error: &tower_auth::Error = error.downcast_ref().unwrap();
    assert!(error.is_config());
    assert!(error.to_string().contains("only a path"), "{error}");
    assert!(seen.requests().is_empty());
}

#[tokio::test]
async fn a_request_with_a_credential_of_the_callers_own_gets_no_proof() {
    let (layer, ..) = layer();
    let (api, seen) = server(|_, _| ok());
    let mut own = request("");
    own.headers_mut()
        .insert(AUTHORIZATION, "Bearer own".parse().unwrap());
    call(&mut layer.layer(api), own).await.unwrap();
    let request = &seen.requests()[0];
    let headers = request.headers();
    assert_eq!(headers[AUTHORIZATION], "Bearer own");
    assert!(!headers.contains_key("dpop"));
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn another_origin_teaches_nothing() {
    use reqwest::ResponseBuilderExt;
    let (layer, asked, _) = layer();
    let nonces = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&nonces);
    let api = service_fn(move |request: reqwest::Request| {
        let nonce = proof(request.headers()).nonce;
        seen.lock().unwrap().push(nonce);
        let response = Response::builder().url("https://evil.example.com".parse().unwrap());
        let response = response.header("dpop-nonce", "stolen");
        let response = response.header("www-authenticate", WANTS_NONCE);
        let response = response.status(401).body("").unwrap();
        std::future::ready(Ok::<_, Infallible>(reqwest::Response::from(response)))
    });
    let mut client = layer.layer(api);
    for _ in 0..2 {
        let url = "https://api.example.com".parse().unwrap();
        let response = call(&mut client, reqwest::Request::new(Method::GET, url));
        let response = response.await.unwrap();
        assert!(matches!(
            response.extensions().get(),
            Some(NotReplayed::Elsewhere)
        ));
    }
    assert_eq!(*nonces.lock().unwrap(), [None, None]);
    assert_eq!(asked.requests().len(), 1);
}
