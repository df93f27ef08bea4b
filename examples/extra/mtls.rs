//! Uses mutual TLS (RFC 8705): the server identifies the client by its certificate. The client's tokens are useless
//! without that certificate's key.
//!
//! ```text
//! cargo run -p tower-auth-examples --example mtls
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;
#[path = "support/tls.rs"]
mod tls;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Identity};
use support::Report;
use tls::{Authority, CLIENT_ID, CLIENT_NAME, Servers};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::{Client, ClientCredentials, ReqwestTransport};
use tower_auth::{AuthLayer, BoxError, TokenCache};

/// Makes one HTTP client for the token endpoint and the API, because the token is bound to the
/// client's certificate.
fn http(authority: &Authority, name: Option<&str>) -> Result<reqwest::Client, BoxError> {
    let root = Certificate::from_pem(authority.root().as_bytes())?;
    let mut client = reqwest::Client::builder()
        .tls_certs_only([root])
        .redirect(Policy::none());
    if let Some(name) = name {
        client = client.identity(Identity::from_pem(authority.issue(name)?.as_bytes())?);
    }
    Ok(client.build()?)
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let authority = Authority::new()?;
    let servers = Servers::start(&authority).await?;

    let http_client = http(&authority, Some(CLIENT_NAME))?;
    let transport = ReqwestTransport::new(http_client.clone());
    let client = Client::public(&servers.token_url, CLIENT_ID)?.transport(transport);
    let source = ClientCredentials::with_client(client);
    let cache = TokenCache::new(source);
    let origin = reqwest::Url::parse(&servers.api_url)?.origin();
    let layer = AuthLayer::from(cache.clone()).only_to([origin.ascii_serialization()])?;
    let client = ServiceBuilder::new()
        .layer(layer)
        .service(http_client.clone());
    let request = http_client.get(&servers.api_url).build()?;
    let response = client.oneshot(request).await?;
    println!("with its certificate: {}", response.status());
    for form in servers.asked() {
        println!("the token endpoint was sent {form:?}");
    }

    // A thief has the client's token, and another certificate from the same authority.
    let thief = http(&authority, Some("thief.clients.example.com"))?;
    let stolen = cache.token().await?;
    let request = thief.get(&servers.api_url).bearer_auth(stolen.secret());
    println!(
        "its token, with another certificate: {}",
        request.send().await?.status()
    );

    let bare = ReqwestTransport::new(http(&authority, None)?);
    let client = Client::public(&servers.token_url, CLIENT_ID)?.transport(bare);
    let source = ClientCredentials::with_client(client);
    match TokenCache::builder(source)
        .fetch_attempts(1)
        .build()
        .token()
        .await
    {
        Err(error) => println!("without a certificate: {:?}", Report::from(error)),
        Ok(_) => return Err("got a token without a certificate".into()),
    }
    Ok(())
}
