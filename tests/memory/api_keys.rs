//! API keys, and the places that secrets are read from.

use secrecy::{ExposeSecret, SecretString};
use tower_auth::{ApiKey, SecretSource, Token};
use tower_auth_freed::unwatched;

use crate::keys::EC_PKCS8;
use crate::planted::{EC_KEY_PART, look_for_key, secret, text};
use crate::watched::{layer, use_layer, watched};

#[test]
fn an_api_key_is_left_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, text("file") + "\n").unwrap();
    let long = folder.path().join("long");
    std::fs::write(&long, text("long").repeat(3_000)).unwrap();
    let binary = folder.path().join("binary");
    std::fs::write(&binary, [text("binary").as_bytes(), b"\xff"].concat()).unwrap();
    let sources: [&dyn Fn() -> SecretSource; 5] = [
        &|| secret("fixed").into(),
        &|| SecretSource::file(&path),
        &|| SecretSource::file(&long),
        &|| SecretSource::file(&binary),
        &|| SecretSource::from_fn(|| async { Ok(secret("closure")) }),
    ];
    for source in sources {
        watched(async || use_layer(layer(source())).await);
        watched(async || use_layer(layer(ApiKey::new(source()))).await);
        watched(async || {
            let key = ApiKey::new(source()).header("authorization").unwrap();
            use_layer(layer(key.prefix("ApiKey "))).await;
        });
        watched(async || use_layer(layer(ApiKey::new(source()).query("key").unwrap())).await);
    }
}

#[test]
fn a_key_that_is_replaced_is_left_nowhere() {
    watched(async || {
        let (key, rotation) = ApiKey::rotating(secret("old"));
        let layer = layer(key);
        rotation.offer(secret("new"));
        use_layer(layer).await;
        rotation.offer(secret("newer"));
        rotation.switch();
        rotation.finish();
    });
}

#[test]
fn a_password_is_left_nowhere() {
    watched(async || {
        use_layer(layer(|_| async { Token::basic("me", secret("password")) })).await;
    });
}

const VARIABLE: &str = "TOWER_AUTH_TEST_SECRET";

/// The environment of this process can't change while other threads read it. So another process runs
/// the test.
#[test]
fn a_variable_is_left_nowhere() {
    for value in [
        text("variable").into_bytes(),
        [text("binary").as_bytes(), b"\xff"].concat(),
    ] {
        use std::os::unix::ffi::OsStringExt as _;

        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        process.args(["--exact", "api_keys::a_variable", "--ignored"]);
        process.env(VARIABLE, std::ffi::OsString::from_vec(value));
        let output = process.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
}

#[test]
#[ignore = "`a_variable_is_left_nowhere` runs it"]
fn a_variable() {
    watched(async || use_layer(layer(ApiKey::new(SecretSource::env(VARIABLE)))).await);
}

#[test]
fn a_key_for_dpop_is_left_nowhere() {
    watched(async || {
        look_for_key(EC_KEY_PART);
        let pem: SecretString = unwatched(|| {
            let text = format!("{}\n{EC_PKCS8}", text("pem"));
            SecretString::from(text)
        });
        let key = tower_auth::oauth2::DpopKey::from_pem(pem).unwrap();
        assert!(key.to_pem().unwrap().expose_secret().contains("PRIVATE"));
    });
}
