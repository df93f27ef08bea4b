//! Identities in Kubernetes.

use tower_auth::SecretSource;
use tower_auth::platform::kubernetes::{ServiceAccount, TokenRequest};

use crate::planted::{secret, text};
use crate::watched::drive;

#[test]
fn a_service_account_leaves_no_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, text("pod")).unwrap();
    drive(async |_| {
        let pod = [
            ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", "443"),
        ];
        Ok(ServiceAccount::from_vars(pod)?.token_file(file.path()))
    });
}

#[test]
fn a_token_request_leaves_no_credential_and_no_token() {
    drive(async |server| {
        let credential = SecretSource::from(secret("credential"));
        let source = TokenRequest::new("https://10.0.0.1", "prod", "reports", credential)?;
        Ok(source.transport(server))
    });
}
