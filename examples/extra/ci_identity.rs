//! A job of GitHub Actions authenticates with its ID token, without a secret.
//!
//! ```text
//! TOKEN_URL=… CLIENT_ID=… AUDIENCE=… cargo run -p tower-auth-examples --example ci_identity
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::env;

use support::Report;
use tower_auth::TokenCache;
use tower_auth::oauth2::{Client, ClientCredentials};
use tower_auth::platform::github::ActionsIdToken;

#[tokio::main]
async fn main() -> Result<(), Report> {
    let job = match ActionsIdToken::from_env() {
        Ok(job) => job.audience(env::var("AUDIENCE")?),
        Err(missing) => {
            println!("{missing}");
            return Ok(());
        }
    };
    let client =
        Client::public(env::var("TOKEN_URL")?, env::var("CLIENT_ID")?)?.client_assertion(job);
    let cache = TokenCache::new(ClientCredentials::with_client(client));
    let token = cache.token().await?;
    println!(
        "a token with the scope {:?}",
        token.scope().unwrap_or_default()
    );
    Ok(())
}
