//! Identities in Kubernetes.

use tower_auth::SecretSource;
use tower_auth::platform::kubernetes::{ServiceAccount, TokenRequest};

use super::drive;

/// The server also repeats the parts of a header between `=`, `;` and spaces, so the token has none
/// of them.
const TOKEN: &str = "planted/token+with~signs";

#[tokio::test(start_paused = true)]
async fn a_service_account_does_not_show_its_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, TOKEN).unwrap();
    drive(async |_, _| {
        let pod = [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        Ok(ServiceAccount::from_vars(pod)?.token_file(file.path()))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_token_request_does_not_show_its_credential() {
    drive(async |_, echo| {
        let credential = SecretSource::from(TOKEN);
        let source = TokenRequest::new("https://10.0.0.1", "prod", "reports", credential)?;
        Ok(source.transport(echo))
    })
    .await;
}
