//! Mutual TLS (RFC 8705), through the user's own reqwest client.

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, StatusCode};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::{self, ClientCredentials, ReqwestTransport};
use tower_auth::{Error, Reason, Token, TokenSource};

use crate::support::token_server::all_text_of;

#[path = "../../../../examples/extra/support/tls.rs"]
mod tls;

use tls::{Authority, CLIENT_ID, CLIENT_NAME, Servers};

/// Builds a client that trusts `root`, with a client certificate if one is given.
fn client(root: &Authority, own: Option<&str>) -> Client {
    let root = Certificate::from_pem(root.root().as_bytes()).unwrap();
    let mut client = Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .redirect(Policy::none());
    if let Some(own) = own {
        client = client.identity(Identity::from_pem(own.as_bytes()).unwrap());
    }
    client.build().unwrap()
}

fn source(servers: &Servers, client: &Client) -> ClientCredentials {
    let transport = ReqwestTransport::new(client.clone());
    let client = oauth2::Client::public(&servers.token_url, CLIENT_ID).unwrap();
    ClientCredentials::with_client(client.transport(transport))
}

async fn fetch(servers: &Servers, client: &Client) -> Result<Token, Error> {
    source(servers, client).fetch(Reason::First).await
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate_and_says_its_id_alone() {
    let authority = Authority::new().unwrap();
    let servers = Servers::start(&authority).await.unwrap();
    let http = client(&authority, Some(&authority.issue(CLIENT_NAME).unwrap()));
    let layered = ServiceBuilder::new()
        .layer(crate::support::layer(source(&servers, &http)))
        .service(http.clone());
    let request = http.get(&servers.api_url).build().unwrap();
    let response = layered.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let [form] = &servers.asked()[..] else {
        panic!("{:?}", servers.asked());
    };
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT_ID),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form[..], expected);
}

#[tokio::test]
async fn a_token_is_of_no_use_to_whoever_has_another_certificate() {
    let authority = Authority::new().unwrap();
    let servers = Servers::start(&authority).await.unwrap();
    // Both certificates have the same name, so the name doesn't tell them apart.
    let [own, other] = [(), ()].map(|()| authority.issue(CLIENT_NAME).unwrap());
    let [own, other] = [own, other].map(|pem| client(&authority, Some(&pem)));
    let token = fetch(&servers, &own).await.unwrap();
    for (http, status) in [(own, StatusCode::OK), (other, StatusCode::UNAUTHORIZED)] {
        let request = http.get(&servers.api_url).bearer_auth(token.secret());
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn without_a_certificate_the_error_says_that_one_is_wanted() {
    let authority = Authority::new().unwrap();
    let servers = Servers::start(&authority).await.unwrap();
    let error = fetch(&servers, &client(&authority, None))
        .await
        .unwrap_err();
    assert!(error.is_transport(), "{error:?}");
    let text = all_text_of(&error);
    assert!(text.contains("CertificateRequired"), "{text}");
    assert!(servers.asked().is_empty());
}

#[tokio::test]
async fn with_the_certificate_of_somebody_else_it_is_not_this_client() {
    let authority = Authority::new().unwrap();
    let servers = Servers::start(&authority).await.unwrap();
    let own = authority.issue("somebody.clients.example.com").unwrap();
    let error = fetch(&servers, &client(&authority, Some(&own))).await;
    let error = error.unwrap_err();
    assert!(
        error.is_invalid_client() && error.is_permanent(),
        "{error:?}"
    );
}

#[tokio::test]
async fn certificates_of_another_authority_are_trusted_by_neither_side() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let servers = Servers::start(&authority).await.unwrap();
    let own = authority.issue(CLIENT_NAME).unwrap();
    let forged = other.issue(CLIENT_NAME).unwrap();
    for http in [
        client(&authority, Some(&forged)),
        client(&other, Some(&own)),
    ] {
        let error = fetch(&servers, &http).await.unwrap_err();
        assert!(error.is_transport(), "{error:?}");
    }
    assert!(servers.asked().is_empty());
}
