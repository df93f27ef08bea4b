//! Lists the sources of a METI account. Explains a refusal: either the token was invalid, or its
//! scope was too small.
//!
//! ```text
//! AUTH0_DOMAIN=… AUTH0_CLIENT_ID=… AUTH0_CLIENT_SECRET=… cargo run --example meti
//! ```
//!
//! Set `TOKEN_URL` and `API_URL` (an origin, without a path) to use servers other than Auth0's and
//! METI's. Set `AUDIENCE` and `SCOPE` if those servers expect others than METI's.
#![allow(clippy::print_stdout)]

mod support;

use http::{Method, StatusCode};
use reqwest::{Client, Request, Response};
use support::{Report, optional, required};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::challenge::Challenge;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{AuthLayer, NotReplayed, Token, TokenCache};

const API_URL: &str = "https://api.meti.millpont.com";
const AUDIENCE: &str = "https://api.meti.millpont.com";
const SCOPE: &str = "read:sources write:sources delete:sources";

#[tokio::main]
async fn main() -> Result<(), Report> {
    let token_url = match optional("TOKEN_URL") {
        Some(url) => url,
        None => format!("https://{}/oauth/token", required("AUTH0_DOMAIN")?),
    };
    let id = required("AUTH0_CLIENT_ID")?;
    let secret = required("AUTH0_CLIENT_SECRET")?;
    let api_url = optional("API_URL").unwrap_or(API_URL.into());
    let audience = optional("AUDIENCE").unwrap_or(AUDIENCE.into());
    let scope = optional("SCOPE").unwrap_or(SCOPE.into());

    let source = ClientCredentials::new(&token_url, id, secret)?
        .audience(&audience)
        .scope(scope)
        .json();
    let cache = TokenCache::new(source);
    let client = ServiceBuilder::new()
        .layer(AuthLayer::from(cache.clone()).only_to([&api_url])?)
        .service(Client::new());

    let request = Request::new(Method::GET, format!("{api_url}/sources").parse()?);
    let response = client.oneshot(request).await?;

    if response.status().is_success() {
        print_account(&cache.token().await?, &audience)?;
        println!("{}", response.text().await?);
        return Ok(());
    }
    Err(explain(&response, &audience).into())
}

/// Prints the account and the role that the token is for, if the token contains them. Only the API
/// verifies these claims.
fn print_account(token: &Token, audience: &str) -> Result<(), Report> {
    let audience = audience.trim_end_matches('/');
    for name in ["account_id", "role"] {
        let claim = format!("{audience}/{name}");
        if let Some(value) = token.unverified_claim::<String>(&claim)? {
            println!("{name}: {value}");
        }
    }
    Ok(())
}

/// Explains a refusal to the person who has to fix its cause.
fn explain(response: &Response, audience: &str) -> String {
    let status = response.status();
    let challenges = Challenge::parse(response.headers());
    let challenge = challenges.iter().find(|challenge| challenge.is_bearer());
    let description = challenge.and_then(Challenge::error_description);
    let said = description
        .map(|text| format!(" It says: {text}."))
        .unwrap_or_default();

    let no_replay = response.extensions().get::<NotReplayed>();
    let lacks_scope = status == StatusCode::FORBIDDEN
        || matches!(no_replay, Some(NotReplayed::InsufficientScope));
    if lacks_scope {
        let needed = challenge
            .and_then(Challenge::scope)
            .unwrap_or("(it doesn't say which)");
        return format!(
            "{status}: the token is valid, but its scope isn't enough.{said} The API requires the scope \
             {needed}; this application requested less, or was granted less than it requested. \
             A new token would not help."
        );
    }
    match no_replay {
        Some(why) => format!(
            "{status}: the API does not accept the token, and {why}.{said} Is {audience} the \
             audience that the API expects, and does it trust this Auth0 domain?"
        ),
        None => format!("the API returned {status}"),
    }
}
