//! The parts that the examples share: two servers on loopback, a movable clock, and readable
//! errors. The servers stop with the process.
#![allow(
    clippy::print_stdout,
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each example uses a part of this module"
)]

mod api;
mod authorization_server;
mod browser;
mod env;
mod jwt;
mod key_server;
mod login_server;
mod report;

use std::io;

use axum::Router;
use tokio::net::TcpListener;
use tower_auth::cache::Clock;

pub use api::Api;
pub use authorization_server::{AuthorizationServer, ClientAuth, TokenRequest};
pub use browser::Browser;
pub use env::{optional, required};
pub use jwt::{Claims, Tokens};
pub use key_server::KeyServer;
pub use login_server::LoginServer;
pub use report::Report;

pub const CLIENT_ID: &str = "notes-reader";
pub const CLIENT_SECRET: &str = "a-secret-for-loopback-only";
pub const AUDIENCE: &str = "https://api.example.com";
pub const SCOPE: &str = "read:notes write:notes";

/// An authorization server, and an API that accepts its tokens.
pub struct Servers {
    pub authorization: AuthorizationServer,
    pub api: Api,
}

impl Servers {
    /// Starts both servers.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(Clock::default()).await
    }

    /// Starts both servers, with `clock` as their clock.
    pub async fn start_with(clock: impl Into<Clock>) -> io::Result<Self> {
        let tokens = Tokens::new(clock.into());
        let authorization =
            AuthorizationServer::start(CLIENT_ID, CLIENT_SECRET, tokens.clone()).await?;
        let api = Api::start([AUDIENCE], "read:notes", tokens).await?;
        Ok(Self { authorization, api })
    }

    /// Makes the API refuse every token that was issued so far.
    pub fn revoke_all_tokens(&self) {
        self.authorization.tokens().revoke_all();
    }
}

/// Serves on a port that the system chooses, and returns the base URL.
pub async fn serve(router: Router) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
