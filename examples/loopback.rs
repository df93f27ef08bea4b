//! Starts an authorization server and an API on loopback, and then runs a command that uses them.
//! The servers stop when the command ends:
//!
//! ```text
//! cargo run --example loopback -- cargo run --example print_token
//! ```
//!
//! The command gets the servers' addresses in the environment variables that the other examples
//! read. The command's exit code becomes this program's exit code.

mod support;

use std::process::ExitCode;

use support::{Api, AuthorizationServer, CLIENT_ID, CLIENT_SECRET, Report, Tokens};
use tokio::process::Command;
use tower_auth::cache::Clock;

/// The audiences of the examples that call real services; this API accepts all of them.
const AUDIENCES: [&str; 4] = [
    support::AUDIENCE,
    "https://api.metafold3d.com",
    "https://api.meti.millpont.com",
    "https://gateway.production.netfoundry.io/",
];

#[tokio::main]
async fn main() -> Result<ExitCode, Report> {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        return Err("pass the command to run as arguments".into());
    };

    let tokens = Tokens::new(Clock::default());
    let authorization =
        AuthorizationServer::start(CLIENT_ID, CLIENT_SECRET, tokens.clone()).await?;
    // The API accepts tokens with any scope, and tokens without a scope.
    let api = Api::start(AUDIENCES, "", tokens).await?;

    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("TOKEN_URL", authorization.token_url())
        .env("API_URL", api.url())
        .env("AUDIENCE", support::AUDIENCE)
        .env("SCOPE", support::SCOPE);
    for prefix in ["", "AUTH0_", "METAFOLD_", "NETFOUNDRY_"] {
        command
            .env(format!("{prefix}CLIENT_ID"), CLIENT_ID)
            .env(format!("{prefix}CLIENT_SECRET"), CLIENT_SECRET);
    }
    let status = command.kill_on_drop(true).status().await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
