//! A program without a browser asks a person to log in on another device.
//!
//! ```text
//! cargo run --example device_login
//! ```
//!
//! This command starts its own server and simulates the person. To log in at a real server, set
//! `DEVICE_URL`, `TOKEN_URL` and `CLIENT_ID`. Set `SCOPE` if needed.
#![allow(clippy::print_stdout)]

mod support;

use support::{LoginServer, Report, optional, required};
use tower_auth::TokenCache;
use tower_auth::oauth2::{Client, DeviceAuthorization, DevicePrompt};

#[tokio::main]
async fn main() -> Result<(), Report> {
    let names = ["DEVICE_URL", "TOKEN_URL", "CLIENT_ID"];
    if names.iter().any(|name| optional(name).is_some()) {
        let [device_url, token_url, client_id] = names.map(required);
        let client = Client::public(token_url?, client_id?)?;
        return log_in(client, &device_url?, |_| {}).await;
    }
    let server = LoginServer::start("my-app").await?;
    let client = Client::public(server.token_url(), "my-app")?;
    let url = server.device_url();
    log_in(client, &url, |prompt| {
        let page = prompt.verification_uri_complete().unwrap_or_default();
        tokio::spawn(person(server, page.to_owned()));
    })
    .await
}

/// Simulates a person with a phone. The person confirms only after the program has polled once.
async fn person(server: LoginServer, page: String) -> Result<(), reqwest::Error> {
    server.polled().await;
    println!("(the person enters the code)");
    reqwest::get(page).await?.error_for_status()?;
    Ok(())
}

async fn log_in(
    client: Client,
    device_url: &str,
    shown: impl FnOnce(&DevicePrompt),
) -> Result<(), Report> {
    let login =
        DeviceAuthorization::new(client, device_url)?.scope(optional("SCOPE").unwrap_or_default());
    let prompt = login.begin().await?;
    println!("Open {} on any device,", prompt.verification_uri());
    println!(
        "and enter the code {} within {:?}",
        prompt.user_code(),
        prompt.expires_in()
    );
    shown(&prompt);

    let cache = TokenCache::new(login.finish(prompt).await?);
    cache.token().await?;
    println!("logged in; the token is {}", cache.status().phase());
    Ok(())
}
