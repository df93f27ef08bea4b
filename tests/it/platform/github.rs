//! GitHub: the installations of an app, and the identity of a job in GitHub Actions.

mod actions_id_token;
mod app;
mod clocks;
mod new_tokens;
mod refusals;

use tower_auth::platform::github::App;

use crate::support::github_server::{CLIENT_ID, GitHub};
use crate::support::keys;

/// Returns a GitHub, and the app that it knows.
fn github() -> (GitHub, App) {
    let github = GitHub::new(keys::RSA_PUBLIC);
    let app = App::new(CLIENT_ID, keys::RSA_PKCS1).unwrap();
    let app = app.transport(github.server.clone());
    (github, app)
}
