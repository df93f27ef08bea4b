//! A command-line tool. A person logs in once with a browser; later runs of the program need no
//! login.
//!
//! ```text
//! cargo run --example login_cli --features file,redirect-listener
//! ```
//!
//! This command shows three runs, with its own server and a simulated browser. To log in at a real
//! server, set `AUTHORIZE_URL`, `TOKEN_URL` and `CLIENT_ID`. Set `SCOPE` and `ISSUER` if needed.
//! Set `PORT` if the server accepts only one port. The argument is the file for the refresh token:
//!
//! ```text
//! AUTHORIZE_URL=… TOKEN_URL=… CLIENT_ID=… SCOPE=offline_access \
//!     cargo run --example login_cli --features file,redirect-listener -- ~/.my-app-token
//! ```
#![allow(clippy::print_stdout)]

mod support;

use support::{LoginServer, Report, optional, required};
use tower_auth::TokenCache;
use tower_auth::oauth2::{
    AuthorizationCode, Client, RedirectListener, RefreshToken, RefreshTokenFile,
};

struct Settings {
    authorize_url: String,
    token_url: String,
    client_id: String,
    file: RefreshTokenFile,
    /// Whether the program simulates the browser.
    is_alone: bool,
}

#[tokio::main]
async fn main() -> Result<(), Report> {
    let names = ["AUTHORIZE_URL", "TOKEN_URL", "CLIENT_ID"];
    if names.iter().all(|name| optional(name).is_none()) {
        return demonstrate().await;
    }
    let file = std::env::args_os().nth(1);
    let [authorize_url, token_url, client_id] = names.map(required);
    let settings = Settings {
        authorize_url: authorize_url?,
        token_url: token_url?,
        client_id: client_id?,
        file: RefreshTokenFile::new(
            file.ok_or("pass the file for the refresh token as an argument")?,
        ),
        is_alone: false,
    };
    run(&settings, false).await
}

/// Runs the program three times.
async fn demonstrate() -> Result<(), Report> {
    let server = LoginServer::start("my-app").await?;
    let folder = tempfile::tempdir()?;
    let settings = Settings {
        authorize_url: server.authorize_url(),
        token_url: server.token_url(),
        client_id: String::from("my-app"),
        file: RefreshTokenFile::new(folder.path().join("refresh-token")),
        is_alone: true,
    };
    println!("-- the first run");
    run(&settings, false).await?;
    println!("-- the second run");
    run(&settings, false).await?;
    println!("-- the third run, after the server has ended all sessions");
    server.log_everybody_out();
    run(&settings, true).await?;
    let (logins, refreshes) = (server.logins(), server.refreshes());
    println!("{logins} logins, {refreshes} refreshes");
    Ok(())
}

/// Runs the program once. The person logs in only if there is no valid refresh token. A run first uses
/// the access token that the last run saved, unless an API has refused it.
async fn run(settings: &Settings, is_refused: bool) -> Result<(), Report> {
    let client = Client::public(&settings.token_url, &settings.client_id)?;
    let stored = RefreshToken::stored(client.clone(), settings.file.clone());
    let mut cache = TokenCache::new(stored);
    let fetched = match is_refused {
        true => cache.refresh_now().await.map(drop),
        false => cache.token().await.map(drop),
    };
    match fetched {
        Err(error) if error.is_login_required() => {
            cache = TokenCache::new(log_in(client, settings).await?);
            cache.token().await?;
        }
        other => other?,
    }
    println!("ready: the token is {}", cache.status().phase());
    Ok(())
}

async fn log_in(client: Client, settings: &Settings) -> Result<RefreshToken, Report> {
    let mut login = AuthorizationCode::new(client, &settings.authorize_url)?
        .scope(optional("SCOPE").unwrap_or_default())
        .store(settings.file.clone());
    if let Some(issuer) = optional("ISSUER") {
        login = login.issuer(issuer);
    }
    let port = optional("PORT").map_or(Ok(0), |port| port.parse())?;
    let listener = RedirectListener::bind_port(port).await?;
    let request = login.begin(listener.redirect_uri()).await?;

    println!("Log in with your browser at\n\n{}\n", request.url());
    if settings.is_alone {
        tokio::spawn(reqwest::get(request.url().to_owned()));
    }
    println!("waiting for the browser's redirect …");
    let response = listener.accept(&request).await?;
    println!("got the redirect; fetching tokens …");
    let source = login.finish(request, response).await?;
    println!(
        "logged in; the next run reads the refresh token from {}",
        settings.file.path().display()
    );
    Ok(source)
}
