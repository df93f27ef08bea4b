//! Lists the pods of a namespace, with the service account of the pod in which the program runs.
//!
//! ```text
//! cargo run -p tower-auth-examples --example kubernetes
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use support::{Report, optional};
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::platform::kubernetes::ServiceAccount;
use tower_auth::{AuthLayer, TokenSource};

/// The folder of the files that Kubernetes mounts into each pod.
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[tokio::main]
async fn main() -> Result<(), Report> {
    let account = match ServiceAccount::from_env() {
        Ok(account) => account,
        Err(missing) => {
            println!("{missing}");
            return Ok(());
        }
    };
    // The certificate of the API server comes from the cluster's own authority.
    let authority = std::fs::read(format!("{MOUNTED}/ca.crt"))?;
    let authority = reqwest::Certificate::from_pem(&authority)?;
    let http = reqwest::Client::builder()
        .tls_certs_only([authority])
        .build()?;

    let namespace = match optional("NAMESPACE") {
        Some(namespace) => namespace,
        None => std::fs::read_to_string(format!("{MOUNTED}/namespace"))?,
    };
    let origin = account.origins()[0].to_string();
    let url = format!("{origin}/api/v1/namespaces/{namespace}/pods");
    // The source names the origin of the API server, so the token goes only to that origin.
    let client = ServiceBuilder::new()
        .layer(AuthLayer::new(account))
        .service(http.clone());
    let response = client.oneshot(http.get(url).build()?).await?;
    println!("{}: {}", response.status(), response.text().await?);
    Ok(())
}
