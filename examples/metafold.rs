//! Prints the usage of a Metafold account.
//!
//! ```text
//! METAFOLD_CLIENT_ID=… METAFOLD_CLIENT_SECRET=… cargo run --example metafold
//! ```
//!
//! Set `TOKEN_URL` and `API_URL` (an origin, without a path) to use servers other than Metafold's.
//! Set `AUDIENCE` if those servers expect another one, and `SCOPE` if they require a scope.
#![allow(clippy::print_stdout)]

mod support;

use http::Method;
use reqwest::{Client, Request};
use support::{Report, optional, required};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{AuthLayer, NotReplayed};

const TOKEN_URL: &str = "https://metafold3d.us.auth0.com/oauth/token";
const API_URL: &str = "https://api.metafold3d.com";
const AUDIENCE: &str = "https://api.metafold3d.com";

#[tokio::main]
async fn main() -> Result<(), Report> {
    let id = required("METAFOLD_CLIENT_ID")?;
    let secret = required("METAFOLD_CLIENT_SECRET")?;
    let token_url = optional("TOKEN_URL").unwrap_or(TOKEN_URL.into());
    let api_url = optional("API_URL").unwrap_or(API_URL.into());
    let audience = optional("AUDIENCE").unwrap_or(AUDIENCE.into());

    let mut source = ClientCredentials::new(&token_url, id, secret)?.audience(audience);
    if let Some(scope) = optional("SCOPE") {
        source = source.scope(scope);
    }
    let client = ServiceBuilder::new()
        .layer(AuthLayer::new(source).only_to([&api_url])?)
        .service(Client::new());

    let request = Request::new(Method::GET, format!("{api_url}/user/usage").parse()?);
    let response = client.oneshot(request).await?;

    let status = response.status();
    if let Some(why) = response.extensions().get::<NotReplayed>() {
        return Err(format!("Metafold refused the request: {status} ({why})").into());
    }
    if !status.is_success() {
        return Err(format!("Metafold returned {status}").into());
    }
    println!("{}", response.text().await?);
    Ok(())
}
