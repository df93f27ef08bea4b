//! Uses the layer with hyper-util's client.
//!
//! ```text
//! cargo run --example hyper_client
//! ```
#![allow(clippy::print_stdout)]

mod support;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, Report, SCOPE, Servers};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_auth::AuthLayer;
use tower_auth::oauth2::ClientCredentials;

#[tokio::main]
async fn main() -> Result<(), Report> {
    let servers = Servers::start().await?;

    let token_url = servers.authorization.token_url();
    let source = ClientCredentials::new(token_url, CLIENT_ID, CLIENT_SECRET)?
        .audience(AUDIENCE)
        .scope(SCOPE);
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).only_to([servers.api.url()])?)
        .service(Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());

    for note in ["buy milk", "water the plants"] {
        let request =
            Request::post(format!("{}/notes", servers.api.url())).body(Full::from(note))?;
        let response = client.ready().await?.call(request).await?;

        let status = response.status();
        if !status.is_success() {
            return Err(format!("the API returned {status}").into());
        }
        let body = response.into_body().collect().await?.to_bytes();
        println!("{status}: {}", String::from_utf8_lossy(&body));

        // The API refuses the next request. The caller doesn't notice, because the layer sends the
        // request again with its body.
        servers.revoke_all_tokens();
    }

    let (requests, refusals) = (servers.api.requests(), servers.api.refusals());
    println!("The API saw {requests} requests and refused {refusals} of them.");
    println!("{} tokens were fetched.", servers.authorization.fetches());
    Ok(())
}
