//! DPoP (RFC 9449): a proof for each request, and the nonces that servers want in it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tower::{Layer, Service, service_fn};
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey, RefreshToken, SignedJwt, SigningKey};
use tower_auth::{AuthLayer, NotReplayed, Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};
use crate::support::{call, request};

/// What a proof claims, its signature and its header found right.
#[derive(Debug, Deserialize)]
struct Proof {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    ath: Option<String>,
    nonce: Option<String>,
    #[serde(skip)]
    thumbprint: String,
}

fn proof(headers: &HeaderMap) -> Proof {
    let proofs: Vec<_> = headers.get_all("dpop").iter().collect();
    let [value] = proofs[..] else {
        panic!("{proofs:?}");
    };
    assert!(value.is_sensitive());
    let proof = value.to_str().unwrap();
    let header = jsonwebtoken::decode_header(proof).unwrap();
    assert_eq!(header.typ.as_deref(), Some("dpop+jwt"));
    assert_eq!(header.alg, Algorithm::ES256);
    let jwk = header.jwk.unwrap();
    // The public half alone (§4.2).
    assert!(!serde_json::to_string(&jwk).unwrap().contains("\"d\""));
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_required_spec_claims::<&str>(&[]);
    validation.validate_aud = false;
    let key = DecodingKey::from_jwk(&jwk).unwrap();
    let mut claims = jsonwebtoken::decode::<Proof>(proof, &key, &validation)
        .unwrap()
        .claims;
    claims.thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).unwrap();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(claims.iat.abs_diff(now) < 60, "{claims:?}");
    claims
}

type Seen = Arc<Mutex<Vec<(HeaderMap, String)>>>;
type Answer = Response<Full<Bytes>>;

/// A server that sees heads and bodies, and answers as it is told.
fn server(
    answer: impl Fn(usize, &HeaderMap) -> Answer + Clone + Send + Sync + 'static,
) -> (
    impl Service<Request<Full<Bytes>>, Response = Answer, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static,
    Seen,
) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Full<Bytes>>| {
        let (answer, log) = (answer.clone(), Arc::clone(&log));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            let number = {
                let mut log = log.lock().unwrap();
                log.push((head.headers.clone(), body));
                log.len()
            };
            Ok::<_, Infallible>(answer(number, &head.headers))
        }
    });
    (service, seen)
}

fn proofs(seen: &Seen) -> Vec<Proof> {
    let seen = seen.lock().unwrap();
    seen.iter().map(|(headers, _)| proof(headers)).collect()
}

fn credentials(seen: &Seen) -> Vec<String> {
    let seen = seen.lock().unwrap();
    let of = |(headers, _): &(HeaderMap, String)| {
        let value = &headers[AUTHORIZATION];
        assert!(value.is_sensitive());
        value.to_str().unwrap().to_owned()
    };
    seen.iter().map(of).collect()
}

fn ok() -> Answer {
    Response::new(Full::default())
}

