//! Credentials files for tests.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tower_auth::platform::gcp::ApplicationDefault;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::ScriptedServer;

use crate::support::google_cloud::{self, server};
use crate::support::keys::{RSA_PKCS8, RSA_PUBLIC};
use crate::support::token_server::all_text_of;

pub(super) fn google() -> ScriptedServer {
    server(RSA_PKCS8, RSA_PUBLIC)
}

pub(super) fn service_account() -> Value {
    google_cloud::service_account(RSA_PKCS8)
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
