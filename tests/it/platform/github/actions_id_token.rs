//! The ID tokens of jobs in GitHub Actions and in other CI services.

use secrecy::ExposeSecret;
use serde_json::json;
use tower_auth::oauth2::{Client, ClientCredentials, TokenExchange};
use tower_auth::platform::github::ActionsIdToken;
use tower_auth::{Reason, SecretSource, TokenSource};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer};

use crate::support::token_server::{TokenServer, all_text_of, expiry};

const URL: &str = "https://run.actions.githubusercontent.com/idtoken/1/2?api-version=2.0";
const REQUEST_TOKEN: &str = "s3cret.request.token";

/// {"exp":32503680000}
const JWT: &str = "e30.eyJleHAiOjMyNTAzNjgwMDAwfQ.c2ln";

const VARIABLES: [(&str, &str); 2] = [
    ("ACTIONS_ID_TOKEN_REQUEST_URL", URL),
    ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", REQUEST_TOKEN),
];

/// Returns GitHub's endpoint, and the source of a job.
fn job() -> (ScriptedServer, ActionsIdToken) {
    let server = ScriptedServer::new(|request| {
        assert_eq!(request.method(), "GET");
        match request.token() {
            Some(REQUEST_TOKEN) => ScriptedResponse::json(200, json!({"count": 1, "value": JWT})),
            _ => ScriptedResponse::json(401, json!({"message": "no"})),
        }
    });
    let source = ActionsIdToken::from_vars(VARIABLES).unwrap();
    let source = source.transport(server.clone());
    (server, source)
}

fn asked(server: &ScriptedServer) -> Vec<String> {
    let requests = server.requests().into_iter();
    requests
        .map(|request: RecordedRequest| request.uri().to_string())
        .collect()
}

#[tokio::test]
async fn the_request_names_the_audience() {
    let (server, source) = job();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), JWT);
    assert!(expiry(&token).contains("32503680000"), "{}", expiry(&token));
    let source = source.audience("api://a b&c=d/é");
    source.fetch(Reason::First).await.unwrap();
    let with_audience = format!("{URL}&audience=api%3A%2F%2Fa+b%26c%3Dd%2F%C3%A9");
    assert_eq!(asked(&server), [URL, &with_audience]);
    let bare = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://a.example/token"),
        VARIABLES[1],
    ];
    let bare = ActionsIdToken::from_vars(bare).unwrap().audience("x");
    bare.transport(server.clone())
        .fetch(Reason::First)
        .await
        .unwrap();
    assert_eq!(asked(&server)[2], "https://a.example/token?audience=x");
}

