//! Logins to Vault.

use tower_auth::SecretSource;
use tower_auth::platform::vault::{Login, Server};

use super::{SECRET, TOKEN, drive};

const URL: &str = "https://vault.example.com";

#[tokio::test(start_paused = true)]
async fn a_login_with_an_app_role_shows_no_secret_id_and_no_token() {
    drive(async |_, echo| {
        let server = Server::new(URL)?.transport(echo);
        Ok(Login::app_role(server, "planted-role-id", SECRET).revoke_on_close())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_login_with_a_jwt_does_not_show_the_jwt() {
    drive(async |_, echo| {
        let server = Server::new(URL)?.transport(echo);
        let jwt = SecretSource::from(TOKEN);
        Ok(Login::jwt(server, "role", jwt).revoke_on_close())
    })
    .await;
}
