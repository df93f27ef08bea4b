//! `by_extension` with a request that has no extensions.
//!
//! ```text
//! error[E0277]: `ByExtension<String>` can't find the tenant of a `reqwest::Request`
//! this doesn't implement `TenantKey<reqwest::Request>`
//! = note: pass a closure to `Tenants::by`: `|request: &reqwest::Request| Some(key)`
//! = note: `Tenants::by_extension` takes `http::Request` only: a `reqwest::Request` has no extensions
//! ```

use tower::ServiceBuilder;
use tower_auth::tenants::Tenants;

pub(crate) fn mistake(http: reqwest::Client, request: reqwest::Request) {
    let tenants = Tenants::new(|_: &String| Ok(crate::layer()));
    let client = ServiceBuilder::new()
        .layer(tenants.by_extension())
        .service(http);
    _ = client.send(request);
}
