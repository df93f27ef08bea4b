//! The variables that say where the program runs: none, half of them, or wrong values.

use tower_auth::platform::azure::ManagedIdentity;
use tower_auth::{Error, Reason, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::azure_server::RESOURCE;

fn identity(vars: &[(&str, &str)]) -> Result<ManagedIdentity, Error> {
    ManagedIdentity::from_vars(RESOURCE, vars.iter().copied())
}

fn error(vars: &[(&str, &str)]) -> String {
    let error = identity(vars).unwrap_err();
    assert!(error.is_config(), "{error:?}");
    assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    error.to_string()
}

const ENDPOINT: (&str, &str) = ("IDENTITY_ENDPOINT", "http://localhost:4141/MSI/token");
const HEADER: (&str, &str) = ("IDENTITY_HEADER", "planted");

#[test]
fn half_an_environment_is_an_error_that_names_the_missing_variable() {
    let missing = |name: &str| format!("but `{name}` is missing");
    assert!(error(&[HEADER]).contains(&missing("IDENTITY_ENDPOINT")));
    let arc = error(&[("IMDS_ENDPOINT", "http://localhost:40342")]);
    assert!(arc.contains(&missing("IDENTITY_ENDPOINT")), "{arc}");
    assert!(error(&[("MSI_SECRET", "planted")]).contains(&missing("MSI_ENDPOINT")));
    let alone = error(&[ENDPOINT]);
    assert!(alone.contains("neither `IDENTITY_HEADER`"), "{alone}");
    // An empty variable counts as missing.
    assert_eq!(error(&[ENDPOINT, ("IDENTITY_HEADER", "")]), alone);
    assert_eq!(
        error(&[HEADER, ("IDENTITY_ENDPOINT", "")]),
        error(&[HEADER])
    );
}

#[test]
fn a_product_that_is_not_supported_is_named() {
    let fabric = error(&[
        (
            "IDENTITY_ENDPOINT",
            "https://localhost:2377/metadata/identity/oauth2/token",
        ),
        HEADER,
        ("IDENTITY_SERVER_THUMBPRINT", "00"),
    ]);
    assert!(fabric.contains("Service Fabric"), "{fabric}");
    let shell = error(&[("MSI_ENDPOINT", "http://localhost:50342/oauth2/token")]);
    assert!(
        shell.contains("Cloud Shell") && shell.contains("`MSI_SECRET`"),
        "{shell}"
    );
}

#[test]
fn a_secret_never_goes_over_the_network_in_cleartext() {
    for (name, other) in [
        ("IDENTITY_ENDPOINT", HEADER),
        ("MSI_ENDPOINT", ("MSI_SECRET", "planted")),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", ("UNUSED", "planted")),
    ] {
        for address in [
            "http://identity.example.com/token",
            "http://10.0.0.4/token",
            "http://169.254.169.254.example.com",
            "http://localhost@identity.example.com",
            "http://[::1]identity.example.com/token",
            "http://[fe80::1].identity.example.com/token",
            "http://[169.254.169.254]/token",
            "ftp://localhost/",
            "nonsense",
        ] {
            let message = error(&[(name, address), other]);
            assert!(
                message.contains(&format!("`{name}`")),
                "{address}: {message}"
            );
        }
        for address in [
            "http://169.254.130.2:8081/msi/token",
            "http://[::1]:1/x",
            "https://a.example/x",
        ] {
            identity(&[(name, address), other]).unwrap();
        }
    }
}

#[test]
fn the_host_of_the_metadata_server_has_no_query() {
    let host = "http://169.254.169.254?planted=1";
    let message = error(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", host)]);
    assert!(
        message.contains("`AZURE_POD_IDENTITY_AUTHORITY_HOST` has a query"),
        "{message}"
    );
}

#[test]
fn a_secret_that_no_header_can_contain_is_an_error() {
    for name in ["IDENTITY_HEADER", "MSI_SECRET"] {
        let endpoint = name
            .replace("HEADER", "ENDPOINT")
            .replace("SECRET", "ENDPOINT");
        let message = error(&[(&endpoint, ENDPOINT.1), (name, "planted\nx: y")]);
        assert!(message.contains(&format!("`{name}`")), "{message}");
    }
}

/// Returns the address to which the identity sends its request.
async fn asked(vars: &[(&str, &str)]) -> String {
    let server = ScriptedServer::new(|_| ScriptedResponse::json(200, r#"{"access_token":"a"}"#));
    let source = identity(vars).unwrap().transport(server.clone());
    source.fetch(Reason::First).await.unwrap();
    let uri = server.requests()[0].uri().to_string();
    uri.split("api-version").next().unwrap().to_owned()
}

#[tokio::test]
async fn the_more_specific_variables_count() {
    let old = [
        ("MSI_ENDPOINT", "http://localhost:1/old"),
        ("MSI_SECRET", "planted"),
    ];
    let pod = (
        "AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "http://127.0.0.1:2579/",
    );
    let arc = ("IMDS_ENDPOINT", "http://localhost:40342");
    let all = [ENDPOINT, HEADER, old[0], old[1], pod, arc];
    assert_eq!(asked(&all).await, "http://localhost:4141/MSI/token?");
    assert_eq!(
        asked(&[old[0], old[1], pod]).await,
        "http://localhost:1/old?"
    );
    let metadata = "/metadata/identity/oauth2/token?";
    assert_eq!(
        asked(&[pod]).await,
        format!("http://127.0.0.1:2579{metadata}")
    );
    assert_eq!(
        asked(&[]).await,
        format!("http://169.254.169.254{metadata}")
    );
    let query = ("IDENTITY_ENDPOINT", "http://localhost/token?slot=1");
    assert_eq!(
        asked(&[query, HEADER]).await,
        "http://localhost/token?slot=1&"
    );
}

#[test]
fn the_variables_of_the_process_are_read() {
    // No test machine has these variables.
    ManagedIdentity::from_env(RESOURCE).unwrap();
}
