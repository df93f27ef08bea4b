//! The servers and the generated code that the examples use.

use std::path::Path;

use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, TokenSource};

use super::support::ClientAuth;
use super::{ID, SECRET, Servers};
use crate::documented::readme::examples;
use crate::support::tree::{place, rust_files};

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

/// To update the code, run `UPDATE=1 cargo test -p tower-auth-tests --all-features --test it
/// the_generated_client`.
#[test]
fn the_generated_client_and_server_are_those_of_the_proto() {
    let support = place("examples/extra/support");
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
    // `assert_eq!` would print both files.
    assert!(
        committed == generated,
        "examples/extra/support/notes.rs isn't what its proto makes"
    );
}

/// This test reads the source of these modules. A test that runs an example must check all its
/// output.
#[test]
fn every_example_is_run_by_a_test_that_looks_for_leaks() {
    let examples = examples();
    assert!(examples.len() > 20, "{examples:?}");
    let rooms = rust_files("tests/it/documented/examples");
    let rooms: String = rooms.into_values().collect();
    let tests: Vec<&str> = rooms.split("\n#[tokio::test]").collect();
    for name in examples {
        let quoted = format!("(\"{name}\")");
        let is_looked_at = |test: &&str| {
            let body = test.split("\n}\n").next().unwrap();
            body.contains(&quoted) && body.contains(".leaks_nothing(")
        };
        assert!(tests.iter().any(is_looked_at), "{name}");
    }
}
