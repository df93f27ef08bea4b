//! Secrets and origins in a configuration.

use std::fs;

use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::Client;
use tower_auth::{Origin, Reason, SecretSource, TokenSource};

use crate::support::token_server::{ID, URL, all_text_of};

#[derive(Debug, Deserialize)]
struct Settings {
    key: SecretSource,
}

#[tokio::test]
async fn a_file_or_a_variable_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "of-the-file\n").unwrap();
    let path: SecretSource = serde_json::from_value(json!({"file": file})).unwrap();
    assert_eq!(path.read().await.unwrap().expose_secret(), "of-the-file");
    let variable: Settings = toml::from_str("key.env = 'PATH'").unwrap();
    let secret = variable.key.read().await.unwrap();
    assert_eq!(secret.expose_secret(), std::env::var("PATH").unwrap());
}

#[tokio::test]
async fn the_secret_itself_is_an_error_that_never_shows_it() {
    for text in [
        "key = 'planted'",
        "key = ['planted']",
        "key = { secret = 'planted' }",
        "key = { file = 7, secret = 'planted' }",
        "key = 7.5",
        "key = {}",
        "key = { file = '', env = ' ' }",
    ] {
        // A parser's own error could show the line.
        let settings: Settings = toml::from_str(text).unwrap();
        let read = settings.key.read().await.map(drop).unwrap_err();
        let fetched = settings.key.fetch(Reason::First).await.unwrap_err();
        let client = Client::new(URL, ID, settings.key.clone()).map(drop);
        let login = JsonLogin::new(URL, ID, settings.key.clone()).map(drop);
        for error in [read, fetched, client.unwrap_err(), login.unwrap_err()] {
            assert!(error.is_config(), "{error:?}");
            let shown = format!("{} {settings:?} {}", all_text_of(&error), settings.key);
            assert!(!shown.contains("planted"), "{shown}");
            assert!(
                shown.contains("write one of them instead of the secret itself"),
                "{shown}"
            );
        }
    }
}

/// An environment variable may set `env` beside the `file` of a configuration file. Another
/// variable may then unset `file` with an empty text.
#[tokio::test]
async fn one_place_is_enough_and_an_empty_text_is_none() {
    for text in [
        "key = { env = 'PATH', file = '' }",
        "key = { file = ' ', env = 'PATH' }",
    ] {
        let settings: Settings = toml::from_str(text).unwrap();
        settings.key.read().await.unwrap();
    }
    let both: Settings = toml::from_str("key = { file = 'a', env = 'PATH' }").unwrap();
    let error = both.key.read().await.unwrap_err().to_string();
    assert!(
        error.ends_with("`file` and `env` are both set; remove one of them"),
        "{error}"
    );
}

#[test]
fn an_origin_is_a_text_and_checked_at_once() {
    let origins: Vec<Origin> = serde_json::from_value(json!(["https://API.example.com"])).unwrap();
    assert_eq!(origins[0].to_string(), "https://api.example.com:443");
    for wrong in [
        json!("api.example.com"),
        json!("https://planted/path"),
        json!(7),
    ] {
        let error = serde_json::from_value::<Origin>(wrong).unwrap_err();
        assert!(!error.to_string().contains("planted"), "{error}");
    }
    let owned: Origin =
        serde_json::from_reader(br#""https:\u002f\u002fa.example""#.as_slice()).unwrap();
    assert_eq!(owned.to_string(), "https://a.example:443");
}