fn issue(number: usize) -> Answer {
    let reply =
        format!(r#"{{"access_token":"token-{number}","token_type":"DPoP","expires_in":3600}}"#);
    Response::new(Full::from(reply))
}

fn answer(status: u16, name: &'static str, value: &str, body: &'static str) -> Answer {
    let response = Response::builder().status(status).header(name, value);
    response.body(Full::from(body)).unwrap()
}

/// What an API says to a proof without its nonce (§9).
fn nonce_wanted(nonce: &str) -> Answer {
    let mut answer = answer(401, "dpop-nonce", nonce, "");
    let challenge = r#"DPoP error="use_dpop_nonce", error_description="nonce required""#;
    let challenge = challenge.parse().unwrap();
    answer.headers_mut().insert("www-authenticate", challenge);
    answer
}

/// And to a token that isn't good.
fn token_refused() -> Answer {
    answer(
        401,
        "www-authenticate",
        r#"DPoP error="invalid_token", algs="ES256""#,
        "",
    )
}

fn layer() -> (AuthLayer, Seen, DpopKey) {
    let key = DpopKey::generate().unwrap();
    let (issuer, asked) = server(|number, _| issue(number));
    let client = Client::with_transport(URL, ID, SECRET, issuer).unwrap();
    let source = ClientCredentials::with_client(client.dpop(key.clone()));
    (AuthLayer::new(source), asked, key)
}

#[tokio::test]
async fn the_token_request_and_each_request_have_a_proof_of_their_own() {
    let (layer, asked, key) = layer();
    let (api, seen) = server(|_, _| ok());
    let mut client = layer.layer(api);
    for address in [
        "https://API.example.com:443/a%20b/c?secret=1",
        "https://api.example.com:8443/",
        "http://localhost/x",
    ] {
        let request = Request::put(address).body(Full::default()).unwrap();
        call(&mut client, request).await.unwrap();
    }
    let [asking] = &proofs(&asked)[..] else {
        panic!("one token was asked for");
    };
    assert_eq!((&*asking.htm, &*asking.htu), ("POST", URL));
    assert_eq!((&asking.ath, &asking.nonce), (&None, &None));
    let sent = proofs(&seen);
    let addresses: Vec<_> = sent.iter().map(|proof| &*proof.htu).collect();
    assert_eq!(
        addresses,
        [
            "https://api.example.com/a%20b/c",
            "https://api.example.com:8443/",
            "http://localhost/x"
        ]
    );
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest("token-1"));
    for proof in sent.iter().chain([asking]) {
        assert_eq!(proof.thumbprint, key.thumbprint());
        assert_eq!(proof.jti.len(), 22, "128 bits");
    }
    for proof in &sent {
        assert_eq!(proof.htm, "PUT");
        assert_eq!(proof.ath.as_ref(), Some(&hash));
    }
    assert_eq!(credentials(&seen), ["DPoP token-1"; 3]);
    let distinct: HashSet<_> = sent.iter().chain([asking]).map(|p| &p.jti).collect();
    assert_eq!(distinct.len(), 4);
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
    assert_eq!(seen.lock().unwrap()[1].1, "body");
    assert_eq!(asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_token_endpoint_that_wants_a_nonce_gets_it_with_a_new_proof_and_a_new_assertion() {
    let (issuer, asked) = server(|number, _| match number {
        1 => answer(
            400,
            "dpop-nonce",
            "n-1",
            r#"{"error":"use_dpop_nonce","error_description":"nonce!"}"#,
        ),
        _ => issue(number),
    });
    let key = SigningKey::hmac("a secret of at least thirty-two bytes").unwrap();
    let assertion = SignedJwt::new(key).issuer(ID).subject(ID).audience(URL);
    let client = Client::public_with_transport(URL, ID, issuer).unwrap();
    let client = client.client_assertion(assertion);
    let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "token-2");
    let sent = proofs(&asked);
    assert_eq!(sent[0].nonce, None);
    assert_eq!(sent[1].nonce.as_deref(), Some("n-1"));
    assert_ne!(sent[0].jti, sent[1].jti);
    let bodies: Vec<_> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|(_, b)| b.clone())
        .collect();
    assert!(bodies[0].contains("client_assertion="));
    assert_ne!(bodies[0], bodies[1], "the server has seen the assertion");
    // It is remembered.
    source.fetch(Reason::Stale).await.unwrap();
    assert_eq!(proofs(&asked)[2].nonce.as_deref(), Some("n-1"));
}

