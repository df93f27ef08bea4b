//! The address and the namespace of the server, and the variables that contain them.

use tower_auth::oauth2::EndpointUrl;
use tower_auth::platform::vault::{Login, Server};
use tower_auth::{Reason, SecretSource, TokenSource};

use crate::support::vault_server::{ROLE_ID, SECRET_ID, VaultServer};

fn origin(server: Server) -> String {
    Login::app_role(server, "r", "s").origins()[0].to_string()
}

#[test]
fn the_address_and_the_namespace_come_from_the_variables_of_either_product() {
    for (variables, address, namespace) in [
        (
            &[("VAULT_ADDR", "https://vault.example.com")][..],
            "https://vault.example.com:443",
            None,
        ),
        (
            &[
                ("BAO_ADDR", "http://127.0.0.1:8200"),
                ("VAULT_ADDR", "https://vault.example.com"),
                ("VAULT_NAMESPACE", "teams/"),
            ],
            "http://127.0.0.1:8200",
            Some("teams"),
        ),
        (
            &[
                ("BAO_ADDR", ""),
                ("VAULT_ADDR", "https://vault.example.com:8200/"),
                ("BAO_NAMESPACE", "bao"),
                ("VAULT_NAMESPACE", "vault"),
            ],
            "https://vault.example.com:8200",
            Some("bao"),
        ),
    ] {
        let server = Server::from_vars(variables.iter().copied()).unwrap();
        let shown = format!("{server:?}");
        match namespace {
            None => assert!(shown.contains("namespace: None"), "{shown}"),
            Some(name) => assert!(shown.contains(&format!("(\"{name}\"")), "{shown}"),
        }
        assert_eq!(origin(server), address);
    }
}

#[test]
fn a_missing_or_wrong_variable_is_an_error_that_names_the_variable() {
    for (variables, says) in [
        (&[][..], "`VAULT_ADDR` and `BAO_ADDR` are not set"),
        (
            &[("VAULT_ADDR", "")],
            "`VAULT_ADDR` and `BAO_ADDR` are not set",
        ),
        (
            &[("VAULT_NAMESPACE", "teams")],
            "`VAULT_ADDR` and `BAO_ADDR`",
        ),
        (
            &[("VAULT_ADDR", "vault.example.com")],
            "`VAULT_ADDR` is unusable: the endpoint's address is not absolute",
        ),
        (
            &[("BAO_ADDR", "http://vault.example.com")],
            "`BAO_ADDR` is unusable: the endpoint's address is http to",
        ),
        (
            &[("VAULT_ADDR", "unix:///run/vault.sock")],
            "`VAULT_ADDR` is unusable",
        ),
        (
            &[("VAULT_ADDR", "https://vault.example.com/?x=s3cret")],
            "`VAULT_ADDR` is unusable: the address of the Vault server is an issuer or has a query",
        ),
        (
            &[
                ("VAULT_ADDR", "https://vault.example.com"),
                ("VAULT_NAMESPACE", "te\nams"),
            ],
            "`VAULT_NAMESPACE` is unusable: the namespace contains characters",
        ),
    ] {
        let error = Server::from_vars(variables.iter().copied()).unwrap_err();
        assert!(error.is_config(), "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
}

#[test]
fn cleartext_needs_loopback_or_the_users_word() {
    assert!(Server::new("http://localhost:8200").is_ok());
    assert!(
        Server::new("http://vault.internal:8200")
            .unwrap_err()
            .is_config()
    );
    let url = EndpointUrl::danger_allow_http("http://vault.internal:8200").unwrap();
    assert_eq!(
        origin(Server::new(url).unwrap()),
        "http://vault.internal:8200"
    );
    let issuer = EndpointUrl::from_issuer("https://vault.example.com").unwrap();
    assert!(Server::new(issuer).unwrap_err().is_config());
}

#[tokio::test]
async fn a_server_behind_a_proxy_has_a_path() {
    let vault = VaultServer::new();
    let server = Server::new("https://proxy.example.com/vault/").unwrap();
    let server = server.transport(tower_auth_test::ScriptedServer::new(|request| {
        assert_eq!(request.path(), "/vault/v1/auth/approle/login");
        tower_auth_test::ScriptedResponse::json(
            200,
            r#"{"auth":{"client_token":"t","lease_duration":60,"renewable":false}}"#,
        )
    }));
    let login = Login::app_role(server, ROLE_ID, SECRET_ID);
    assert_eq!(login.fetch(Reason::First).await.unwrap().secret(), "t");
    assert_eq!(vault.asked().len(), 0);
}

#[tokio::test]
async fn each_request_has_the_namespace_and_the_header_against_forgery() {
    let vault = VaultServer::new();
    let server = vault.server().namespace("/teams/reports/").unwrap();
    let login = Login::app_role(server, ROLE_ID, SecretSource::from(SECRET_ID));
    login.fetch(Reason::First).await.unwrap();
    login.fetch(Reason::Stale).await.unwrap();
    login.fetch(Reason::Refused).await.unwrap();
    let requests = vault.service().requests();
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert_eq!(request.header("x-vault-namespace"), Some("teams/reports"));
        assert_eq!(request.header("x-vault-request"), Some("true"));
    }
}
