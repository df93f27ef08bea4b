//! Reads a secret of HashiCorp Vault or OpenBao with an AppRole.
//!
//! ```text
//! VAULT_ADDR=https://vault.example.com:8200 ROLE_ID=… SECRET_ID=… SECRET=secret/data/reports \
//!     cargo run -p tower-auth-examples --example vault
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use support::{Report, required};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::platform::vault::{Login, Server};
use tower_auth::{AuthLayer, BoxError, SecretSource, TokenCache, TokenSource};

/// Reads the settings, or says what is missing.
fn settings() -> Result<(Login, String), BoxError> {
    let server = Server::from_env()?;
    required("SECRET_ID")?;
    let login = Login::app_role(server, required("ROLE_ID")?, SecretSource::env("SECRET_ID"));
    let url = format!("{}/v1/{}", login.origins()[0], required("SECRET")?);
    Ok((login.revoke_on_close(), url))
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let (login, url) = match settings() {
        Ok(settings) => settings,
        Err(missing) => {
            println!("{missing}");
            return Ok(());
        }
    };
    let cache = TokenCache::new(login);
    let http = reqwest::Client::new();
    // The source names the origin of the server, so the token goes only to that origin.
    let layer = AuthLayer::from(cache.clone());
    let client = ServiceBuilder::new().layer(layer).service(http.clone());
    let response = client.oneshot(http.get(url).build()?).await?;
    println!("{}: {}", response.status(), response.text().await?);
    // Revokes the token.
    cache.close().await;
    Ok(())
}
