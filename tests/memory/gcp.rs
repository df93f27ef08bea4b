//! Identities on Google Cloud.

use std::fs;

use tempfile::TempDir;
use tower_auth::platform::gcp::ApplicationDefault;
use tower_auth_freed::unwatched;

use crate::planted::text;
use crate::watched::drive;

/// Writes a file with a person's login, between the texts `before` and `after`.
fn file(before: &str, after: &str) -> (TempDir, String) {
    unwatched(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        let (secret, token) = (text("client"), text("refresh"));
        let person = format!(
            r#"{{"type":"authorized_user","client_id":"gcloud","client_secret":"{secret}","refresh_token":"{token}"}}"#
        );
        fs::write(&path, format!("{before}{person}{after}")).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (folder, path)
    })
}

fn drive_with(path: &str) {
    drive(async |server| {
        let variables = [("GOOGLE_APPLICATION_CREDENTIALS", path)];
        Ok(ApplicationDefault::from_vars(variables)?.transport(server))
    });
}

#[test]
fn a_persons_login_in_a_credentials_file_is_left_nowhere() {
    let (_folder, path) = file("", "");
    drive_with(&path);
}

#[test]
fn a_persons_login_that_impersonates_is_left_nowhere() {
    let before = r#"{"type":"impersonated_service_account","service_account_impersonation_url":"https://iamcredentials.googleapis.com/v1/a:generateAccessToken","source_credentials":"#;
    let (_folder, path) = file(before, "}");
    drive_with(&path);
}
