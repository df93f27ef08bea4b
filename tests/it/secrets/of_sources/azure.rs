//! Identities on Azure.

use std::fs;

use tower_auth::platform::azure::{ManagedIdentity, WorkloadIdentity};

use super::{TOKEN, drive};

/// A header's value. The server also repeats the parts between `=`, `;` and spaces, so the value has
/// none of them.
const HEADER: &str = "planted/header+with~signs&\"more\"";

#[tokio::test(start_paused = true)]
async fn a_managed_identity_does_not_show_the_secret_in_its_variable() {
    for [endpoint, secret] in [
        ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"],
        ["MSI_ENDPOINT", "MSI_SECRET"],
    ] {
        drive(async |_, echo| {
            let vars = [(endpoint, "http://localhost/msi/token"), (secret, HEADER)];
            let source = ManagedIdentity::from_vars("https://vault.azure.net", vars)?;
            Ok(source.transport(echo))
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_workload_identity_does_not_show_the_pods_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), TOKEN).unwrap();
    drive(async |_, echo| {
        let vars = [
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "client"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.path().to_str().unwrap()),
        ];
        let source = WorkloadIdentity::from_vars("https://vault.azure.net/.default", vars)?;
        Ok(source.transport(echo))
    })
    .await;
}
