//! Prints an access token for use in a shell:
//!
//! ```text
//! export TOKEN=$(cargo run --quiet --example print_token)
//! curl -H "Authorization: Bearer $TOKEN" https://api.example.com/v1
//! ```
//!
//! Reads `TOKEN_URL`, `CLIENT_ID`, `CLIENT_SECRET` and, if needed, `AUDIENCE` and `SCOPE`. This
//! command runs the example without real services:
//! `cargo run --example loopback -- cargo run --example print_token`.
#![allow(clippy::print_stdout)]

mod support;

use support::{Report, optional, required};
use tower_auth::TokenCache;
use tower_auth::oauth2::ClientCredentials;

const USAGE: &str = "set TOKEN_URL, CLIENT_ID and CLIENT_SECRET, and AUDIENCE and SCOPE if needed";

#[tokio::main]
async fn main() -> Result<(), Report> {
    let names = ["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"];
    if names.iter().all(|name| optional(name).is_none()) {
        return Err(USAGE.into());
    }
    let [url, id, secret] = names.map(required);
    let mut source = ClientCredentials::new(&url?, id?, secret?)?;
    if let Some(audience) = optional("AUDIENCE") {
        source = source.audience(audience);
    }
    if let Some(scope) = optional("SCOPE") {
        source = source.scope(scope);
    }

    let token = TokenCache::new(source).token().await?;
    println!("{}", token.secret());
    Ok(())
}
