//! Identities of other providers.

use serde_json::{Value, json};
use tower_auth::{Reason, TokenSource};
use tower_auth_test::ScriptedResponse;

use super::files::{Folder, error_of, fetch, fetch_with, google};
use crate::support::google_cloud::{
    CLIENT_ID, CLIENT_SECRET, SUBJECT, SUBJECT_URL, WORKFORCE_POOL, external, impersonation_url,
    subject_at_url as of_url, with,
};
use crate::support::token_server::all_text_of;
use crate::support::web::line;

const FEDERATED: &str = "ya29.federated.cloud-platform";
const IMPERSONATED: &str = "ya29.impersonated-by-federated.pubsub";
const PUBSUB: &str = "https://www.googleapis.com/auth/pubsub";

fn json_format(field: &str) -> Value {
    json!({"type": "json", "subject_token_field_name": field})
}

#[tokio::test]
async fn a_subject_token_comes_from_a_file() {
    let (server, folder) = (google(), Folder::with(&json!({})));
    let text = folder.write("subject", &format!("{SUBJECT}\n"));
    let field = "a.b/c~d";
    let json = folder.write("subject.json", &json!({ field: SUBJECT }).to_string());
    for source in [
        json!({ "file": text }),
        json!({ "file": text, "format": {"type": "text"} }),
        json!({ "file": json, "format": json_format(field) }),
    ] {
        folder.write("credentials.json", &external(&source).to_string());
        let token = fetch(&folder.source(&server)).await.unwrap();
        assert_eq!(token.secret(), FEDERATED);
    }
    let sent: Vec<String> = server.requests().iter().map(line).collect();
    assert_eq!(sent, ["POST https://sts.googleapis.com/v1/token"; 3]);
    assert_eq!(server.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_rotated_subject_file_is_read_again() {
    let (server, folder) = (google(), Folder::with(&json!({})));
    let subject = folder.write("subject", "planted-old");
    folder.write(
        "credentials.json",
        &external(&json!({ "file": subject })).to_string(),
    );
    let source = folder.source(&server);
    let error = fetch(&source).await.unwrap_err();
    assert!(error.is_invalid_grant(), "{error:?}");
    folder.write("subject", SUBJECT);
    assert_eq!(fetch(&source).await.unwrap().secret(), FEDERATED);
}

#[tokio::test]
async fn an_unusable_subject_file_is_named() {
    let (server, folder) = (google(), Folder::with(&json!({})));
    for (text, says) in [
        (
            "{\"other\":\"planted\"}",
            "has no subject token at `/token`",
        ),
        ("{\"token\":7}", "has no single string at `/token`"),
        (
            "{\"token\":\"planted\",\"token\":\"x\"}",
            "has no single string at `/token`",
        ),
        ("planted", "is not valid JSON"),
        ("", "is empty"),
        ("{\"token\":\"\"}", "is empty"),
    ] {
        let subject = folder.write("subject", text);
        let file = external(&json!({"file": subject, "format": json_format("token")}));
        folder.write("credentials.json", &file.to_string());
        let error = fetch(&folder.source(&server)).await.unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
        assert!(!all_text_of(&error).contains("planted"), "{error:?}");
    }
    server.assert_no_requests();
}

#[tokio::test]
async fn a_subject_token_comes_from_a_url() {
    let (server, folder) = (google(), Folder::with(&external(&of_url())));
    let token = fetch(&folder.source(&server)).await.unwrap();
    assert_eq!(token.secret(), FEDERATED);
    assert_eq!(line(&server.requests()[0]), format!("GET {SUBJECT_URL}"));

    let file = external(&json!({"url": "https://id.example.com/subject"}));
    let folder = Folder::with(&file);
    server.respond_next(ScriptedResponse::new(200).body(format!("{SUBJECT}\n")));
    assert_eq!(
        fetch(&folder.source(&server)).await.unwrap().secret(),
        FEDERATED
    );
}

#[tokio::test]
async fn a_refused_request_for_the_subject_shows_no_header() {
    let headers = json!({"Metadata": "planted-value"});
    let source = with(of_url(), "headers", headers);
    let (server, folder) = (google(), Folder::with(&external(&source)));
    server.respond_next(ScriptedResponse::json(
        400,
        json!({"error": "invalid_request", "error_description": "no planted-value here"}),
    ));
    let error = fetch(&folder.source(&server)).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
    let text = all_text_of(&error);
    assert!(text.contains("the server of the subject token"), "{text}");
    assert!(!text.contains("planted"), "{text}");
}

#[tokio::test]
async fn the_exchange_may_lead_to_a_service_account() {
    let file = external(&of_url());
    let file = with(
        file,
        "service_account_impersonation_url",
        impersonation_url(),
    );
    let (server, folder) = (google(), Folder::with(&file));
    let source = folder.source(&server).scopes([PUBSUB]);
    let token = fetch(&source).await.unwrap();
    assert_eq!(token.secret(), IMPERSONATED);
    // The exchange's token is cached, so only the impersonation is requested again.
    source.fetch(Reason::Expired).await.unwrap();
    assert_eq!(server.requests().len(), 4);

    let options = json!({"token_lifetime_seconds": 900});
    let short = with(file, "service_account_impersonation", options);
    let (server, folder) = (google(), Folder::with(&short));
    fetch(&folder.source(&server)).await.unwrap();
    let body: Value = serde_json::from_slice(server.requests()[2].body()).unwrap();
    assert_eq!(body["lifetime"], "900s");
}

#[tokio::test]
async fn a_client_and_a_project_can_be_named() {
    let workforce = with(external(&of_url()), "audience", WORKFORCE_POOL);
    let workforce = with(workforce, "workforce_pool_user_project", "123456");
    let (server, folder) = (google(), Folder::with(&workforce));
    fetch(&folder.source(&server)).await.unwrap();
    let options = server.requests()[1].param("options").unwrap();
    assert!(options.starts_with("%7B%22userProject"), "{options}");

    let client = with(workforce, "client_id", CLIENT_ID);
    let client = with(client, "client_secret", CLIENT_SECRET);
    let (server, folder) = (google(), Folder::with(&client));
    fetch(&folder.source(&server)).await.unwrap();
    let sent = &server.requests()[1];
    assert_eq!(sent.basic().unwrap().0, CLIENT_ID);
    assert_eq!(sent.param("options"), None);

    let wrong = with(external(&of_url()), "workforce_pool_user_project", "123456");
    let text = error_of(&wrong).await;
    assert!(text.contains("`workforce_pool_user_project`"), "{text}");
}

#[tokio::test]
async fn the_endpoint_may_be_missing() {
    let file = with(external(&of_url()), "token_url", Value::Null);
    assert_eq!(fetch_with(&file).await.unwrap().secret(), FEDERATED);
}

#[tokio::test]
async fn a_source_that_cannot_be_used_is_named() {
    let executable = |executable: Value| json!({ "executable": executable });
    for (source, says) in [
        (
            json!({"environment_id": "aws1"}),
            "`credential_source.environment_id`",
        ),
        (
            json!({"environment_id": "aws1"}),
            "asks for credentials of AWS",
        ),
        (json!({"certificate": {}}), "asks for a client certificate"),
        (json!({}), "exactly one of `file`, `url` and `executable`"),
        (json!({"file": "a", "url": "https://x"}), "exactly one of"),
        (json!({"file": 7}), "`credential_source.file`"),
        (
            json!({"file": "a", "format": {"type": "xml"}}),
            "`credential_source.format.type`",
        ),
        (
            json!({"file": "a", "format": {"type": "json"}}),
            "`credential_source.format.subject_token_field_name`",
        ),
        (
            json!({"url": "http://example.com/planted"}),
            "`credential_source.url`",
        ),
        (json!({"url": "ftp://127.0.0.1"}), "`credential_source.url`"),
        (
            with(of_url(), "headers", json!({"a": 7})),
            "isn't an object of headers",
        ),
        (
            with(of_url(), "headers", json!({"a b": "planted"})),
            "isn't an object of headers",
        ),
        (
            with(of_url(), "headers", json!({"a": "planted\n"})),
            "isn't an object of headers",
        ),
        (
            executable(json!({})),
            "`credential_source.executable.command`",
        ),
        (
            executable(json!({"command": "true"})),
            "`GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES`",
        ),
    ] {
        let text = error_of(&external(&source)).await;
        assert!(text.contains(says), "{says}: {text}");
    }
    let aws = "urn:ietf:params:aws:token-type:aws4_request";
    let text = error_of(&with(external(&of_url()), "subject_token_type", aws)).await;
    assert!(text.contains("asks for credentials of AWS"), "{text}");
    let text = error_of(&with(external(&of_url()), "credential_source", Value::Null)).await;
    assert!(text.contains("`credential_source`"), "{text}");
}

#[cfg(unix)]
mod executable {
    use std::time::Duration;

    use super::*;

    const ALLOWED: &[(&str, &str)] = &[("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "1")];

    /// Prints a subject token, and appends a line to the file `runs`.
    const PROGRAM: &str = r#"
        echo run >>"$1/runs"
        [ "$GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE" = "$2" ] || exit 3
        [ "$GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE" = urn:ietf:params:oauth:token-type:jwt ] || exit 4
        [ "$GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE" = 0 ] || exit 5
        [ -z "$CARGO_PKG_NAME" ] || printf '%s' "$CARGO_PKG_NAME" >"$1/passed"
        printf '%s' "$GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL" >"$1/email"
        out='{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:jwt","id_token":"planted-subject-token","expiration_time":32503680000}'
        [ -z "$GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE" ] || printf '%s' "$out" >"$GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE"
        printf '%s' "$out"
    "#;

    fn folder() -> (Folder, Value) {
        let folder = Folder::with(&json!({}));
        let script = folder.write("a program.sh", PROGRAM);
        let (script, place) = (script.display(), folder.path().display());
        let pool = crate::support::google_cloud::POOL;
        let command = format!("/bin/sh '{script}'  \"{place}\" {pool}");
        (folder, json!({ "command": command }))
    }

    fn write(folder: &Folder, executable: &Value) -> Value {
        let file = external(&json!({ "executable": executable }));
        folder.write("credentials.json", &file.to_string());
        file
    }

    fn runs(folder: &Folder) -> usize {
        let runs = std::fs::read_to_string(folder.path().join("runs"));
        runs.unwrap_or_default().lines().count()
    }

    #[tokio::test]
    async fn a_subject_token_comes_from_a_program_that_may_run() {
        let (server, (folder, executable)) = (google(), folder());
        let file = write(&folder, &executable);
        let source = folder.source_with(&server, ALLOWED);
        assert_eq!(fetch(&source).await.unwrap().secret(), FEDERATED);
        assert_eq!(source.fetch_timeout(), Some(Duration::from_secs(150)));
        assert!(!folder.path().join("passed").exists());
        let passing = folder
            .source_with(&server, ALLOWED)
            .pass_env(["CARGO_PKG_NAME"]);
        fetch(&passing).await.unwrap();
        assert!(folder.path().join("passed").exists());
        assert_eq!(runs(&folder), 2);

        let file = with(
            file,
            "service_account_impersonation_url",
            impersonation_url(),
        );
        folder.write("credentials.json", &file.to_string());
        let source = folder.source_with(&server, ALLOWED).scopes([PUBSUB]);
        assert_eq!(fetch(&source).await.unwrap().secret(), IMPERSONATED);
        let email = std::fs::read_to_string(folder.path().join("email")).unwrap();
        assert_eq!(email, crate::support::google_cloud::EMAIL);

        // Any other value of the variable doesn't allow a program.
        let other = [("GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "true")];
        let error = fetch(&folder.source_with(&server, &other))
            .await
            .unwrap_err();
        assert!(error.is_config(), "{error:?}");
        assert_eq!(folder.source(&server).fetch_timeout(), None);
        assert_eq!(runs(&folder), 3);
    }

    #[tokio::test]
    async fn a_token_in_the_output_file_spares_a_run() {
        let (server, (folder, executable)) = (google(), folder());
        let output = folder.path().join("output");
        write(
            &folder,
            &with(executable, "output_file", output.to_str().unwrap()),
        );
        let source = folder.source_with(&server, ALLOWED);
        fetch(&source).await.unwrap();
        fetch(&source).await.unwrap();
        assert_eq!(runs(&folder), 1);
        for (text, count) in [
            // An expired token, and a token of unknown age.
            (
                r#"{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:jwt","id_token":"x","expiration_time":1}"#,
                2,
            ),
            (
                r#"{"version":1,"success":true,"token_type":"urn:ietf:params:oauth:token-type:jwt","id_token":"x"}"#,
                3,
            ),
            (
                r#"{"version":1,"success":false,"code":"1","message":"x","expiration_time":32503680000}"#,
                4,
            ),
            ("broken", 5),
        ] {
            folder.write("output", text);
            assert_eq!(fetch(&source).await.unwrap().secret(), FEDERATED);
            assert_eq!(runs(&folder), count);
        }
    }

    /// The same limit applies if the exchange's token is then used for an impersonation.
    #[tokio::test(start_paused = true)]
    async fn a_slow_program_may_run_for_120_s() {
        let (server, folder) = (google(), Folder::with(&json!({})));
        let slow = json!({"command": "/bin/sleep 1000", "timeout_millis": 120_000});
        let file = write(&folder, &slow);
        for file in [
            file.clone(),
            with(
                file,
                "service_account_impersonation_url",
                impersonation_url(),
            ),
        ] {
            folder.write("credentials.json", &file.to_string());
            let source = folder.source_with(&server, ALLOWED);
            let error = fetch(&source).await.unwrap_err();
            let text = all_text_of(&error);
            assert!(text.contains("did not end within 120s"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_command_that_cannot_run_is_named() {
        let (server, folder) = (google(), Folder::with(&json!({})));
        for (executable, says) in [
            (json!({"command": "a 'b"}), "has an unclosed quote"),
            (json!({"command": "  "}), "is empty"),
            (
                json!({"command": "true", "timeout_millis": 4999}),
                "isn't between 5000 and 120000",
            ),
            (
                json!({"command": "true", "timeout_millis": 120_001}),
                "`credential_source.executable.timeout_millis`",
            ),
            (
                json!({"command": "true", "timeout_millis": "x"}),
                "isn't a whole number",
            ),
            (
                json!({"command": "/nowhere/tool"}),
                "could not start /nowhere/tool",
            ),
            (
                json!({"command": "/bin/sh -c 'echo planted >&2; exit 9'"}),
                "exit status: 9",
            ),
        ] {
            write(&folder, &executable);
            let error = fetch(&folder.source_with(&server, ALLOWED))
                .await
                .unwrap_err();
            assert!(error.to_string().contains(says), "{says}: {error}");
        }
        server.assert_no_requests();
    }
}
