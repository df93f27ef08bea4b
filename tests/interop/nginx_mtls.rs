//! nginx as a front that requires client certificates (RFC 8705). It passes the certificate in a
//! header to the servers behind it.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use percent_encoding::percent_decode_str;
use reqwest::{Client, Identity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::{self, ClientCredentials, ReqwestTransport};
use tower_auth::{AuthLayer, NotReplayed, Reason, TokenSource};

use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::nginx_clients::of_reqwest;
use crate::support::serve;
use crate::tls::Authority;

/// A signing key that only this process trusts.
const KEY: &[u8] = b"known to everyone, trusted by no one";

/// The certificate thumbprints of the clients that got a token, in order.
type Issued = Arc<Mutex<Vec<String>>>;

/// Returns the thumbprint of the client certificate (RFC 8705 §3.1).
fn thumbprint(headers: &HeaderMap) -> String {
    let escaped = headers["x-client-cert"].to_str().unwrap();
    let pem = percent_decode_str(escaped).collect::<Vec<_>>();
    let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
    URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate))
}

/// Issues a token that is bound to the client certificate.
async fn token(State(issued): State<Issued>, headers: HeaderMap) -> Json<Value> {
    let thumbprint = thumbprint(&headers);
    let mut issued = issued.lock().unwrap();
    let claims = json!({
        "jti": format!("token-{}", issued.len() + 1),
        "exp": jsonwebtoken::get_current_timestamp() + 3600,
        "cnf": {"x5t#S256": thumbprint},
    });
    issued.push(thumbprint);
    let key = EncodingKey::from_secret(KEY);
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
}

/// Refuses a token that is bound to another certificate (RFC 8705 §3).
async fn reports(headers: HeaderMap) -> Response {
    let token = headers[AUTHORIZATION].to_str().unwrap();
    let token = token.strip_prefix("Bearer ").unwrap();
    let key = DecodingKey::from_secret(KEY);
    let claims = jsonwebtoken::decode::<Value>(token, &key, &Validation::default());
    if claims.unwrap().claims["cnf"]["x5t#S256"] == thumbprint(&headers) {
        return "12 reports".into_response();
    }
    let challenge = [(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)];
    (StatusCode::UNAUTHORIZED, challenge).into_response()
}

struct Front {
    authority: Authority,
    issued: Issued,
    nginx: Nginx,
    url: String,
}

impl Front {
    async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let issued = Issued::default();
        let upstream = Router::new()
            .route("/token", post(token))
            .route("/reports", get(reports))
            .with_state(Arc::clone(&issued));
        let upstream = serve(upstream).await.unwrap();
        let port = free_port();
        let front = format!(
            "server {{
                listen 127.0.0.1:{port} ssl http2;
                ssl_certificate server.pem;
                ssl_certificate_key server.pem;
                ssl_client_certificate authority.pem;
                ssl_verify_client on;
                location / {{
                    proxy_pass {upstream};
                    proxy_set_header X-Client-Cert $ssl_client_escaped_cert;
                }}
            }}"
        );
        let files = [
            ("server.pem", &*authority.issue("localhost").unwrap()),
            ("authority.pem", &authority.root()),
        ];
        Self {
            nginx: Nginx::start(&front, &files),
            authority,
            issued,
            url: format!("https://localhost:{port}"),
        }
    }

    /// Builds a client with a certificate of this authority, or without a certificate.
    fn client(&self, issuer: Option<&Authority>) -> Client {
        let mut client = of_reqwest(&self.authority);
        if let Some(issuer) = issuer {
            let own = issuer.issue("reports.clients.example.com").unwrap();
            client = client.identity(Identity::from_pem(own.as_bytes()).unwrap());
        }
        client.build().unwrap()
    }

    fn source(&self, http: &Client) -> ClientCredentials {
        let url = format!("{}/token", self.url);
        let transport = ReqwestTransport::new(http.clone());
        let client = oauth2::Client::public(url, "reports").unwrap();
        ClientCredentials::with_client(client.transport(transport))
    }

    /// Sends a request to the API. The client `tokens_by` fetches the tokens. `tokens_by` may be
    /// the same client.
    async fn ask(&self, by: &Client, tokens_by: &Client) -> reqwest::Response {
        let layer = AuthLayer::new(self.source(tokens_by)).only_to([&self.url]);
        let client = ServiceBuilder::new()
            .layer(layer.unwrap())
            .service(by.clone());
        let request = by.get(format!("{}/reports", self.url)).build().unwrap();
        client.oneshot(request).await.unwrap()
    }

    fn issued(&self) -> usize {
        self.issued.lock().unwrap().len()
    }
}

#[tokio::test]
async fn a_token_is_bound_to_the_certificate_that_nginx_saw_at_the_token_endpoint() {
    let front = Front::start().await;
    let clients = [(); 2].map(|()| front.client(Some(&front.authority)));
    for http in &clients {
        let response = front.ask(http, http).await;
        assert_eq!(response.text().await.unwrap(), "12 reports");
    }
    let lines = front.nginx.lines().await;
    assert_eq!(lines, [["POST /token 200", "GET /reports 200"]; 2].concat());
    let issued = front.issued.lock().unwrap();
    assert!(issued.len() == 2 && issued[0] != issued[1], "{issued:?}");
}

#[tokio::test]
async fn a_token_that_is_bound_to_another_certificate_is_refused_and_costs_one_more() {
    let front = Front::start().await;
    let [own, other] = [(); 2].map(|()| front.client(Some(&front.authority)));
    let response = front.ask(&own, &other).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::Again)), "{why:?}");
    // The new token is young, so the layer sends the request once more with this token, after a
    // pause.
    let pair = ["POST /token 200", "GET /reports 401"];
    let lines = [&pair[..], &pair[..], &pair[1..]].concat();
    assert_eq!(front.nginx.lines().await, lines);
    assert_eq!(front.issued(), 2);
}

#[tokio::test]
async fn without_a_certificate_or_with_one_of_another_authority_nginx_lets_nobody_through() {
    let front = Front::start().await;
    let stranger = Authority::new().unwrap();
    for issuer in [None, Some(&stranger)] {
        let source = front.source(&front.client(issuer));
        let error = source.fetch(Reason::First).await.unwrap_err();
        // The TLS handshake succeeded, so the refusal comes over HTTP.
        assert_eq!(error.status(), Some(StatusCode::BAD_REQUEST), "{error:?}");
        assert!(error.is_permanent(), "{error:?}");
    }
    assert_eq!(front.nginx.lines().await, ["POST /token 400"; 2]);
    assert_eq!(front.issued(), 0);
}
