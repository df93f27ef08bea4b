//! A browser login: where the browser is sent, which parameters it returns with, and which tokens
//! follow.

use std::collections::BTreeMap;

use tower_auth::Error;
use tower_auth::oauth2::{
    AuthorizationCode, AuthorizationRequest, AuthorizationResponse, RefreshToken,
};

use crate::support::login_server::LoginServer;

mod authorization_url;
mod redirect_back;
#[cfg(feature = "fleet")]
mod sealed_request;
mod tokens;

const AUTHORIZE: &str = "https://id.example.com/authorize";
const CALLBACK: &str = "http://127.0.0.1:4711/callback";

fn login(server: &LoginServer) -> AuthorizationCode {
    AuthorizationCode::new(server.client(), AUTHORIZE).unwrap()
}

async fn begin() -> AuthorizationRequest {
    let login = login(&LoginServer::default());
    login.begin(CALLBACK).await.unwrap()
}

fn query(request: &AuthorizationRequest) -> BTreeMap<String, String> {
    let (_, query) = request.url().split_once('?').unwrap();
    let all: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let map: BTreeMap<_, _> = all.iter().cloned().collect();
    assert_eq!(map.len(), all.len(), "a parameter stands twice: {all:?}");
    map
}

/// Returns the URL that the browser returns to, with `state` first.
fn back(request: &AuthorizationRequest, rest: &str) -> String {
    format!("{CALLBACK}?state={}&{rest}", query(request)["state"])
}

fn read(request: &AuthorizationRequest, rest: &str) -> Result<AuthorizationResponse, Error> {
    request.read(&back(request, rest))
}

/// Completes a login at a server that responds like this.
async fn logged_in(login: &AuthorizationCode) -> Result<RefreshToken, Error> {
    let request = login.begin(CALLBACK).await?;
    let response = read(&request, "code=the-code")?;
    login.finish(request, response).await
}
