//! Reads the settings of a client from TOML, JSON and variables. JSON overrides TOML, and variables
//! override both.
//!
//! ```text
//! cargo run -p tower-auth-examples --example configuration
//! APP_NOTES__SCOPE=read:notes cargo run -p tower-auth-examples --example configuration
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use config::{Config, ConfigError, Environment, File, FileFormat};
use serde::Deserialize;
use serde_json::{Value, json};
use support::{CLIENT_SECRET, Report, Servers};
use tower::Layer;
use tower_auth::oauth2::ClientCredentialsConfig;

#[derive(Deserialize)]
struct Settings {
    notes: ClientCredentialsConfig,
}

const DEFAULTS: &str = r#"
[notes]
client_id = "notes-reader"
audience = "https://api.example.com"
scope = ["read:notes", "write:notes"]
"#;

fn read(json: &Value) -> Result<Settings, ConfigError> {
    let variables = Environment::with_prefix("APP").prefix_separator("_");
    Config::builder()
        .add_source(File::from_str(DEFAULTS, FileFormat::Toml))
        .add_source(File::from_str(&json.to_string(), FileFormat::Json))
        .add_source(variables.separator("__"))
        .build()?
        .try_deserialize()
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let servers = Servers::start().await?;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(&secret, CLIENT_SECRET)?;
    let settings = read(&json!({"notes": {
        "token_endpoint": servers.authorization.token_url(),
        "client_secret": {"file": secret.path()},
        "only_to": [servers.api.url()],
    }}))?;

    let client = settings.notes.layer()?.layer(reqwest::Client::new());
    let url = format!("{}/notes", servers.api.url());
    let request = client.get_ref().get(url).build()?;
    let response = client.execute(request).await?.error_for_status()?;
    println!("{}: {}", response.status(), response.text().await?);
    let scope = &servers.authorization.requests()[0].params["scope"];
    println!("The scope was {scope:?}.");
    Ok(())
}