#[test]
fn each_variable_that_is_missing_or_wrong_is_named() {
    let from = |url: Option<&str>, token: Option<&str>| {
        let url = url.map(|url| ("ACTIONS_ID_TOKEN_REQUEST_URL", url));
        let token = token.map(|token| ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", token));
        ActionsIdToken::from_vars(url.into_iter().chain(token)).unwrap_err()
    };
    for (error, names, advice) in [
        (
            from(None, None),
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "`permissions: id-token: write`",
        ),
        (
            from(None, Some(REQUEST_TOKEN)),
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "`permissions: id-token: write`",
        ),
        (
            from(Some(""), Some(REQUEST_TOKEN)),
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "`permissions: id-token: write`",
        ),
        (
            from(Some(URL), None),
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "`permissions: id-token: write`",
        ),
        (
            from(Some(URL), Some("")),
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "`permissions: id-token: write`",
        ),
        (
            from(Some("run.example"), Some(REQUEST_TOKEN)),
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "https://",
        ),
        (
            from(Some("http://run.example/?a"), Some(REQUEST_TOKEN)),
            "ACTIONS_ID_TOKEN_REQUEST_URL",
            "use https",
        ),
        (
            from(Some(URL), Some("s3cret\n")),
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "is no token",
        ),
    ] {
        let text = error.to_string();
        assert!(error.is_config(), "{error:?}");
        assert!(text.contains(names) && text.contains(advice), "{text}");
        assert!(!all_text_of(&error).contains("s3cret"), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_speaks_only_of_what_the_job_has() {
    let cleartext = [
        ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://run.example/token"),
        VARIABLES[1],
    ];
    let cleartext = ActionsIdToken::from_vars(cleartext).unwrap_err();
    let (server, source) = job();
    server.respond_next(ScriptedResponse::new(302).header("location", "/login"));
    let redirect = source.fetch(Reason::First).await.unwrap_err();
    for error in [cleartext, redirect] {
        for wrong in ["client secret", "danger_allow_http"] {
            assert!(!error.to_string().contains(wrong), "{error}");
        }
    }
}

#[tokio::test]
async fn a_refusal_doesnt_show_the_request_token() {
    let (server, source) = job();
    let refusal = json!({"message": format!("no job has {REQUEST_TOKEN}")});
    server.respond_next(ScriptedResponse::json(403, refusal));
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "GitHub's endpoint for ID tokens refused to issue a token (status 403; message: no job has \
         [redacted])"
    );
    for response in [
        ScriptedResponse::json(200, json!({"count": 0})),
        ScriptedResponse::new(302),
    ] {
        server.respond_next(response);
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_reply(), "{error:?}");
    }
    assert!(!format!("{source:?}").contains("s3cret"));
}

#[tokio::test]
async fn an_id_token_is_a_clients_assertion_or_the_subject_of_an_exchange() {
    let (github, source) = job();
    let source = source.audience("https://id.example.com");
    takes(source.clone(), source, JWT).await;
    assert_eq!(github.requests().len(), 3);
}

/// GitLab puts the ID token of a job into a variable that `id_tokens` names.
#[tokio::test]
async fn the_id_token_of_a_gitlab_job_is_one_too() {
    let variable = || SecretSource::env("CARGO_PKG_NAME");
    takes(variable(), variable(), "tower-auth-tests").await;
}

/// Buildkite's agent prints the ID token.
#[cfg(all(feature = "command", unix))]
#[tokio::test]
async fn the_id_token_of_a_buildkite_job_is_one_too() {
    use std::os::unix::fs::PermissionsExt;

    use tower_auth::platform::Command;

    let folder = tempfile::tempdir().unwrap();
    let agent = folder.path().join("buildkite-agent");
    let program = format!(
        "#!/bin/sh\n[ \"$*\" = 'oidc request-token --audience https://id.example.com' ] \
         && [ \"$BUILDKITE_JOB_ID\" = 4711 ] && echo {JWT}\n"
    );
    std::fs::write(&agent, program).unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o700)).unwrap();
    let agent = Command::new(agent)
        .args([
            "oidc",
            "request-token",
            "--audience",
            "https://id.example.com",
        ])
        .env("BUILDKITE_JOB_ID", "4711");
    takes(agent.clone(), agent, JWT).await;
}

/// Asserts that the ID token is sent as an assertion and as a subject.
async fn takes(assertion: impl Into<SecretSource>, subject: impl TokenSource, id_token: &str) {
    let assertion = assertion.into();
    assert_eq!(assertion.read().await.unwrap().expose_secret(), id_token);
    let client = || Client::public("https://id.example.com/token", "deploy").unwrap();

    let server = TokenServer::issuing();
    let client_with = client()
        .client_assertion(assertion)
        .transport(server.transport());
    let source = ClientCredentials::with_client(client_with);
    assert_eq!(
        source.fetch(Reason::First).await.unwrap().secret(),
        "issued"
    );
    assert_eq!(
        server.request().param("client_assertion").as_deref(),
        Some(id_token)
    );

    const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
    let server = TokenServer::new(
        200,
        r#"{"access_token":"issued","token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:access_token"}"#,
    );
    let client = client().transport(server.transport());
    let source = TokenExchange::new(client, subject).subject_token_type(ID_TOKEN);
    assert_eq!(
        source.fetch(Reason::First).await.unwrap().secret(),
        "issued"
    );
    assert_eq!(
        server.request().param("subject_token").as_deref(),
        Some(id_token)
    );
    assert_eq!(
        server.request().param("subject_token_type").as_deref(),
        Some(ID_TOKEN)
    );
}
