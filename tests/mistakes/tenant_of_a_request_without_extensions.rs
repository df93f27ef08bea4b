//! `by_extension` with a request that has no extensions.
//!
//! ```text
//! error[E0277]: `ByExtension<String>` can't find the tenant of a `reqwest::Request`
//! this doesn't implement `TenantKey<reqwest::Request>`
//! = note: pass a closure to `Tenants::by`: `|request: &reqwest::Request| Some(key)`
//! = note: `Tenants::by_extension` needs the request's extensions, and `reqwest::Request` shows none
//! ```

use tower::ServiceBuilder;
use tower::util::BoxCloneService;
use tower_auth::tenants::Tenants;

pub(crate) fn mistake(http: reqwest::Client, request: reqwest::Request) {
    let tenants = Tenants::new(|_: &String| Ok(crate::layer()));
    let client = ServiceBuilder::new()
        .layer(tenants.by_extension())
        .service(http);
    _ = client.send(request);
}

pub(crate) fn mistake_of_a_service(http: reqwest::Client) {
    let tenants = Tenants::new(|_: &String| Ok(crate::layer()));
    let client = ServiceBuilder::new()
        .layer(tenants.by_extension())
        .service(http);
    // A service is boxed to keep it in a struct.
    let _: BoxCloneService<reqwest::Request, reqwest::Response, tower_auth::BoxError> =
        BoxCloneService::new(client);
}
