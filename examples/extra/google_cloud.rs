//! Lists the buckets of a project at Google Cloud, with the identity that Google's own clients find.
//!
//! ```text
//! gcloud auth application-default login
//! PROJECT=my-project cargo run -p tower-auth-examples --example google_cloud
//! ```
#![allow(clippy::print_stdout)]

#[path = "../support/mod.rs"]
mod support;

use std::env;

use http::{HeaderValue, Uri};
use support::Report;
use tower::{Layer, ServiceExt};
use tower_auth::platform::gcp::ApplicationDefault;
use tower_auth::{AuthLayer, Origin, TokenCache};

#[tokio::main]
async fn main() -> Result<(), Report> {
    let source = ApplicationDefault::from_env()?
        .scopes(["https://www.googleapis.com/auth/devstorage.read_only"]);
    let payer = source.quota_project().await?;
    let cache = TokenCache::new(source);
    // Fetches the first token now. Without an identity, the error says where the source looked.
    if let Err(error) = cache.token().await {
        println!("{error}");
        return Ok(());
    }
    let Ok(project) = env::var("PROJECT") else {
        println!("found an identity; set the variable PROJECT to list the project's buckets");
        return Ok(());
    };

    let api = env::var("API_URL");
    let api: Uri = api.map_or(
        Ok(Uri::from_static("https://storage.googleapis.com")),
        |url| url.parse(),
    )?;
    let (scheme, host) = (
        api.scheme_str().ok_or("no scheme")?,
        api.authority().ok_or("no host")?,
    );
    let origin: Origin = format!("{scheme}://{host}").parse()?;
    let client = AuthLayer::from(cache)
        .only_to([origin])?
        .layer(reqwest::Client::new());
    let url = format!("{scheme}://{host}/storage/v1/b?project={project}");
    let mut request = reqwest::Client::new().get(url).build()?;
    if let Some(payer) = payer {
        let payer = HeaderValue::try_from(payer)?;
        request.headers_mut().insert("x-goog-user-project", payer);
    }
    let response = client.oneshot(request).await?;
    println!("{}: {}", response.status(), response.text().await?);
    Ok(())
}
