//! The examples as processes of their own, and what their servers saw of them.
//!
//! `cargo test` builds the examples first; with `--test it` it doesn't.
#![cfg(feature = "reqwest")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Clock, Reason, TokenSource};

#[path = "../../../examples/support/mod.rs"]
mod support;

use support::{Api, AuthorizationServer, ClientAuth, TokenRequest, Tokens};

const ID: &str = "planted-id";
/// Needs encoding in a form and in a Basic header alike.
const SECRET: &str = "planted-secret/+&: %ü";
/// For a machine with a lot else to do.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

#[tokio::test]
async fn quickstart_fetches_one_token_a_phase_and_refuses_no_caller() {
    let run = example("quickstart").run().await;
    run.succeeded();
    for phase in ["no token yet", "token expired", "token revoked"] {
        let line = run.line(phase);
        let figures: Vec<&str> = line
            .split_whitespace()
            .skip(phase.split(' ').count())
            .collect();
        let [requests, fetches, replays, refusals, ..] = figures[..] else {
            panic!("{line}");
        };
        assert_eq!((requests, fetches, refusals), ("1000", "1", "0"), "{line}");
        assert_eq!(replays == "0", phase != "token revoked", "{line}");
    }
    let total: Vec<&str> = run.line("total").split_whitespace().collect();
    assert_eq!(
        (total[1], total[2], total[4]),
        ("3000", "3", "0"),
        "{total:?}"
    );
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[tokio::test]
async fn quickstart_does_the_same_against_services_that_it_is_told_of() {
    let servers = Servers::start("https://api.example.com", "read").await;
    let run = example("quickstart")
        .env("TOKEN_URL", servers.authorization.token_url())
        .env("API_URL", format!("{}/v1/notes", servers.api.url()))
        .env("CLIENT_ID", ID)
        .env("CLIENT_SECRET", SECRET)
        .env("AUDIENCE", "https://api.example.com")
        .env("SCOPE", "read")
        .run()
        .await;
    run.succeeded();
    assert_eq!(servers.api.requests(), 60);
    assert_eq!(servers.api.refusals(), 0);
    assert_eq!(servers.authorization.fetches(), 3);
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn hyper_client_is_refused_once_and_does_not_notice() {
    let run = example("hyper_client").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert!(run.has("\"received_bytes\":16"));
    assert!(run.has("saw 3 requests and refused 1 of them"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[tokio::test]
async fn reqwest_client_is_refused_once_and_does_not_notice() {
    let run = example("reqwest_client").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert!(run.has("POST /notes") && run.has("\"received_bytes\":16"));
    assert!(run.has("saw 3 requests and refused 1 of them"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_proxy_sends_a_streamed_body_again() {
    let run = example("axum_proxy").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert!(run.has("\"received_bytes\":16"));
    assert!(run.has("saw 3 requests and refused 1 of them"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(feature = "tonic")]
#[tokio::test]
async fn tonic_client_is_refused_twice_and_loses_no_message() {
    let run = example("tonic_client").run().await;
    run.succeeded();
    assert!(run.has("3 notes of 29 bytes"));
    assert!(run.has("refused 2 calls"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(feature = "file")]
#[tokio::test]
async fn fleet_is_eight_processes_and_one_fetch_a_phase() {
    let run = example("fleet").run().await;
    run.succeeded();
    for phase in ["no token yet", "token expired", "token revoked"] {
        let figures = run.line(phase).strip_prefix(phase).unwrap();
        let figures: Vec<&str> = figures.split_whitespace().collect();
        assert_eq!(figures[..3], ["8", "8000", "1"], "{figures:?}");
    }
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(feature = "fleet")]
#[tokio::test]
async fn fleet_sim_has_a_thousand_processes_fetch_as_often_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("fleet_sim.svg");
    let run = example("fleet_sim")
        .arg("--processes")
        .arg("10,1000")
        .arg("--svg")
        .arg(&svg)
        .run()
        .await;
    run.succeeded();
    let rows: Vec<Vec<&str>> = run
        .stdout
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect())
        .collect();
    let fetches: Vec<_> = rows.iter().map(|row| (row[0], row[1], row[2])).collect();
    let [alone, shared, many_alone, many_shared] = fetches[..] else {
        panic!("{run:?}");
    };
    assert_eq!(
        (alone, many_alone),
        (("10", "none", "80"), ("1000", "none", "8000"))
    );
    assert_eq!(
        (shared, many_shared),
        (("10", "shared", "8"), ("1000", "shared", "8"))
    );
    assert!(
        std::fs::read_to_string(svg)
            .unwrap()
            .contains("Fetches an hour")
    );
    run.leaks_nothing(&["MDEyMzQ1"]);
}

#[tokio::test]
async fn api_key_rotates_its_key_and_no_request_fails() {
    let run = example("api_key").run().await;
    run.succeeded();
    for when in [
        "with the old key",
        "with a new one",
        "with both",
        "with the old one taken",
    ] {
        assert!(run.line(when).ends_with("200 OK"), "{when}");
    }
    run.leaks_nothing(&["the-old-key", "the-new-key"]);
}

#[tokio::test]
async fn json_login_logs_in_once_and_refreshes_twice() {
    let run = example("json_login").run().await;
    run.succeeded();
    assert_eq!(run.line("1 login"), "1 login, 2 refreshes");
    run.leaks_nothing(&["for-loopback-only", "access-"]);
}

#[cfg(feature = "tenants")]
#[tokio::test]
async fn tenants_are_in_nobodys_way_and_take_little_memory() {
    let run = example("tenants").run().await;
    run.succeeded();
    assert!(run.line("tenant-1").contains("100 requests served"));
    assert!(run.line("refuses:").contains("`invalid_client`"));
    assert!(run.line("hangs:").ends_with("still waits, alone"));
    let line = run.line("100000 idle tenants");
    let bytes = line.split(' ').rev().nth(2).unwrap();
    assert!(bytes.parse::<usize>().unwrap() < 1_600, "{line}");
    run.leaks_nothing(&[support::CLIENT_SECRET, "issued to"]);
}

#[cfg(feature = "file")]
#[tokio::test]
async fn refresh_token_goes_on_where_the_last_run_ended_until_a_login_is_needed() {
    let run = example("refresh_token").run().await;
    run.succeeded();
    for (number, issued) in [(1, 2), (2, 4), (3, 6)] {
        let line = format!("run {number}: {issued} tokens issued so far");
        assert_eq!(run.line(&format!("run {number}")), line);
    }
    assert!(
        run.line("the authorization server")
            .ends_with("log in again")
    );
    run.leaks_nothing(&["refresh-0", "refresh-6", "access-"]);
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
        "GET /acme/.well-known/openid-configuration: 200",
        "POST /acme/token: 200",
        "POST /acme/token: 200",
        "POST /acme/revoke: 200",
    ];
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), expected);
    run.leaks_nothing(&[support::CLIENT_SECRET, "a-token"]);
}

#[tokio::test]
async fn protected_resource_goes_from_the_refusal_to_the_answer_once() {
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
#[tokio::test]
async fn service_account_signs_a_jwt_for_each_token() {
    let run = example("service_account").run().await;
    run.succeeded();
    assert!(run.has("two tokens for two JWTs"));
    assert!(run.has("the JWT was used before"));
    run.leaks_nothing(&["for-loopback-only"]);
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn private_key_jwt_signs_or_shows_what_its_platform_has_signed() {
    let run = example("private_key_jwt").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("two tokens"), 2);
    assert!(
        run.line("signed with a strange key")
            .contains("invalid_client")
    );
    run.leaks_nothing(&["for-loopback-only"]);
}

#[tokio::test]
async fn token_exchange_fetches_its_own_token_once_and_exchanges_it_for_each_service() {
    let run = example("token_exchange").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert_eq!(
        run.line("own tokens"),
        "own tokens and exchanged ones: (1, 2)"
    );
    assert_eq!(run.line("after a"), "after a revocation: (1, 3)");
    run.leaks_nothing(&[support::CLIENT_SECRET, "token-1"]);
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
    assert!(second.starts_with("ready: the token is fresh\n-- a run after"));
    assert!(run.has("2 logins, 1 refresh"));
    run.leaks_nothing(&["code_verifier", "access_token"]);
}

/// The browser is this test.
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
    assert_eq!((server.logins(), server.refreshes()), (1, 1));
    let saved = std::fs::read_to_string(&file).unwrap();
    second.leaks_nothing(&[saved.trim()]);
}

#[tokio::test]
async fn device_login_shows_a_code_and_waits_until_it_was_typed_in() {
    let run = example("device_login").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("and type in the code "), 1);
    let (_, after) = run.stdout.split_once("(the person types it in)").unwrap();
    assert_eq!(after.trim(), "logged in; the token is fresh");
    run.leaks_nothing(&["device_code", "access_token"]);
}

#[tokio::test]
async fn print_token_prints_the_token_and_a_newline_and_nothing_else() {
    let servers = Servers::start("https://api.example.com", "read").await;
    let run = example("print_token")
        .env("TOKEN_URL", servers.authorization.token_url())
        .env("CLIENT_ID", ID)
        .env("CLIENT_SECRET", SECRET)
        .env("AUDIENCE", "https://api.example.com")
        .env("SCOPE", "read")
        .run()
        .await;
    run.succeeded();
    let issued = servers.authorization.tokens().issued();
    assert_eq!(run.stdout, format!("{}\n", issued[0]));
    assert_eq!(run.stderr, "");
    let asked = servers.asked_once();
    assert_eq!(asked.params["audience"], "https://api.example.com");
    assert_eq!(asked.params["scope"], "read");
}

#[tokio::test]
async fn print_token_says_what_is_missing() {
    let bare = example("print_token").run().await;
    bare.failed();
    for name in ["TOKEN_URL", "CLIENT_ID", "CLIENT_SECRET"] {
        assert!(bare.stderr.contains(name), "{bare:?}");
        let run = example("print_token")
            .env("TOKEN_URL", "http://127.0.0.1:1/")
            .env("CLIENT_ID", ID)
            .env("CLIENT_SECRET", SECRET)
            .env(name, "")
            .run()
            .await;
        run.failed();
        assert_eq!(
            run.stderr,
            format!("Error: set the environment variable {name}\n")
        );
    }
}

#[tokio::test]
async fn print_token_tells_what_the_authorization_server_said() {
    let servers = Servers::start("https://api.example.com", "read").await;
    servers.authorization.set_scopes("read write");
    for (secret, scope, code) in [
        ("planted-wrong-secret", "read", "invalid_client"),
        (SECRET, "read everything", "invalid_scope"),
    ] {
        let run = example("print_token")
            .env("TOKEN_URL", servers.authorization.token_url())
            .env("CLIENT_ID", ID)
            .env("CLIENT_SECRET", secret)
            .env("SCOPE", scope)
            .run()
            .await;
        run.failed();
        assert!(run.stderr.contains(code), "{run:?}");
        run.leaks_nothing(&[secret]);
    }
}

#[tokio::test]
async fn loopback_gives_a_command_its_servers_and_passes_its_exit_code_on() {
    let run = example("loopback").arg(binary("print_token")).run().await;
    run.succeeded();
    assert!(
        run.stdout.starts_with("eyJ") && run.stdout.ends_with('\n'),
        "{run:?}"
    );

    for service in ["metafold", "netfoundry", "meti", "quickstart"] {
        let run = example("loopback").arg(binary(service)).run().await;
        run.succeeded();
        run.leaks_nothing(&[support::CLIENT_SECRET]);
    }

    let run = example("loopback")
        .arg("sh")
        .arg("-c")
        .arg("exit 7")
        .run()
        .await;
    assert_eq!(run.code, Some(7));
    example("loopback").run().await.failed();
}

#[tokio::test]
async fn metafold_asks_for_its_audience_and_prints_the_usage() {
    let servers = Servers::start("https://api.metafold3d.com", "").await;
    let run = servers.lead(example("metafold"), "METAFOLD").run().await;
    run.succeeded();
    assert!(run.has("GET /user/usage"));
    let asked = servers.asked_once();
    assert_eq!(asked.client_auth, ClientAuth::Form);
    assert_eq!(
        asked.params,
        params([
            ("grant_type", "client_credentials"),
            ("client_id", ID),
            ("audience", "https://api.metafold3d.com"),
        ])
    );
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn netfoundry_asks_for_its_audience_slash_and_all_and_prints_the_networks() {
    let servers = Servers::start("https://gateway.production.netfoundry.io/", "").await;
    let run = servers
        .lead(example("netfoundry"), "NETFOUNDRY")
        .run()
        .await;
    run.succeeded();
    assert!(run.has("GET /rest/v1/networks"));
    let asked = servers.asked_once();
    assert_eq!(asked.client_auth, ClientAuth::Form);
    assert_eq!(
        asked.params,
        params([
            ("grant_type", "client_credentials"),
            ("client_id", ID),
            ("audience", "https://gateway.production.netfoundry.io/"),
        ])
    );
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn meti_asks_in_json_for_its_audience_and_scopes_and_prints_the_sources() {
    let servers = Servers::start("https://api.meti.millpont.com", "read:sources").await;
    let run = servers.lead(example("meti"), "AUTH0").run().await;
    run.succeeded();
    assert!(run.has("GET /sources"));
    let asked = servers.asked_once();
    assert_eq!(asked.client_auth, ClientAuth::Json);
    assert_eq!(
        asked.params,
        params([
            ("grant_type", "client_credentials"),
            ("client_id", ID),
            ("audience", "https://api.meti.millpont.com"),
            ("scope", "read:sources write:sources delete:sources"),
        ])
    );
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn meti_explains_that_the_token_is_not_accepted() {
    let servers = Servers::start("https://another.example.com", "read:sources").await;
    let run = servers.lead(example("meti"), "AUTH0").run().await;
    run.failed();
    let text = "401 Unauthorized: the API does not accept the token, and ";
    assert!(run.stderr.contains(text), "{run:?}");
    assert!(
        run.stderr
            .contains("The access token is for another audience"),
        "{run:?}"
    );
    assert!(servers.authorization.fetches() <= 2);
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn meti_explains_that_the_scope_does_not_suffice() {
    let servers = Servers::start("https://api.meti.millpont.com", "admin:sources").await;
    let run = servers.lead(example("meti"), "AUTH0").run().await;
    run.failed();
    assert!(
        run.stderr
            .contains("403 Forbidden: the token is good, but not for this"),
        "{run:?}"
    );
    assert!(
        run.stderr.contains("wants the scope admin:sources"),
        "{run:?}"
    );
    assert_eq!(servers.authorization.fetches(), 1);
    run.leaks_nothing(&servers.secrets());
}

#[tokio::test]
async fn the_examples_of_real_services_say_which_variable_is_missing() {
    for (name, prefix) in [
        ("metafold", "METAFOLD"),
        ("netfoundry", "NETFOUNDRY"),
        ("meti", "AUTH0"),
    ] {
        let id = format!("{prefix}_CLIENT_ID");
        let secret = format!("{prefix}_CLIENT_SECRET");
        for (set, missing) in [(&secret, &id), (&id, &secret)] {
            let run = example(name)
                .env("TOKEN_URL", "http://127.0.0.1:1/")
                .env(set, SECRET)
                .run()
                .await;
            run.failed();
            assert_eq!(
                run.stderr,
                format!("Error: set the environment variable {missing}\n")
            );
        }
    }
}

#[tokio::test]
async fn meti_needs_a_domain_unless_it_is_told_of_a_token_endpoint() {
    let run = example("meti").env("AUTH0_CLIENT_ID", ID).run().await;
    run.failed();
    assert_eq!(
        run.stderr,
        "Error: set the environment variable AUTH0_DOMAIN\n"
    );
}

#[tokio::test]
async fn the_authorization_server_takes_a_secret_in_each_of_three_ways() {
    let servers = Servers::start("https://api.example.com", "").await;
    let source = || ClientCredentials::new(servers.authorization.token_url(), ID, SECRET).unwrap();
    for source in [source(), source().json(), source().basic_auth()] {
        source
            .audience("https://api.example.com")
            .fetch(Reason::First)
            .await
            .unwrap();
    }
    let used = servers
        .authorization
        .requests()
        .into_iter()
        .map(|it| it.client_auth);
    assert_eq!(
        used.collect::<Vec<_>>(),
        [ClientAuth::Form, ClientAuth::Json, ClientAuth::Basic]
    );
}

#[tokio::test]
async fn the_authorization_server_refuses_as_rfc_6749_has_it() {
    let servers = Servers::start("https://api.example.com", "").await;
    servers.authorization.set_scopes("read");
    let client = "grant_type=client_credentials&client_id=planted-id";
    let secret = "client_secret=planted-secret%2F%2B%26%3A+%25%C3%BC";
    for (form, status, code) in [
        (String::new(), 400, "invalid_request"),
        ("grant_type=password".into(), 400, "unsupported_grant_type"),
        (client.into(), 401, "invalid_client"),
        (format!("{client}&{secret}&scope=all"), 400, "invalid_scope"),
    ] {
        let response = reqwest::Client::new()
            .post(servers.authorization.token_url())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{code}");
        let headers = response.headers();
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers.contains_key("www-authenticate"), status == 401);
        let expected = format!(r#"{{"error":"{code}"}}"#);
        assert_eq!(response.text().await.unwrap(), expected);
    }
    assert_eq!(servers.authorization.fetches(), 0);
}

/// To renew it: `UPDATE=1 cargo test --all-features --test it examples::the_generated`.
#[test]
fn the_generated_client_and_server_are_those_of_the_proto() {
    let support = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/support");
    let files = protox::compile(["notes.proto"], [&support]).unwrap();
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tonic_prost_build::configure()
        .out_dir(out)
        .compile_fds(files)
        .unwrap();
    let generated = std::fs::read_to_string(out.join("notes.rs")).unwrap();

    let committed = support.join("notes.rs");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&committed, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(committed).unwrap_or_default();
    // Not `assert_eq!`, which would print both.
    assert!(
        committed == generated,
        "examples/support/notes.rs isn't what its proto makes"
    );
}

#[tokio::test]
async fn dpop_is_told_of_each_nonce_once_and_the_token_alone_is_of_no_use() {
    let run = example("dpop").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 3);
    assert_eq!(run.lines_with("token endpoint: use_dpop_nonce"), 1);
    assert_eq!(run.lines_with("token endpoint: the proof is good"), 1);
    // The API shares the nonce with the token endpoint here, being of one origin.
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
        "  API: 403, it wants `write`",
        "  token endpoint: a token for `read write`",
        "write: 200 OK",
        "read: 200 OK",
        "write: 200 OK",
        "  API: 403, it wants `admin`",
        "admin: 403 Forbidden",
        "  the token lacks `admin`, which isn't on the list of what may be asked for",
    ];
    assert_eq!(run.stdout.lines().collect::<Vec<_>>(), expected);
    run.leaks_nothing(&[support::CLIENT_SECRET, "may:"]);
}

#[tokio::test]
async fn chaos_tells_of_a_short_run_and_of_no_token() {
    let run = example("chaos")
        .arg("--seconds")
        .arg("10")
        .arg("--callers")
        .arg("20")
        .run()
        .await;
    // Whether it came out well is a matter of the machine, which has other things to do here.
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    assert!(run.stdout.lines().count() > 5, "{run:?}");
    run.leaks_nothing(&["-token-"]);
}

/// By the text of this file: a test that runs an example is to look at all that it printed.
#[test]
fn every_example_is_run_by_a_test_that_looks_for_leaks() {
    let manifest = include_str!("../../../Cargo.toml");
    let examples: Vec<&str> = manifest
        .split("[[example]]\n")
        .skip(1)
        .map(|entry| entry.split('"').nth(1).unwrap())
        .collect();
    assert!(examples.len() > 20, "{examples:?}");
    let tests: Vec<&str> = include_str!("examples.rs")
        .split("\n#[tokio::test]")
        .collect();
    for name in examples {
        let quoted = format!("(\"{name}\")");
        let is_looked_at = |test: &&str| {
            let body = test.split("\n}\n").next().unwrap();
            body.contains(&quoted) && body.contains(".leaks_nothing(")
        };
        assert!(tests.iter().any(is_looked_at), "{name}");
    }
}

/// An authorization server that knows the planted client, and an API for one audience.
struct Servers {
    authorization: AuthorizationServer,
    api: Api,
}

impl Servers {
    async fn start(audience: &str, scope: &str) -> Self {
        let tokens = Tokens::new(Clock::default());
        Self {
            authorization: AuthorizationServer::start(ID, SECRET, tokens.clone())
                .await
                .unwrap(),
            api: Api::start([audience], scope, tokens).await.unwrap(),
        }
    }

    /// Leads the example of a real service here.
    fn lead(&self, example: Example, prefix: &str) -> Example {
        example
            .env("TOKEN_URL", self.authorization.token_url())
            .env("API_URL", self.api.url())
            .env(format!("{prefix}_CLIENT_ID"), ID)
            .env(format!("{prefix}_CLIENT_SECRET"), SECRET)
    }

    fn asked_once(&self) -> TokenRequest {
        let [request] = &self.authorization.requests()[..] else {
            panic!("{:?}", self.authorization.requests());
        };
        request.clone()
    }

    /// What no output may hold.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = self.authorization.tokens().issued();
        assert!(!secrets.is_empty());
        // What is left of it in any encoding.
        secrets.push("planted-secret".to_owned());
        secrets
    }
}

fn params<const N: usize>(params: [(&str, &str); N]) -> BTreeMap<String, String> {
    params
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// How an example ended.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn succeeded(&self) {
        assert_eq!(self.code, Some(0), "{self:?}");
    }

    fn failed(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{self:?}");
    }

    fn has(&self, text: &str) -> bool {
        self.stdout.contains(text)
    }

    fn line(&self, start: &str) -> &str {
        let line = self.stdout.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("no line starts with {start:?}: {self:?}"))
    }

    fn lines_with(&self, text: &str) -> usize {
        self.stdout
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Neither one of the secrets nor anything that looks like a token.
    fn leaks_nothing(&self, secrets: &[impl AsRef<str>]) {
        for output in [&self.stdout, &self.stderr] {
            for secret in secrets {
                assert!(
                    !output.contains(secret.as_ref()),
                    "a secret is in {output:?}"
                );
            }
            assert!(!output.contains("eyJ"), "a token is in {output:?}");
        }
    }
}

/// An example, as it is to be run: without any of the variables that it may read.
fn example(name: &str) -> Example {
    let mut command = Command::new(binary(name));
    for prefix in ["", "AUTH0_", "METAFOLD_", "NETFOUNDRY_"] {
        command.env_remove(format!("{prefix}CLIENT_ID"));
        command.env_remove(format!("{prefix}CLIENT_SECRET"));
    }
    for name in [
        "TOKEN_URL",
        "API_URL",
        "AUDIENCE",
        "SCOPE",
        "AUTHORIZE_URL",
        "DEVICE_URL",
        "ISSUER",
        "PORT",
        "REDIS_URL",
        "AUTH0_DOMAIN",
        "RUST_BACKTRACE",
    ] {
        command.env_remove(name);
    }
    Example { command }
}

struct Example {
    command: Command,
}

impl Example {
    fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs it to its end, or kills it when it takes too long.
    async fn run(mut self) -> Run {
        self.command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(LONG_ENOUGH, self.command.output()).await;
        let Output {
            status,
            stdout,
            stderr,
        } = output.expect("it took too long").unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }
}

/// Examples are built next to the folder that this test's own executable is in.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let binary = profile.join("examples").join(file);
    assert!(
        binary.exists(),
        "no example {name}: run `cargo build --examples --all-features`"
    );
    binary
}
