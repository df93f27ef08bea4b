//! DPoP (RFC 9449): a proof for each request, with the nonce that a server requires.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::jwk::ThumbprintHash;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use tower_auth::AuthLayer;
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

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

/// A server. Its script gets each request's number and headers, and returns the response. The second
/// value is for what the server has seen.
fn server(
    script: impl Fn(usize, &HeaderMap) -> ScriptedResponse + Send + Sync + 'static,
) -> (ScriptedServer, ScriptedServer) {
    let server = ScriptedServer::new(move |request| script(request.number(), request.headers()));
    (server.clone(), server)
}

fn proofs(seen: &ScriptedServer) -> Vec<Proof> {
    let requests = seen.requests().into_iter();
    requests.map(|request| proof(request.headers())).collect()
}

fn credentials(seen: &ScriptedServer) -> Vec<String> {
    let of = |request: RecordedRequest| {
        let value = &request.headers()[AUTHORIZATION];
        assert!(value.is_sensitive());
        value.to_str().unwrap().to_owned()
    };
    seen.requests().into_iter().map(of).collect()
}

fn ok() -> ScriptedResponse {
    ScriptedResponse::new(200)
}

fn issue(number: usize) -> ScriptedResponse {
    let response =
        format!(r#"{{"access_token":"token-{number}","token_type":"DPoP","expires_in":3600}}"#);
    ScriptedResponse::json(200, response)
}

fn respond(status: u16, name: &str, value: &str, body: &'static str) -> ScriptedResponse {
    let response = ScriptedResponse::new(status).header(name, value);
    response.body(body)
}

fn layer() -> (AuthLayer, ScriptedServer, DpopKey) {
    let key = DpopKey::generate().unwrap();
    let (issuer, asked) = server(|number, _| issue(number));
    let client = Client::new(URL, ID, SECRET).unwrap().transport(issuer);
    let source = ClientCredentials::with_client(client.dpop(key.clone()));
    (crate::support::layer(source), asked, key)
}
