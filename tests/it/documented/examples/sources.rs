//! The examples of the sources. Each example starts the server that its source uses.

use std::process::Stdio;

use super::{ID, example, support};
use crate::support::digest_server::{self, DigestServer};
#[cfg(feature = "github")]
use crate::support::github_server::{CLIENT_ID, GitHub};
#[cfg(feature = "github")]
use crate::support::keys;

#[tokio::test]
async fn api_key_rotates_its_key_and_no_request_fails() {
    let run = example("api_key").run().await;
    run.succeeded();
    for when in [
        "with the old key",
        "with a new key",
        "with both",
        "with only the new key",
    ] {
        assert!(run.line(when).ends_with("200 OK"), "{when}");
    }
    run.leaks_nothing(&["the-old-key", "the-new-key"]);
}

#[tokio::test]
async fn api_key_rotation_replaces_its_key_while_requests_are_sent_and_none_is_refused() {
    let run = example("api_key_rotation").run().await;
    run.succeeded();
    let steps = [
        "the first key",
        "created the second key",
        "switched to the second key",
        "deleted the first key",
    ];
    let answered = |line: &str| -> usize {
        let (_, rest) = line.split_once(": ").unwrap();
        let (count, rest) = rest.split_once(' ').unwrap();
        assert_eq!(rest, "requests answered, 0 failed");
        count.parse().unwrap()
    };
    let counts = steps.map(|step| answered(run.line(step)));
    let is_steady = counts.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(counts[0] > 0 && is_steady, "{counts:?}");
    assert_eq!(run.line("the API"), "the API refused 0 requests");
    run.leaks_nothing(&["for-loopback-only"]);
}

#[tokio::test]
async fn json_login_logs_in_once_and_refreshes_twice() {
    let run = example("json_login").run().await;
    run.succeeded();
    assert_eq!(run.line("1 login"), "1 login, 2 refreshes");
    run.leaks_nothing(&["for-loopback-only", "access-"]);
}

#[cfg(feature = "file")]
#[tokio::test]
async fn refresh_token_goes_on_where_the_last_run_ended_until_a_login_is_needed() {
    let run = example("refresh_token").run().await;
    run.succeeded();
    for (number, issued) in [(1, 2), (2, 3), (3, 4)] {
        let line = format!("run {number}: {issued} tokens issued so far");
        assert_eq!(run.line(&format!("run {number}")), line);
    }
    assert!(
        run.line("the authorization server")
            .ends_with("log in again")
    );
    run.leaks_nothing(&["refresh-0", "refresh-4", "access-"]);
}

#[cfg(feature = "cookies")]
#[tokio::test]
async fn session_logs_in_twice_and_out_once() {
    let run = example("session").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 4);
    assert!(run.line("not sent").contains("path"));
    assert_eq!(run.line("2 logins"), "2 logins, 1 logout");
    run.leaks_nothing(&["for-loopback-only", "session-1", "session-5"]);
}

#[tokio::test]
async fn discovery_looks_for_the_metadata_once_and_knows_where_to_revoke() {
    let run = example("discovery").run().await;
    run.succeeded();
    let expected = [
        "GET /.well-known/oauth-authorization-server/acme: 404",
        "GET /.well-known/openid-configuration/acme: 404",
        "GET /acme/.well-known/openid-configuration: 200",
        "POST /acme/token: 200",
        "POST /acme/token: 200",
        "POST /acme/revoke: 200",
    ];
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), expected);
    run.leaks_nothing(&[support::CLIENT_SECRET, "a-token"]);
}

#[tokio::test]
async fn protected_resource_goes_from_the_refusal_to_the_response_once() {
    let run = example("protected_resource").run().await;
    run.succeeded();
    let expected = [
        "request 1",
        "API: GET /mcp: 401",
        "API: GET /.well-known/oauth-protected-resource/mcp: 200",
        "authorization server: GET /.well-known/oauth-authorization-server: 200",
        "authorization server: POST /token: 200",
        "API: GET /mcp: 200",
        "  notes",
        "request 2",
        "API: GET /mcp: 200",
        "  notes",
        "another list",
        "API: GET /mcp: 401",
        "API: GET /.well-known/oauth-protected-resource/mcp: 200",
    ];
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[..expected.len()], expected);
    assert!(
        lines[expected.len()].contains("has none of them"),
        "{run:?}"
    );
    assert_eq!(lines.len(), expected.len() + 1);
    run.leaks_nothing(&[support::CLIENT_SECRET, "for-notes"]);
}

#[cfg(feature = "jwt")]
#[cfg(all(feature = "command", unix))]
#[tokio::test]
async fn command_prints_the_credential_of_all_requests() {
    let run = example("command").run().await;
    run.succeeded();
    assert_eq!(run.line("request 3"), "request 3: 200 OK");
    run.leaks_nothing(&["for-loopback-only"]);
}

