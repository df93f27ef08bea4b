//! nginx as the TLS front of an authorization server and an API. Its certificate is from a private
//! authority.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use reqwest::Client;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::{ClientCredentials, ReqwestTransport, Transport};
use tower_auth::{AuthLayer, Reason, Token, TokenSource};

use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::nginx_clients::{of_hyper, of_reqwest};
use crate::support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, SCOPE, Servers};
use crate::tls::Authority;

struct Front {
    authority: Authority,
    servers: Servers,
    nginx: Nginx,
    url: String,
}

impl Front {
    async fn start() -> Self {
        let authority = Authority::new().unwrap();
        let servers = Servers::start().await.unwrap();
        let port = free_port();
        let token_endpoint = servers.authorization.token_url();
        let api = servers.api.url();
        let front = format!(
            "server {{
                listen 127.0.0.1:{port} ssl http2;
                ssl_certificate server.pem;
                ssl_certificate_key server.pem;
                location = /oauth/token {{ proxy_pass {token_endpoint}; }}
                location / {{ proxy_pass {api}; }}
            }}"
        );
        let certificate = authority.issue("localhost").unwrap();
        Self {
            nginx: Nginx::start(&front, &[("server.pem", &certificate)]),
            authority,
            servers,
            url: format!("https://localhost:{port}"),
        }
    }

    fn source(&self, transport: impl Transport) -> ClientCredentials {
        let url = format!("{}/oauth/token", self.url);
        ClientCredentials::new(url, CLIENT_ID, CLIENT_SECRET)
            .unwrap()
            .transport(transport)
            .audience(AUDIENCE)
            .scope(SCOPE)
    }

    fn notes(&self) -> String {
        format!("{}/notes", self.url)
    }

    /// Sends three requests and revokes the token before the last. Asserts that callers don't
    /// notice the revocation.
    async fn a_revoked_token_goes_unnoticed(
        &self,
        protocol: &str,
        send: impl AsyncFn() -> StatusCode,
    ) {
        for revoked in [false, false, true] {
            if revoked {
                self.servers.revoke_all_tokens();
            }
            assert_eq!(send().await, StatusCode::OK);
        }
        let seen = self.nginx.seen().await;
        let lines: Vec<_> = seen.iter().map(|seen| seen.line.as_str()).collect();
        let expected = [
            "POST /oauth/token 200",
            "GET /notes 200",
            "GET /notes 200",
            "GET /notes 401",
            "POST /oauth/token 200",
            "GET /notes 200",
        ];
        assert_eq!(lines, expected);
        assert!(
            seen.iter().all(|seen| seen.protocol == protocol),
            "{seen:?}"
        );
        let [first, second] = &self.servers.authorization.tokens().issued()[..] else {
            panic!("two tokens were to be issued");
        };
        let credentials: Vec<_> = seen
            .iter()
            .map(|seen| seen.authorization.as_str())
            .collect();
        let [first, second] = [first, second].map(|token| format!("Bearer {token}"));
        assert_eq!(credentials, ["-", &first, &first, &first, "-", &second]);
        let connections: BTreeSet<_> = seen.iter().map(|seen| seen.connection).collect();
        assert_eq!(connections.len(), 1, "{connections:?}");
    }
}

#[tokio::test]
async fn reqwest_with_the_private_authority_goes_through_a_tls_front_over_http1_and_http2() {
    for protocol in ["HTTP/1.1", "HTTP/2.0"] {
        let front = Front::start().await;
        let http = match protocol {
            "HTTP/1.1" => of_reqwest(&front.authority).http1_only(),
            _ => of_reqwest(&front.authority),
        };
        let http = http.build().unwrap();
        let source = front.source(ReqwestTransport::new(http.clone()));
        let client = ServiceBuilder::new()
            .layer(AuthLayer::new(source).only_to([&front.url]).unwrap())
            .service(http.clone());
        let send = async || {
            let request = http.get(front.notes()).build().unwrap();
            let response = client.clone().oneshot(request).await.unwrap();
            let status = response.status();
            response.bytes().await.unwrap();
            status
        };
        front.a_revoked_token_goes_unnoticed(protocol, send).await;
    }
}

#[tokio::test]
async fn hyper_with_the_private_authority_goes_through_a_tls_front_as_does_its_token_request() {
    let front = Front::start().await;
    let http = of_hyper(&front.authority);
    let layer = AuthLayer::new(front.source(http.clone())).only_to([&front.url]);
    let client = ServiceBuilder::new().layer(layer.unwrap()).service(http);
    let send = async || {
        let request = Request::get(front.notes()).body(Full::<Bytes>::default());
        let response = client.clone().oneshot(request.unwrap()).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status
    };
    front.a_revoked_token_goes_unnoticed("HTTP/2.0", send).await;
}

/// Returns two clients that don't trust the front, each with the URL to request.
fn distrusting(front: &Front) -> [(Client, String); 2] {
    let other = Authority::new().unwrap();
    let another_name = front.url.replace("localhost", "127.0.0.1");
    [
        (of_reqwest(&other).build().unwrap(), front.url.clone()),
        (of_reqwest(&front.authority).build().unwrap(), another_name),
    ]
}

#[tokio::test]
async fn a_front_that_isnt_trusted_gets_no_secret_and_the_error_says_why() {
    let front = Front::start().await;
    for (http, url) in distrusting(&front) {
        let url = format!("{url}/oauth/token");
        let transport = ReqwestTransport::new(http);
        let source = ClientCredentials::new(url, CLIENT_ID, CLIENT_SECRET)
            .unwrap()
            .transport(transport);
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_transport(), "{error:?}");
        let text = all_causes(&error);
        assert!(text.contains("invalid peer certificate"), "{text}");
    }
    assert!(front.nginx.lines().await.is_empty());
    assert!(front.servers.authorization.requests().is_empty());
}

#[tokio::test]
async fn a_front_that_isnt_trusted_gets_no_token_and_the_error_says_why() {
    let front = Front::start().await;
    for (http, url) in distrusting(&front) {
        let layer = AuthLayer::new(async |_| Token::bearer("not for them")).only_to([&url]);
        let client = ServiceBuilder::new()
            .layer(layer.unwrap())
            .service(http.clone());
        let request = http.get(format!("{url}/notes")).build().unwrap();
        let error = client.oneshot(request).await.unwrap_err();
        let text = all_causes(&*error);
        assert!(text.contains("invalid peer certificate"), "{text}");
        assert!(!text.contains("not for them"), "{text}");
    }
    assert!(front.nginx.lines().await.is_empty());
    assert_eq!(front.servers.api.requests(), 0);
}

fn all_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(|error| format!("{error}: ")).collect()
}
