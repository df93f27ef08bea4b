//! The agent of Azure Arc, which names a file and requires its contents.

use std::fs;
use std::path::Path;

use tower_auth::platform::azure::ManagedIdentity;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};

use crate::support::azure_server::{
    self as azure, CLIENT_ID, METADATA_PATH, OBJECT_ID, RESOURCE, RESOURCE_ID, token_for,
};

fn identity(server: &ScriptedServer) -> ManagedIdentity {
    let endpoint = format!("http://localhost:40342{METADATA_PATH}");
    let vars = [
        ("IDENTITY_ENDPOINT", endpoint.as_str()),
        ("IMDS_ENDPOINT", "http://localhost:40342"),
    ];
    let identity = ManagedIdentity::from_vars(RESOURCE, vars).unwrap();
    identity.transport(server.clone())
}

async fn fetch(identity: &ManagedIdentity) -> Result<Token, Error> {
    identity.fetch(Reason::First).await
}

/// An agent that names this file, and accepts nothing.
fn naming(path: impl AsRef<Path>) -> ScriptedServer {
    let realm = format!("Basic realm={}", path.as_ref().display());
    ScriptedServer::new(move |request| match request.header("authorization") {
        None => ScriptedResponse::new(401).header("www-authenticate", &realm),
        Some(sent) => ScriptedResponse::json(403, format!(r#"{{"error":"{sent}"}}"#)),
    })
}

#[tokio::test]
async fn the_key_in_the_file_gets_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let server = azure::arc(folder.path().to_owned());
    let source = identity(&server).arc_key_folder(folder.path());
    for _ in 0..2 {
        let token = fetch(&source).await.unwrap();
        assert_eq!(token.secret(), token_for(None, RESOURCE));
    }
    let statuses = server.requests();
    let statuses: Vec<_> = statuses
        .iter()
        .map(|it| it.status().unwrap().as_u16())
        .collect();
    assert_eq!(statuses, [401, 200, 401, 200]);
}

#[tokio::test]
async fn a_user_assigned_identity_has_to_be_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let server = azure::arc(folder.path().to_owned());
    let source = || identity(&server).arc_key_folder(folder.path());
    for (source, name) in [
        (source().client_id(CLIENT_ID), "client_id"),
        (source().object_id(OBJECT_ID), "object_id"),
        (source().resource_id(RESOURCE_ID), "msi_res_id"),
    ] {
        let source = source.unwrap();
        let token = fetch(&source).await.unwrap();
        assert_eq!(token.secret(), token_for(Some(name), RESOURCE));

        // An older agent ignores the parameter.
        for reply in [
            r#"{"access_token":"a"}"#,
            r#"{"access_token":"a","client_id":"b","object_id":"b","msi_res_id":"b","mi_res_id":"b"}"#,
        ] {
            server.respond_next(ScriptedResponse::json(200, reply));
            let error = fetch(&source).await.unwrap_err();
            assert!(error.is_reply(), "{error:?}");
            assert!(
                error.to_string().contains("did not confirm the identity"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn only_a_key_file_in_the_folder_is_read() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("tokens");
    fs::create_dir_all(folder.join("inner")).unwrap();
    let outside = outer.path().join("outside.key");
    for path in [
        &outside,
        &folder.join("secret.txt"),
        &folder.join("inner/a.key"),
        &folder.join(".key"),
    ] {
        fs::write(path, "planted").unwrap();
    }
    let beside = format!("{}x/a.key", folder.display());
    for path in [
        outside,
        folder.join("../outside.key"),
        folder.join("inner/../../outside.key"),
        folder.join("inner/a.key"),
        folder.join("secret.txt"),
        folder.join(".key"),
        folder.clone(),
        "/etc/passwd".into(),
        "tokens/a.key".into(),
        "a.key".into(),
        "".into(),
        beside.into(),
    ] {
        let server = naming(&path);
        let error = fetch(&identity(&server).arc_key_folder(&folder))
            .await
            .unwrap_err();
        assert!(error.is_reply(), "{path:?}: {error:?}");
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
        assert_eq!(server.requests().len(), 1, "{path:?}");
    }
    // By default, the source reads only in the agent's own folder.
    #[cfg(target_os = "linux")]
    {
        let server = naming(folder.join("a.key"));
        let error = fetch(&identity(&server)).await.unwrap_err().to_string();
        assert!(
            error.contains("is not a `.key` file in /var/opt/azcmagent/tokens"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_challenge_without_a_file_is_an_error() {
    for challenge in [
        "",
        "Basic",
        "Bearer realm=/x/a.key",
        "Basic charset=utf-8",
        "realm=x",
    ] {
        let server = ScriptedServer::new(move |_| {
            ScriptedResponse::new(401).header("www-authenticate", challenge)
        });
        let error = fetch(&identity(&server)).await.unwrap_err();
        assert!(error.is_reply(), "{challenge}: {error:?}");
        assert!(
            error.to_string().contains("names no key file"),
            "{challenge}: {error}"
        );
    }
}

#[tokio::test]
async fn a_key_has_at_most_4096_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.key");
    let server = naming(&path);
    let source = identity(&server).arc_key_folder(folder.path());
    for length in [4097, 70_000] {
        fs::write(&path, "k".repeat(length)).unwrap();
        let error = fetch(&source).await.unwrap_err();
        assert!(
            error.to_string().contains("longer than 4096 bytes"),
            "{error}"
        );
        assert_eq!(
            server.requests().last().unwrap().header("authorization"),
            None
        );
    }
    // The longest accepted file, with a line break at its end.
    fs::write(&path, "k".repeat(4095) + "\n").unwrap();
    assert!(fetch(&source).await.unwrap_err().is_denied());
    let sent = server.requests().pop().unwrap();
    assert_eq!(
        sent.header("authorization").unwrap().len(),
        "Basic ".len() + 4095
    );
    fs::write(&path, "two\nlines").unwrap();
    let error = fetch(&source).await.unwrap_err();
    assert!(
        error.to_string().contains("a header can't contain"),
        "{error}"
    );
}

#[tokio::test]
async fn a_refused_key_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.key");
    fs::write(&path, "planted-key").unwrap();
    let source = identity(&naming(&path)).arc_key_folder(folder.path());
    let error = fetch(&source).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the agent of Azure Arc refused to issue a token (status 403, error `Basic [redacted]`)"
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_told_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing.key");
    let error = fetch(&identity(&naming(&path)).arc_key_folder(folder.path()))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("missing.key"), "{error}");
}
