//! Uses the layer with reqwest's client, and with reqwest's own request and response types.
//!
//! ```text
//! cargo run --example reqwest_client
//! ```
#![allow(clippy::print_stdout)]

mod support;

use std::time::Duration;

use reqwest::Client;
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
    let plain = Client::new();
    let mut client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).only_to([servers.api.url()])?)
        .service(plain.clone());

    for note in ["buy milk", "water the plants"] {
        // reqwest builds the request as usual, but the service sends the request.
        let url = format!("{}/notes", servers.api.url());
        let timeout = Duration::from_secs(10);
        let request = plain.post(url).timeout(timeout).body(note).build()?;
        let response = client
            .ready()
            .await?
            .call(request)
            .await?
            .error_for_status()?;

        println!("{}: {}", response.status(), response.text().await?);

        // The API refuses the next request. The caller doesn't notice, because the layer sends the
        // request again with its body.
        servers.revoke_all_tokens();
    }

    let (requests, refusals) = (servers.api.requests(), servers.api.refusals());
    println!("The API saw {requests} requests and refused {refusals} of them.");
    println!("{} tokens were fetched.", servers.authorization.fetches());
    Ok(())
}
