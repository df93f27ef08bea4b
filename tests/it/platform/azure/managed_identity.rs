//! Tokens of each product of Azure, and the three ids of a user-assigned identity.

use tower_auth::platform::azure::ManagedIdentity;
use tower_auth::{Error, Origin, Reason, Token, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::azure_server::{
    self as azure, CLIENT_ID, OBJECT_ID, RESOURCE, RESOURCE_ID, token_for,
};
use crate::support::token_server::expiry;

const APP_SERVICE: [(&str, &str); 2] = [
    ("IDENTITY_ENDPOINT", "http://127.0.0.1:4141/MSI/token/"),
    ("IDENTITY_HEADER", "planted-secret"),
];
const VERSION_2017: [(&str, &str); 2] = [
    ("MSI_ENDPOINT", "http://127.0.0.1:4141/MSI/token/"),
    ("MSI_SECRET", "planted-secret"),
];
const MACHINE: [(&str, &str); 0] = [];

fn identity(vars: &[(&str, &str)], server: &ScriptedServer) -> ManagedIdentity {
    let identity = ManagedIdentity::from_vars(RESOURCE, vars.iter().copied()).unwrap();
    identity.transport(server.clone())
}

async fn fetch(identity: &ManagedIdentity) -> Result<Token, Error> {
    identity.fetch(Reason::First).await
}

#[tokio::test]
async fn a_virtual_machine_asks_its_metadata_server() {
    let server = azure::metadata();
    let token = fetch(&identity(&MACHINE, &server)).await.unwrap();
    assert_eq!(token.secret(), token_for(None, RESOURCE));
    assert_eq!(token.extra("resource").unwrap(), RESOURCE);
    let request = &server.requests()[0];
    assert_eq!(request.origin().unwrap(), "http://169.254.169.254");
    assert_eq!(request.header("metadata"), Some("true"));
    assert_eq!(request.header("authorization"), None);
    server.assert_requests([
        "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net - -> 200",
    ]);
}

#[tokio::test]
async fn an_app_asks_the_endpoint_of_its_service() {
    let server = azure::app_service("planted-secret");
    let token = fetch(&identity(&APP_SERVICE, &server)).await.unwrap();
    assert_eq!(token.secret(), token_for(None, RESOURCE));
    let request = &server.requests()[0];
    assert_eq!(request.origin().unwrap(), "http://127.0.0.1:4141");
    assert_eq!(request.header("x-identity-header"), Some("planted-secret"));
    // Automation has the same variables, and requires this header.
    assert_eq!(request.header("metadata"), Some("true"));
}

#[tokio::test]
async fn machine_learning_gets_the_protocol_of_2017() {
    let server = azure::version_2017("planted-secret");
    let source = identity(&VERSION_2017, &server);
    let token = fetch(&source.client_id(CLIENT_ID).unwrap()).await.unwrap();
    assert_eq!(token.secret(), token_for(Some("clientid"), RESOURCE));
}

#[tokio::test]
async fn each_product_has_its_own_names_for_the_ids() {
    let chosen: [&dyn Fn(ManagedIdentity) -> Result<ManagedIdentity, Error>; 3] = [
        &|source| source.client_id(CLIENT_ID),
        &|source| source.object_id(OBJECT_ID),
        &|source| source.resource_id(RESOURCE_ID),
    ];
    let machine = ["client_id", "object_id", "msi_res_id"];
    let app = ["client_id", "object_id", "mi_res_id"];
    for (at, choose) in chosen.iter().enumerate() {
        let source = choose(identity(&MACHINE, &azure::metadata())).unwrap();
        let token = fetch(&source).await.unwrap();
        assert_eq!(token.secret(), token_for(Some(machine[at]), RESOURCE));

        let server = azure::app_service("planted-secret");
        let source = choose(identity(&APP_SERVICE, &server)).unwrap();
        let token = fetch(&source).await.unwrap();
        assert_eq!(token.secret(), token_for(Some(app[at]), RESOURCE));

        let server = azure::version_2017("planted-secret");
        let old = choose(identity(&VERSION_2017, &server));
        assert_eq!(old.is_ok(), at == 0);
        if let Err(error) = old {
            assert!(error.is_config() && error.to_string().contains("call `client_id`"));
        }
    }
}

#[test]
fn only_one_identity_can_be_chosen() {
    let server = azure::metadata();
    let source = || identity(&MACHINE, &server).client_id(CLIENT_ID).unwrap();
    for second in [
        source().client_id(CLIENT_ID),
        source().object_id(OBJECT_ID),
        source().resource_id(RESOURCE_ID),
    ] {
        let error = second.unwrap_err();
        assert!(error.is_config(), "{error:?}");
        let message = error.to_string();
        assert!(
            message.contains("`client_id` has already chosen"),
            "{error}"
        );
    }
    for empty in [
        identity(&MACHINE, &server).client_id(""),
        identity(&MACHINE, &server).object_id(""),
        identity(&MACHINE, &server).resource_id(""),
    ] {
        assert!(empty.unwrap_err().is_config());
    }
}

#[tokio::test]
async fn the_resource_may_be_a_scope() {
    for (given, resource) in [
        (
            "https://vault.azure.net/.default",
            "https://vault.azure.net",
        ),
        (
            "https://management.azure.com//.default",
            "https://management.azure.com/",
        ),
        ("api://5e29463d/.default", "api://5e29463d"),
        (
            "https://a.example/x&client_id=y",
            "https://a.example/x&client_id=y",
        ),
    ] {
        let source = ManagedIdentity::from_vars(given, MACHINE).unwrap();
        let token = fetch(&source.transport(azure::metadata())).await.unwrap();
        assert_eq!(token.secret(), token_for(None, resource));
    }
    for wrong in [
        "",
        "/.default",
        "https://a.example/.default https://b.example/.default",
    ] {
        let error = ManagedIdentity::from_vars(wrong, MACHINE).unwrap_err();
        assert!(error.is_config(), "{error:?}");
        assert!(error.to_string().contains("pass one resource"), "{error}");
    }
}

#[test]
fn the_tokens_go_to_the_origin_of_the_resource() {
    let origins = |resource: &str| {
        ManagedIdentity::from_vars(resource, MACHINE)
            .unwrap()
            .origins()
    };
    let graph: Origin = "https://graph.microsoft.com".parse().unwrap();
    assert_eq!(origins("https://graph.microsoft.com/.default"), [graph]);
    assert!(origins("api://5e29463d").is_empty());
    assert!(origins("http://internal.example").is_empty());
    assert!(origins("5e29463d").is_empty());
}

#[tokio::test]
async fn an_identity_that_is_not_assigned_is_told_in_the_servers_words() {
    let other = identity(&MACHINE, &azure::metadata()).client_id("another-id");
    let error = fetch(&other.unwrap()).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the metadata server of Azure refused to issue a token (status 400, error \
         `invalid_request`: Identity not found)"
    );
    let wrong = ManagedIdentity::from_vars("nonsense", MACHINE).unwrap();
    let error = fetch(&wrong.transport(azure::metadata()))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("The application named nonsense wasn't found"),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_of_app_service_shows_its_message_but_no_secret() {
    let server = azure::app_service("another-secret");
    let error = fetch(&identity(&APP_SERVICE, &server)).await.unwrap_err();
    assert!(
        error.to_string().contains("message: Unauthorized"),
        "{error}"
    );

    let echo = r#"{"statusCode":500,"message":"no planted-secret"}"#;
    server.respond_always(ScriptedResponse::json(500, echo));
    let error = fetch(&identity(&APP_SERVICE, &server)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(
        error.to_string().contains("message: no [redacted]"),
        "{error}"
    );
}

#[tokio::test]
async fn a_reply_without_a_token_is_an_error() {
    for (reply, says) in [
        (r#"{"expires_on":"1"}"#, "has no `access_token`"),
        ("<html>", "is not valid JSON"),
        (
            r#"{"access_token":"a","token_type":"mac"}"#,
            "has a `token_type` other than `Bearer`",
        ),
    ] {
        let server = azure::metadata();
        server.respond_next(ScriptedResponse::json(200, reply));
        let error = fetch(&identity(&MACHINE, &server)).await.unwrap_err();
        assert!(error.is_reply(), "{error:?}");
        let message = error.to_string();
        let start = "the metadata server of Azure's reply";
        assert!(
            message.starts_with(start) && message.contains(says),
            "{message}"
        );
    }
}

#[test]
fn debug_shows_no_secret() {
    let server = azure::app_service("planted-secret");
    let shown = format!("{:?}", identity(&APP_SERVICE, &server));
    assert!(
        shown.contains("AppService") && shown.contains(RESOURCE),
        "{shown}"
    );
    assert!(!shown.contains("planted"), "{shown}");
}

#[cfg(feature = "fleet")]
#[test]
fn only_a_user_assigned_identity_is_the_same_on_two_machines() {
    let key = |source: ManagedIdentity| source.store_key();
    let base = || identity(&MACHINE, &azure::metadata());
    assert_eq!(key(base()), None);
    let by_client = key(base().client_id(CLIENT_ID).unwrap());
    assert!(by_client.is_some());
    assert_eq!(
        by_client,
        key(identity(&APP_SERVICE, &azure::metadata())
            .client_id(CLIENT_ID)
            .unwrap())
    );
    let graph = ManagedIdentity::from_vars("https://graph.microsoft.com", MACHINE).unwrap();
    for other in [
        base().client_id("another").unwrap(),
        base().object_id(CLIENT_ID).unwrap(),
        graph.client_id(CLIENT_ID).unwrap(),
    ] {
        assert_ne!(key(other), by_client);
    }
}

#[tokio::test]
async fn a_token_expires_with_expires_in_if_there_is_no_expires_on() {
    let server = azure::metadata();
    let reply = r#"{"access_token":"a","token_type":"Bearer","expires_in":"3599"}"#;
    server.respond_next(ScriptedResponse::json(200, reply));
    let token = fetch(&identity(&MACHINE, &server)).await.unwrap();
    assert_eq!(expiry(&token), "In(3599s)");
}
