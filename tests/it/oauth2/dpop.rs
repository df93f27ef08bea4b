//! DPoP (RFC 9449): a proof for each request, with the nonce that a server requires.

use std::future::ready;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tower::Service;
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};
use tower_auth::{AuthLayer, BoxError};

use crate::support::serving::{ServerResponse, serving};
use crate::support::token_server::{ID, SECRET, URL};

mod keys;
mod requests;
mod token_requests;

/// The claims of a proof whose signature and header are valid.
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
    // The header contains only the public half of the key (RFC 9449 §4.2).
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

/// A server. Its script gets each request's number and headers, and returns the response.
fn server(
    script: impl Fn(usize, &HeaderMap) -> ServerResponse + Clone + Send + Sync + 'static,
) -> (
    impl Service<Request<Full<Bytes>>, Response = ServerResponse, Error = BoxError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static,
    Seen,
) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let service = serving(move |head, body| {
        let body = String::from_utf8(body.to_vec()).unwrap();
        let number = {
            let mut log = log.lock().unwrap();
            log.push((head.headers.clone(), body));
            log.len()
        };
        ready(Ok(script(number, &head.headers)))
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

fn ok() -> ServerResponse {
    Response::new(Full::default())
}

fn issue(number: usize) -> ServerResponse {
    let response =
        format!(r#"{{"access_token":"token-{number}","token_type":"DPoP","expires_in":3600}}"#);
    Response::new(Full::from(response))
}

fn respond(status: u16, name: &'static str, value: &str, body: &'static str) -> ServerResponse {
    let response = Response::builder().status(status).header(name, value);
    response.body(Full::from(body)).unwrap()
}

fn layer() -> (AuthLayer, Seen, DpopKey) {
    let key = DpopKey::generate().unwrap();
    let (issuer, asked) = server(|number, _| issue(number));
    let client = Client::new(URL, ID, SECRET).unwrap().transport(issuer);
    let source = ClientCredentials::with_client(client.dpop(key.clone()));
    (crate::support::layer(source), asked, key)
}
