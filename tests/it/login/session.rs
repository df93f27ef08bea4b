//! A session: the login that sets cookies, its end, and the next login.

use tower_auth::login::Session;
use tower_auth::{Error, Reason, Token, TokenSource};

mod cookie_lifetime;
mod cookies;
mod csrf;
mod ending;
mod opening;
mod renewal;
mod replaced;

const LOGOUT: &str = "https://api.example.com/v1/session/logout";

async fn fetch(session: &Session) -> Result<Token, Error> {
    session.fetch(Reason::Expired).await
}
