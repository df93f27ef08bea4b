//! Credentials files for tests.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tower_auth::platform::gcp::ApplicationDefault;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::ScriptedServer;

use crate::support::google_cloud::{
    CLIENT_ID, CLIENT_SECRET, DELEGATE, EMAIL, JWT, KEY_ID, POOL, REFRESH_TOKEN, STS_URL,
    TOKEN_URL, impersonation_url, server,
};
use crate::support::keys::{RSA_PKCS8, RSA_PUBLIC};
use crate::support::token_server::all_text_of;

pub(super) fn google() -> ScriptedServer {
    server(RSA_PKCS8, RSA_PUBLIC)
}

pub(super) fn service_account() -> Value {
    json!({
        "type": "service_account", "project_id": "project", "private_key_id": KEY_ID,
        "private_key": RSA_PKCS8, "client_email": EMAIL, "client_id": "1234567890",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": TOKEN_URL,
        "universe_domain": "googleapis.com",
    })
}

pub(super) fn person() -> Value {
    json!({
        "type": "authorized_user", "account": "", "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET, "refresh_token": REFRESH_TOKEN,
        "quota_project_id": "paying-project", "universe_domain": "googleapis.com",
    })
}

pub(super) fn impersonated(source: &Value) -> Value {
    json!({
        "type": "impersonated_service_account", "delegates": [DELEGATE],
        "service_account_impersonation_url": impersonation_url(), "source_credentials": source,
    })
}

pub(super) fn external(credential_source: &Value) -> Value {
    json!({
        "type": "external_account", "audience": POOL, "subject_token_type": JWT,
        "token_url": STS_URL, "credential_source": credential_source,
        "universe_domain": "googleapis.com",
    })
}

/// Returns the file with this field. A null removes the field.
pub(super) fn with(mut file: Value, name: &str, value: impl Into<Value>) -> Value {
    file[name] = value.into();
    file
}

/// A folder with a credentials file.
pub(super) struct Folder {
    folder: TempDir,
}

impl Folder {
    pub(super) fn with(file: &Value) -> Self {
        let folder = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        folder.write("credentials.json", &file.to_string());
        folder
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(super) fn source_with(
        &self,
        server: &ScriptedServer,
        more: &[(&str, &str)],
    ) -> ApplicationDefault {
        let file = self.path().join("credentials.json");
        let file = file.to_str().unwrap().to_owned();
        let file = ("GOOGLE_APPLICATION_CREDENTIALS", file.as_str());
        let variables = more.iter().copied().chain([file]);
        let source = ApplicationDefault::from_vars(variables).unwrap();
        source.transport(server.clone())
    }

    pub(super) fn source(&self, server: &ScriptedServer) -> ApplicationDefault {
        self.source_with(server, &[])
    }
}

pub(super) async fn fetch(source: &ApplicationDefault) -> Result<Token, Error> {
    source.fetch(Reason::First).await
}

/// Fetches with this file from the servers of Google.
pub(super) async fn fetch_with(file: &Value) -> Result<Token, Error> {
    fetch(&Folder::with(file).source(&google())).await
}

/// Returns the error for a file that can't be used. No request is sent.
pub(super) async fn error_of(file: &Value) -> String {
    let server = google();
    let folder = Folder::with(file);
    let error = fetch(&folder.source(&server)).await.unwrap_err();
    assert!(error.is_config(), "{error:?}");
    server.assert_no_requests();
    let all = all_text_of(&error);
    assert!(!all.contains("planted") && !all.contains("MIIE"), "{all}");
    let text = error.to_string();
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    text
}