/// It stands in the grant itself, which no retry of the request may send again.
#[tokio::test]
async fn a_jwt_of_a_service_account_is_signed_anew_for_the_nonce_too() {
    let (issuer, asked) = server(|number, _| match number {
        1 => answer(400, "dpop-nonce", "n-1", r#"{"error":"use_dpop_nonce"}"#),
        _ => issue(number),
    });
    let key = SigningKey::hmac("a secret of at least thirty-two bytes").unwrap();
    let assertion = SignedJwt::new(key).issuer(ID).audience(URL);
    let client = Client::anonymous_with_transport(URL, issuer).unwrap();
    let client = client.dpop(DpopKey::generate().unwrap());
    let source = tower_auth::oauth2::JwtBearer::new(client, assertion);
    source.fetch(Reason::First).await.unwrap();
    let nonces: Vec<_> = proofs(&asked).into_iter().map(|p| p.nonce).collect();
    assert_eq!(nonces, [None, Some(String::from("n-1"))]);
    let asked = asked.lock().unwrap();
    assert!(asked[0].1.contains("assertion=ey"));
    assert_ne!(asked[0].1, asked[1].1);
}

#[cfg(feature = "authorization-code")]
#[tokio::test]
async fn a_code_is_bound_to_the_key_from_the_start() {
    let key = DpopKey::generate().unwrap();
    let issuer = TokenServer::issuing().transport();
    let client = Client::public_with_transport(URL, ID, issuer).unwrap();
    let login = tower_auth::oauth2::AuthorizationCode::new(
        client.dpop(key.clone()),
        "https://id.example.com/authorize",
    );
    let begun = login.unwrap().begin("http://127.0.0.1:1/").await.unwrap();
    let jkt = format!("dpop_jkt={}", key.thumbprint());
    assert!(begun.url().contains(&jkt));
}

#[tokio::test]
async fn a_token_endpoint_that_is_never_content_with_a_nonce_is_asked_twice_an_attempt() {
    let wants = r#"{"error":"use_dpop_nonce"}"#;
    let (issuer, asked) =
        server(move |number, _| answer(400, "dpop-nonce", &format!("n-{number}"), wants));
    let client = Client::with_transport(URL, ID, SECRET, issuer).unwrap();
    let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(error.code(), Some("use_dpop_nonce"));
    assert!(error.is_transient(), "another nonce may do");
    assert_eq!(asked.lock().unwrap().len(), 2);

    // Without a nonce there's nothing to try again with.
    let (issuer, asked) = server(move |_, _| answer(400, "x", "", wants));
    let client = Client::with_transport(URL, ID, SECRET, issuer).unwrap();
    let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
    source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_api_that_wants_a_nonce_gets_it_with_the_same_token() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| match number {
        1 => nonce_wanted("n-1"),
        // The next one comes with a success.
        2 => answer(200, "dpop-nonce", "n-2", ""),
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
    assert_eq!(seen.lock().unwrap()[1].1, "body");
    assert_eq!(credentials(&seen), ["DPoP token-1"; 3]);
    assert_eq!(asked.lock().unwrap().len(), 1, "it was the proof's fault");
}

#[tokio::test]
async fn nonces_are_kept_by_origin_and_shared_by_tokens() {
    let (layer, asked, _) = layer();
    let (api, seen) = server(|number, _| answer(200, "dpop-nonce", &format!("n-{number}"), ""));
    let mut client = layer.layer(api);
    for address in [
        "https://one.example.com/a",
        "https://two.example.com/a",
        "https://one.example.com:444/a",
        "https://ONE.example.com:443/b",
    ] {
        let request = Request::get(address).body(Full::default()).unwrap();
        call(&mut client, request).await.unwrap();
    }
    layer.cache().refresh_now().await.unwrap();
    let request = Request::get("https://two.example.com/").body(Full::default());
    call(&mut client, request.unwrap()).await.unwrap();
    let sent = proofs(&seen);
    let nonces: Vec<_> = sent.iter().map(|proof| proof.nonce.as_deref()).collect();
    assert_eq!(nonces, [None, None, None, Some("n-1"), Some("n-2")]);
    assert_eq!(credentials(&seen)[4], "DPoP token-2");
    assert!(proofs(&asked).iter().all(|proof| proof.nonce.is_none()));
}

/// Each is tried once more for the nonce, and once more for a new token, whichever comes first.
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
        assert_eq!(asked.lock().unwrap().len(), 2);
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
    assert_eq!(seen.lock().unwrap().len(), 2);
    assert_eq!(layer.cache().token().await.unwrap().secret(), "token-1");
    assert_eq!(asked.lock().unwrap().len(), 1);
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
    assert_eq!(seen.lock().unwrap().len(), 3);
    assert_eq!(asked.lock().unwrap().len(), 2);
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
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_thousand_with_an_old_nonce_are_sent_once_more_and_cost_no_token() {
    let (layer, asked, _) = layer();
    layer.cache().token().await.unwrap();
    let (api, seen) = server(|_, headers| match proof(headers).nonce.as_deref() {
        Some("now") => ok(),
        _ => nonce_wanted("now"),
    });
    // All are on their way before the first answer is here.
    let gate = Arc::new(tokio::sync::Barrier::new(1000));
    let slow = service_fn(move |request: Request<Full<Bytes>>| {
        let (mut api, gate) = (api.clone(), Arc::clone(&gate));
        async move {
            if proof(request.headers()).nonce.is_none() {
                gate.wait().await;
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
    assert_eq!(seen.lock().unwrap().len(), 2000);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_nonce_is_ignored() {
    let (layer, ..) = layer();
    let long = "n".repeat(1025);
    let bad = ["", "two words", "quo\"te", "back\\slash", &long];
    let bad: Vec<String> = bad.iter().map(|bad| (*bad).to_owned()).collect();
    let count = bad.len();
    let (api, seen) = server(move |number, _| match bad.get(number - 1) {
        Some(bad) => answer(200, "dpop-nonce", bad, ""),
        None => {
            let mut two = answer(200, "dpop-nonce", "one", "");
            two.headers_mut()
                .append("dpop-nonce", "two".parse().unwrap());
            two
        }
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
    let (api, seen) = server(|_, _| answer(200, "dpop-nonce", "n", ""));
    let mut client = layer.layer(api);
    let to = |number: usize| {
        let address = format!("https://{number}.example.com/");
        Request::get(address).body(Full::default()).unwrap()
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
        let client = Client::with_transport(URL, ID, SECRET, issuer.transport()).unwrap();
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
    let request = Request::get("/only/a/path").body(Full::default()).unwrap();
    let error = call(&mut layer.layer(api), request).await.unwrap_err();
    let error: &tower_auth::Error = error.downcast_ref().unwrap();
    assert!(error.is_config());
    assert!(error.to_string().contains("only a path"), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_request_with_a_credential_of_the_callers_own_gets_no_proof() {
    let (layer, ..) = layer();
    let (api, seen) = server(|_, _| ok());
    let mut own = request("");
    own.headers_mut()
        .insert(AUTHORIZATION, "Bearer own".parse().unwrap());
    call(&mut layer.layer(api), own).await.unwrap();
    let (headers, _) = &seen.lock().unwrap()[0];
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
        let (head, _) = nonce_wanted("stolen").into_parts();
        let mut response = Response::builder().url("https://evil.example.com".parse().unwrap());
        *response.headers_mut().unwrap() = head.headers;
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
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refresh_token_is_used_with_a_proof_too() {
    let (issuer, asked) = server(|number, _| issue(number));
    let client = Client::public_with_transport(URL, ID, issuer).unwrap();
    let key = DpopKey::generate().unwrap();
    let source = RefreshToken::new(client.dpop(key.clone()), "refresh");
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(proofs(&asked)[0].thumbprint, key.thumbprint());
}

#[test]
fn a_key_survives_being_written_and_read() {
    let key = DpopKey::generate().unwrap();
    let pem = key.to_pem().unwrap();
    use secrecy::ExposeSecret;
    let text = pem.expose_secret();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(text.lines().all(|line| line.len() <= 64));
    let read = DpopKey::from_pem(text).unwrap();
    assert_eq!(read.thumbprint(), key.thumbprint());
    assert_ne!(DpopKey::generate().unwrap().thumbprint(), key.thumbprint());
    assert!(format!("{key:?}").contains(key.thumbprint()));
}

#[test]
fn a_key_that_will_not_do_is_told_what_is_wrong_without_a_word_of_it() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p256 = rcgen::KeyPair::generate().unwrap();
    for (pem, why) in [
        (String::new(), "isn't PEM"),
        (String::from("planted-secret"), "isn't PEM"),
        (p256.public_key_pem(), "isn't PEM"),
        (rsa.serialize_pem(), "isn't PEM"),
        (p384.serialize_pem(), "P-256"),
    ] {
        let error = DpopKey::from_pem(pem.as_str()).unwrap_err();
        assert!(error.is_config());
        let text = all_text_of(&error);
        assert!(text.contains(why), "{text}");
        assert!(!text.contains("planted"));
        let secret = pem.lines().nth(1).unwrap_or("nothing to leak");
        assert!(!text.contains(secret));
    }
    assert!(DpopKey::from_pem(p256.serialize_pem()).is_ok());
}