#[cfg(feature = "github")]
#[tokio::test]
async fn github_app_lists_the_repositories_of_an_installation() {
    let run = example("github_app").run().await;
    run.succeeded();
    assert_eq!(run.line("set"), "set the variable CLIENT_ID");

    let github = GitHub::new(keys::RSA_PUBLIC);
    let running = github.server.serve().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("app.pem");
    std::fs::write(&key, keys::RSA_PKCS1).unwrap();
    let run = example("github_app")
        .env("CLIENT_ID", CLIENT_ID)
        .env("KEY_FILE", key)
        .env("ORGANIZATION", "octo-org")
        .env("GITHUB_API_URL", running.origin())
        .run()
        .await;
    run.succeeded();
    assert_eq!(run.line("0"), "0 repositories");
    run.leaks_nothing(&["ghs_"]);
}

#[cfg(feature = "github")]
#[tokio::test]
async fn ci_identity_says_what_is_missing_outside_of_a_job() {
    let run = example("ci_identity").run().await;
    run.succeeded();
    let missing = run.line("the environment variable");
    assert!(
        missing.contains("ACTIONS_ID_TOKEN_REQUEST_URL"),
        "{missing}"
    );
    run.leaks_nothing(&["for-loopback-only"]);
}

#[tokio::test]
async fn service_account_signs_a_jwt_for_each_token() {
    let run = example("service_account").run().await;
    run.succeeded();
    assert!(run.has("two tokens for two JWTs"));
    assert!(run.has("the JWT was already used"));
    run.leaks_nothing(&["for-loopback-only"]);
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn private_key_jwt_signs_or_shows_what_its_platform_has_signed() {
    let run = example("private_key_jwt").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("two tokens"), 2);
    assert!(
        run.line("signed with an unknown key")
            .contains("invalid_client")
    );
    run.leaks_nothing(&["for-loopback-only"]);
}

