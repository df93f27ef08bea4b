//! A GitHub App lists the repositories of an installation.
//!
//! ```text
//! CLIENT_ID=… KEY_FILE=app.pem ORGANIZATION=… cargo run -p tower-auth-examples --example github_app
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::env;

use reqwest::Method;
use serde_json::Value;
use support::Report;
use tower::{Layer, ServiceExt};
use tower_auth::platform::github::App;
use tower_auth::{AuthLayer, SecretSource};

const GITHUB: &str = "https://api.github.com";

#[tokio::main]
async fn main() -> Result<(), Report> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("set the variable {name}"));
    let settings = || {
        Ok::<_, String>((
            variable("CLIENT_ID")?,
            variable("KEY_FILE")?,
            variable("ORGANIZATION")?,
        ))
    };
    let (client_id, key_file, organization) = match settings() {
        Ok(settings) => settings,
        Err(missing) => {
            println!("{missing}");
            return Ok(());
        }
    };
    let api = env::var("GITHUB_API_URL").unwrap_or(GITHUB.to_owned());
    let app = App::new(client_id, SecretSource::file(key_file))?.api_url(&api)?;
    let source = app
        .installation_of_organization(&organization)?
        .permission("metadata", "read");
    let client = AuthLayer::new(source).layer(reqwest::Client::new());

    let url = format!("{api}/installation/repositories");
    let mut request = reqwest::Request::new(Method::GET, url.parse()?);
    request
        .headers_mut()
        .insert("user-agent", "example".parse()?);
    request
        .headers_mut()
        .insert("accept", "application/vnd.github+json".parse()?);
    let response = client.oneshot(request).await?.error_for_status()?;
    let page: Value = serde_json::from_slice(&response.bytes().await?)?;
    println!("{} repositories", page["total_count"]);
    Ok(())
}
