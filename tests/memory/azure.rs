//! Identities on Azure.

use std::fs;

use tower_auth::platform::azure::{ManagedIdentity, WorkloadIdentity};
use tower_auth_freed::unwatched;

use crate::planted::text;
use crate::watched::drive;

#[test]
fn a_managed_identity_leaves_no_secret_of_its_variable() {
    for [endpoint, header] in [
        ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"],
        ["MSI_ENDPOINT", "MSI_SECRET"],
    ] {
        drive(async |server| {
            let vars = [
                (endpoint, String::from("http://localhost/msi/token")),
                (header, unwatched(|| text("header"))),
            ];
            let source = ManagedIdentity::from_vars("https://vault.azure.net", vars)?;
            Ok(source.transport(server))
        });
    }
}

#[test]
fn a_workload_identity_leaves_no_token_of_the_pod() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text("pod")).unwrap();
    drive(async |server| {
        let vars = [
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_CLIENT_ID", "client"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.path().to_str().unwrap()),
        ];
        let source = WorkloadIdentity::from_vars("https://vault.azure.net/.default", vars)?;
        Ok(source.transport(server))
    });
}
