//! Lists the networks of a NetFoundry organization.
//!
//! ```text
//! NETFOUNDRY_CLIENT_ID=… NETFOUNDRY_CLIENT_SECRET=… cargo run --example netfoundry
//! ```
//!
//! Set `TOKEN_URL` and `API_URL` (an origin, without a path) to use servers other than
//! NetFoundry's. Set `AUDIENCE` if those servers expect another one, and `SCOPE` if they require a
//! scope.
#![allow(clippy::print_stdout)]

mod support;

use http::Method;
use reqwest::{Client, Request};
use support::{Report, optional, required};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{AuthLayer, NotReplayed};

const TOKEN_URL: &str = "https://netfoundry-production.auth0.com/oauth/token";
const API_URL: &str = "https://gateway.production.netfoundry.io";
/// Ends with a slash: Auth0 treats an audience as a name, so every character counts.
const AUDIENCE: &str = "https://gateway.production.netfoundry.io/";

#[tokio::main]
async fn main() -> Result<(), Report> {
    let id = required("NETFOUNDRY_CLIENT_ID")?;
    let secret = required("NETFOUNDRY_CLIENT_SECRET")?;
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

    let request = Request::new(Method::GET, format!("{api_url}/rest/v1/networks").parse()?);
    let response = client.oneshot(request).await?;

    let status = response.status();
    if let Some(why) = response.extensions().get::<NotReplayed>() {
        return Err(format!("NetFoundry refused the request: {status} ({why})").into());
    }
    if !status.is_success() {
        return Err(format!("NetFoundry returned {status}").into());
    }
    println!("{}", response.text().await?);
    Ok(())
}
