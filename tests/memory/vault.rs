//! Logins to Vault.

use tower_auth::SecretSource;
use tower_auth::platform::vault::{Login, Server};

use crate::planted::secret;
use crate::watched::drive;

const URL: &str = "https://vault.example.com";

#[test]
fn a_login_with_an_app_role_leaves_no_secret_id_and_no_token() {
    drive(async |server| {
        let server = Server::new(URL)?.transport(server);
        Ok(Login::app_role(server, "role-id", secret("secret-id")).revoke_on_close())
    });
}

#[test]
fn a_login_with_a_jwt_leaves_no_jwt() {
    drive(async |server| {
        let server = Server::new(URL)?.transport(server);
        let jwt = SecretSource::from(secret("jwt"));
        Ok(Login::jwt(server, "role", jwt))
    });
}
