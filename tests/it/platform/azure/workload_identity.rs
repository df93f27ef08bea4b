//! A pod's token, which Microsoft Entra accepts as a client assertion.

use std::fs;

use tower_auth::platform::azure::WorkloadIdentity;
use tower_auth::{Error, Reason, TokenSource};

use crate::support::azure_server::{CLIENT_ID, Cluster, RESOURCE, TENANT, token_for};
use crate::support::token_server::expiry;

const SCOPE: &str = "https://vault.azure.net/.default";

fn identity(vars: &[(&str, &str)]) -> Result<WorkloadIdentity, Error> {
    WorkloadIdentity::from_vars(SCOPE, vars.iter().copied())
}

/// Returns all variables, with this value of one of them.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut vars = vec![
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", CLIENT_ID),
        ("AZURE_FEDERATED_TOKEN_FILE", "/no/such/file"),
    ];
    vars.retain(|(other, _)| *other != name);
    vars.push((name, value));
    vars
}

fn error(name: &str, value: &str) -> String {
    let error = identity(&with(name, value)).unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert!(!value.contains("planted") || !format!("{error:?}").contains("planted"));
    error.to_string()
}

#[tokio::test]
async fn a_pod_gets_tokens_with_its_rotated_token() {
    let (cluster, folder) = (Cluster::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("token");
    let vars = with("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap());
    let server = cluster.entra();
    let source = identity(&vars).unwrap().transport(server.clone());

    let missing = source.fetch(Reason::First).await.unwrap_err();
    assert!(missing.is_config(), "{missing:?}");
    assert!(
        missing.to_string().contains(file.to_str().unwrap()),
        "{missing}"
    );

    fs::write(&file, Cluster::new().token()).unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_invalid_client(), "{error:?}");
    assert!(error.to_string().contains("AADSTS700213"), "{error}");

    fs::write(&file, cluster.token() + "\n").unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), token_for(Some(CLIENT_ID), RESOURCE));
    assert_eq!(expiry(&token), "In(86399s)");
    let request = server.requests().pop().unwrap();
    assert_eq!(
        request.origin().unwrap(),
        "https://login.microsoftonline.com"
    );
    assert_eq!(request.path(), "/contoso.onmicrosoft.com/oauth2/v2.0/token");
}

#[test]
fn each_missing_variable_is_named() {
    for name in [
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
    ] {
        let message = error(name, "");
        assert!(
            message.contains(&format!("`{name}` is not set or is empty")),
            "{message}"
        );
    }
    let none = identity(&[]).unwrap_err().to_string();
    assert!(
        none.contains("a workload identity of Azure needs it"),
        "{none}"
    );
    assert!(WorkloadIdentity::from_env(SCOPE).unwrap_err().is_config());
}

#[test]
fn a_tenant_is_a_guid_or_a_domain() {
    for tenant in [
        "72f988bf-86f1-41af-91ab-2d7cd011db47",
        "common",
        "a.b-c.onmicrosoft.com",
    ] {
        identity(&with("AZURE_TENANT_ID", tenant)).unwrap();
    }
    for tenant in [
        "..",
        ".",
        "../planted",
        "a/../planted",
        "planted?x",
        "planted#",
        "pl anted",
        "%2e%2e",
        "\u{e4}",
        "a\\b",
        "a@b",
        ".a",
    ] {
        let message = error("AZURE_TENANT_ID", tenant);
        assert!(
            message.contains("`AZURE_TENANT_ID` is not a tenant"),
            "{tenant}: {message}"
        );
    }
}

#[tokio::test]
async fn an_authority_is_https_with_or_without_its_scheme() {
    let cluster = Cluster::new();
    for (host, origin) in [
        (
            "https://login.microsoftonline.us/",
            "https://login.microsoftonline.us",
        ),
        ("login.chinacloudapi.cn", "https://login.chinacloudapi.cn"),
        (
            "https://login.example.com:8443//",
            "https://login.example.com:8443",
        ),
        ("", "https://login.microsoftonline.com"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), cluster.token()).unwrap();
        let mut vars = with("AZURE_AUTHORITY_HOST", host);
        vars.push(("AZURE_FEDERATED_TOKEN_FILE", file.path().to_str().unwrap()));
        let server = cluster.entra();
        let source = identity(&vars).unwrap().transport(server.clone());
        source.fetch(Reason::First).await.unwrap();
        assert_eq!(server.requests()[0].origin().unwrap(), origin);
    }
    for host in [
        "http://login.example.com",
        "ftp://login.example.com",
        "https://",
        "https://a b",
        "https://a.example/?x=",
        "https://me:planted@a.example",
        "https://a.example/#",
    ] {
        let message = error("AZURE_AUTHORITY_HOST", host);
        assert!(
            message.contains("`AZURE_AUTHORITY_HOST`"),
            "{host}: {message}"
        );
    }
}

#[test]
fn the_tokens_go_to_the_origin_of_the_scope() {
    let origins = identity(&with("UNUSED", "")).unwrap().origins();
    assert_eq!(origins, ["https://vault.azure.net".parse().unwrap()]);
}

#[test]
fn a_scope_is_needed() {
    for scope in ["", "/.default"] {
        let error = WorkloadIdentity::from_vars(scope, with("UNUSED", "")).unwrap_err();
        assert!(error.is_config(), "{error:?}");
    }
}

#[cfg(feature = "fleet")]
#[test]
fn pods_with_the_same_identity_share_a_token() {
    let key = |vars: &[(&str, &str)]| identity(vars).unwrap().store_key();
    let base = key(&with("UNUSED", ""));
    assert!(base.is_some());
    assert_eq!(key(&with("AZURE_FEDERATED_TOKEN_FILE", "/elsewhere")), base);
    for (name, value) in [
        ("AZURE_TENANT_ID", "another"),
        ("AZURE_CLIENT_ID", "another"),
        ("AZURE_AUTHORITY_HOST", "login.microsoftonline.us"),
    ] {
        assert_ne!(key(&with(name, value)), base, "{name}");
    }
}