#[cfg(feature = "gcp")]
#[tokio::test]
async fn google_cloud_finds_an_identity_or_says_where_it_looked() {
    use tower_auth_test::{ScriptedResponse, ScriptedServer};

    use crate::support::{google_cloud, keys};

    let home = tempfile::tempdir().unwrap();
    let nowhere = example("google_cloud").env("HOME", home.path());
    let run = nowhere.env("NO_GCE_CHECK", "true").run().await;
    run.succeeded();
    let said = run.line("found no credentials of Google");
    assert!(said.contains("`GOOGLE_APPLICATION_CREDENTIALS`"), "{said}");

    let google = google_cloud::server(keys::RSA_PKCS8, keys::RSA_PUBLIC);
    let google = google.serve().await.unwrap();
    let machine = || {
        let example = example("google_cloud").env("HOME", home.path());
        example.env("GCE_METADATA_HOST", google.address().to_string())
    };
    let run = machine().run().await;
    run.succeeded();
    assert!(run.line("found an identity").contains("PROJECT"));

    let storage = ScriptedServer::new(|request| {
        let is_known = request.token() == Some("ya29.machine.devstorage.read_only");
        ScriptedResponse::json(if is_known { 200 } else { 401 }, r#"{"items":[]}"#)
    });
    let api = storage.serve().await.unwrap();
    let run = machine().env("PROJECT", "p").env("API_URL", api.origin());
    let run = run.env("GOOGLE_CLOUD_QUOTA_PROJECT", "payer").run().await;
    run.succeeded();
    assert_eq!(run.line("200"), r#"200 OK: {"items":[]}"#);
    let request = &storage.requests()[0];
    assert_eq!(request.header("x-goog-user-project"), Some("payer"));
    run.leaks_nothing(&["ya29"]);
}

#[cfg(feature = "vault")]
#[tokio::test]
async fn vault_reads_a_secret_or_says_what_is_missing() {
    use crate::support::vault_server::{ROLE_ID, SECRET_ID, VaultServer};

    let run = example("vault").run().await;
    run.succeeded();
    assert!(run.line("the environment variables").contains("VAULT_ADDR"));

    let vault = VaultServer::new();
    let running = vault.service().serve().await.unwrap();
    let example = || {
        let example = example("vault").env("VAULT_ADDR", running.origin());
        example.env("ROLE_ID", ROLE_ID).env("SECRET_ID", SECRET_ID)
    };
    let run = example().env("SECRET", "secret/data/allowed").run().await;
    run.succeeded();
    assert_eq!(run.line("200"), "200 OK: {}");
    run.leaks_nothing(&["hvs.", "s3cret"]);
    let run = example().env("SECRET", "secret/data/forbidden").run().await;
    run.succeeded();
    assert!(run.line("403").contains("permission denied"));
    assert_eq!(
        vault.asked(),
        [
            "login",
            "revoke-self",
            "login",
            "lookup-self",
            "revoke-self"
        ]
    );
}

#[cfg(feature = "kubernetes")]
#[tokio::test]
async fn kubernetes_says_what_is_missing_outside_of_a_pod() {
    let run = example("kubernetes").run().await;
    run.succeeded();
    let missing = run.line("the environment variables");
    assert!(missing.contains("KUBERNETES_SERVICE_HOST"), "{missing}");
    run.leaks_nothing(&["Bearer "]);
}

#[tokio::test]
async fn configuration_is_toml_and_json_and_variables_in_this_order() {
    let run = example("configuration").run().await;
    run.succeeded();
    assert!(run.line("200 OK").starts_with("200 OK: "));
    assert!(
        run.has("The scope was \"read:notes write:notes\"."),
        "{run:?}"
    );
    run.leaks_nothing(&["for-loopback-only"]);

    let run = example("configuration").env("APP_NOTES__SCOPE", "read:notes");
    let run = run.run().await;
    run.succeeded();
    assert!(run.has("The scope was \"read:notes\"."), "{run:?}");
    for (variable, told) in [
        ("APP_NOTES__SCOPES", "did you mean `scope`?"),
        ("APP_NOTES__CLIENT_SECRET", "could not read `client_secret`"),
    ] {
        let run = example("configuration").env(variable, "planted-secret");
        let run = run.run().await;
        run.failed();
        assert!(run.stderr.contains(told), "{run:?}");
        run.leaks_nothing(&["planted-secret"]);
    }
}

#[tokio::test]
async fn token_exchange_fetches_its_own_token_once_and_exchanges_it_for_each_service() {
    let run = example("token_exchange").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert_eq!(
        run.line("own and exchanged"),
        "own and exchanged tokens: (1, 2)"
    );
    assert_eq!(run.line("after a"), "after a revocation: (1, 3)");
    run.leaks_nothing(&[support::CLIENT_SECRET, "token-1"]);
}

#[tokio::test]
async fn aws_sigv4_says_which_fields_it_has_signed() {
    let run = example("aws_sigv4").run().await;
    run.succeeded();
    assert!(run.has("SignedHeaders=host;x-amz-date;x-amz-security-token"));
    run.leaks_nothing(&["\"secret", "\"session", "Signature="]);
}

#[tokio::test]
async fn http_signature_says_what_it_has_signed() {
    let run = example("http_signature").run().await;
    run.succeeded();
    assert!(run.has("@authority") && run.has("created="));
    run.leaks_nothing(&["sig=:"]);
}

#[tokio::test]
async fn digest_answers_the_challenge_of_the_server_that_it_is_told_of() {
    let server = DigestServer::start().await;
    let run = example("digest")
        .env("URL", server.url())
        .env("LOGIN", digest_server::USER)
        .env("PASSWORD", digest_server::PASSWORD)
        .run()
        .await;
    run.succeeded();
    assert_eq!(run.stdout, "200 OK\n");
    assert_eq!(server.take_statuses(), [401, 200]);
    run.leaks_nothing(&[digest_server::PASSWORD]);
}

#[tokio::test]
async fn mtls_has_tokens_that_are_of_no_use_to_a_thief() {
    let run = example("mtls").run().await;
    run.succeeded();
    assert!(run.line("with its certificate").ends_with("200 OK"));
    assert!(run.line("its token").ends_with("401 Unauthorized"));
    assert!(
        run.line("the token endpoint was")
            .contains(r#"("client_id", "reports")"#)
    );
    assert!(run.has("CertificateRequired"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(all(feature = "file", feature = "redirect-listener"))]
#[tokio::test]
async fn login_cli_is_silent_from_the_second_run_on_until_its_session_ends() {
    let run = example("login_cli").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("Log in with your browser"), 2);
    assert_eq!(run.lines_with("ready: the token is fresh"), 3);
    let (_, second) = run.stdout.split_once("-- the second run\n").unwrap();
    assert!(second.starts_with("ready: the token is fresh\n-- the third run, after"));
    assert!(run.has("2 logins, 0 refreshes"));
    run.leaks_nothing(&["code_verifier", "access_token"]);
}

/// The test acts as the browser.
#[cfg(all(feature = "file", feature = "redirect-listener"))]
#[tokio::test]
async fn login_cli_logs_a_person_in_and_the_next_process_finds_what_that_has_saved() {
    use tokio::io::{AsyncBufReadExt, BufReader};

    let server = support::LoginServer::start(ID).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("refresh-token");
    let command = || {
        example("login_cli")
            .env("AUTHORIZE_URL", server.authorize_url())
            .env("TOKEN_URL", server.token_url())
            .env("CLIENT_ID", ID)
            .arg(&file)
    };
    let mut first = command().command;
    first.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut first = first.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    let address = loop {
        let line = lines.next_line().await.unwrap().expect("an address");
        if line.starts_with("http://") {
            break line;
        }
    };
    let page = reqwest::get(address).await.unwrap().text().await.unwrap();
    assert!(page.contains("You can close this window"), "{page}");
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest = line;
    }
    assert_eq!(rest, "ready: the token is fresh");
    assert!(first.wait().await.unwrap().success());

    let second = command().run().await;
    second.succeeded();
    assert_eq!(second.stdout, "ready: the token is fresh\n");
    // The second run uses the access token of the first.
    assert_eq!((server.logins(), server.refreshes()), (1, 0));
    let saved = std::fs::read_to_string(&file).unwrap();
    second.leaks_nothing(&[saved.trim()]);
}

#[cfg(all(feature = "authorization-code", feature = "fleet", feature = "tenants"))]
#[tokio::test]
async fn web_app_sends_each_users_requests_with_that_users_token() {
    let run = example("web_app").run().await;
    run.succeeded();
    let visit = |process: u8, user: &str| {
        format!("  process {process} shows the notes of {user}\n  200: the notes of {user}\n")
    };
    let login = |begins: u8, finishes: u8| {
        format!("  process {begins} begins a login\n  process {finishes} finishes it\n")
    };
    for user in ["alice", "bob"] {
        let both = [
            format!("{user} visits /\n{}{}", login(2, 1), visit(2, user)),
            format!("{user} visits /\n{}", visit(1, user)),
        ];
        // An odd number of requests comes before Bob's, so the two processes swap their turns.
        let swapped = both.concat().replace("process 1", "process 0");
        let swapped = swapped
            .replace("process 2", "process 1")
            .replace("process 0", "process 2");
        let expected = if user == "alice" {
            both.concat()
        } else {
            swapped
        };
        assert!(run.has(&expected), "{run:?}");
    }
    assert!(run.has("2 logins, 0 refreshes\n"), "{run:?}");
    assert_eq!(
        run.lines_with("400: this login has ended, or isn't yours"),
        2
    );
    let (_, rest) = run
        .stdout
        .split_once("-- the authorization server has ended")
        .unwrap();
    assert!(rest.contains("200: the notes of alice"), "{run:?}");
    assert!(
        rest.ends_with("200: disconnected\n3 logins, 1 logout\n"),
        "{run:?}"
    );
    assert_eq!(run.stderr, "");
    run.leaks_nothing(&["code=", "state=", "__Host-"]);
}

#[tokio::test]
async fn device_login_shows_a_code_and_waits_until_it_was_typed_in() {
    let run = example("device_login").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("and enter the code "), 1);
    let (_, after) = run
        .stdout
        .split_once("(the person enters the code)")
        .unwrap();
    assert_eq!(after.trim(), "logged in; the token is fresh");
    run.leaks_nothing(&["device_code", "access_token"]);
}

#[tokio::test]
async fn dpop_is_told_of_each_nonce_once_and_the_token_alone_is_of_no_use() {
    let run = example("dpop").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 3);
    assert_eq!(run.lines_with("token endpoint: use_dpop_nonce"), 1);
    assert_eq!(run.lines_with("token endpoint: the proof is valid"), 1);
    // The API and the token endpoint have the same origin here, so they share the nonce.
    assert_eq!(run.lines_with("api: use_dpop_nonce"), 1);
    assert!(run.has("a thief: 401"));
    run.leaks_nothing(&[support::CLIENT_SECRET, "bound-to-a-key"]);
}

#[tokio::test]
async fn step_up_asks_for_more_once_and_never_for_what_it_may_not() {
    let run = example("step_up").run().await;
    run.succeeded();
    let expected = [
        "  token endpoint: a token for `read`",
        "read: 200 OK",
        "  API: 403, requires `write`",
        "  token endpoint: a token for `read write`",
        "write: 200 OK",
        "read: 200 OK",
        "write: 200 OK",
        "  API: 403, requires `admin`",
        "admin: 403 Forbidden",
        "  the token lacks `admin`, which isn't on the allow list",
    ];
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), expected);
    run.leaks_nothing(&[support::CLIENT_SECRET, "may:"]);
}

#[tokio::test]
async fn azure_asks_the_endpoint_of_its_app_once() {
    let run = example("azure").run().await;
    run.succeeded();
    let expected = [
        "the endpoint issues a token for https://vault.azure.net",
        "the token is fresh",
    ];
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), expected);
    run.leaks_nothing(&["a-token", "for-loopback-only"]);

    let half = example("azure").env("RESOURCE", "https://vault.azure.net");
    let half = half.env("IDENTITY_HEADER", "planted").run().await;
    half.failed();
    assert!(
        half.stderr.contains("`IDENTITY_ENDPOINT` is missing"),
        "{half:?}"
    );
    half.leaks_nothing(&["planted"]);
}
