//! Secrets that are read again for each fetch.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use secrecy::{ExposeSecret, SecretString};
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Error, Reason, SecretSource, TokenSource};

use crate::support::token_server::{ID, TokenServer, URL, all_text_of};

async fn read(secret: &SecretSource) -> Result<String, Error> {
    let secret: SecretString = secret.read().await?;
    Ok(secret.expose_secret().to_owned())
}

/// Returns the secret that the server gets in the next fetch.
async fn sent(server: &TokenServer, source: &ClientCredentials) -> String {
    source.fetch(Reason::First).await.unwrap();
    let form = server.form();
    let secret = form.into_iter().find(|(name, _)| name == "client_secret");
    secret.unwrap().1
}

#[tokio::test]
async fn a_file_is_read_again_for_each_fetch_and_without_the_line_break_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rotated");
    let server = TokenServer::issuing();
    let secret = SecretSource::file(&file);
    let source = ClientCredentials::new(URL, ID, secret)
        .unwrap()
        .transport(server.transport());
    fs::write(&file, "first\n").unwrap();
    assert_eq!(sent(&server, &source).await, "first");
    fs::write(&file, "  second, with spaces \r\n\n").unwrap();
    assert_eq!(sent(&server, &source).await, "  second, with spaces");
}

#[tokio::test]
async fn a_closure_is_asked_again_for_each_fetch() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let secret = SecretSource::from_fn(|| async {
        let asked = ASKED.fetch_add(1, Ordering::SeqCst);
        Ok(SecretString::from(format!("asked-{asked}")))
    });
    let server = TokenServer::issuing();
    let source = ClientCredentials::new(URL, ID, secret)
        .unwrap()
        .transport(server.transport());
    assert_eq!(sent(&server, &source).await, "asked-0");
    assert_eq!(sent(&server, &source).await, "asked-1");
}

#[tokio::test]
async fn a_variable_of_the_environment_is_a_secret_too() {
    let here = SecretSource::env("PATH");
    let set = std::env::var("PATH").unwrap();
    assert_eq!(read(&here).await.unwrap(), set);
}

#[tokio::test]
async fn what_is_missing_or_empty_is_named_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let [missing, empty, long, binary] =
        ["missing", "empty", "long", "binary"].map(|name| folder.path().join(name));
    fs::write(&empty, "\n").unwrap();
    fs::write(&long, vec![b'x'; 64 * 1024 + 1]).unwrap();
    fs::write(&binary, b"planted-\xff-secret").unwrap();
    for (secret, named) in [
        (
            SecretSource::env("TOWER_AUTH_IS_NOT_SET"),
            "TOWER_AUTH_IS_NOT_SET",
        ),
        (SecretSource::file(&missing), "/missing can't be read"),
        (SecretSource::file(&empty), "/empty is empty"),
        (SecretSource::file(&long), "/long is longer than 64 KiB"),
        (SecretSource::file(&binary), "/binary can't be read"),
        (
            SecretSource::from_fn(|| async { Ok("".into()) }),
            "is empty",
        ),
    ] {
        let server = TokenServer::issuing();
        let source = ClientCredentials::new(URL, ID, secret)
            .unwrap()
            .transport(server.transport());
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_config() && error.is_permanent(), "{error:?}");
        assert!(error.to_string().contains(named), "{error}");
        assert!(!all_text_of(&error).contains("planted"), "{error:?}");
        assert_eq!(server.times_asked(), 0);
    }
}

#[tokio::test]
async fn a_file_of_just_the_limit_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("limit");
    fs::write(&file, vec![b'x'; 64 * 1024]).unwrap();
    let secret = read(&SecretSource::file(&file)).await.unwrap();
    assert_eq!(secret.len(), 64 * 1024);
}

#[tokio::test]
async fn a_closure_that_fails_is_the_source_of_the_error() {
    let secret = SecretSource::from_fn(|| async { Err("the vault is sealed".into()) });
    let error = read(&secret).await.unwrap_err();
    assert!(error.is_source());
    assert!(all_text_of(&error).contains("sealed"));
}

#[test]
fn a_secret_source_shows_its_place_and_nothing_of_what_is_there() {
    for (secret, shown) in [
        (SecretSource::from("planted"), "SecretSource([redacted])"),
        (
            SecretSource::from(String::from("planted")),
            "SecretSource([redacted])",
        ),
        (
            SecretSource::env("SOME_NAME"),
            "SecretSource(the variable SOME_NAME)",
        ),
        (
            SecretSource::file("/run/it"),
            "SecretSource(the file /run/it)",
        ),
    ] {
        assert_eq!(format!("{secret:?}"), shown);
    }
}

/// Without a runtime, the file is read on the calling thread.
#[test]
fn a_file_is_read_outside_of_a_runtime_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("outside");
    fs::write(&file, "there").unwrap();
    let secret = SecretSource::file(&file);
    let secret = tokio_test::task::spawn(secret.read()).poll();
    assert!(matches!(secret, std::task::Poll::Ready(Ok(_))));
}
