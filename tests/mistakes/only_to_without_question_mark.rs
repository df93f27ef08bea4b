//! `only_to` without the `?` after it. The text is the compiler's own, because the trait is
//! tower's.
//!
//! ```text
//! Result<AuthLayer, tower_auth::Error>: Layer<_>
//! ```

use http::{Request, Response};
use tower::{ServiceBuilder, service_fn};

pub(crate) fn mistake() {
    let client = service_fn(|_: Request<String>| async {
        Ok::<_, std::io::Error>(Response::new(String::new()))
    });
    let layer = crate::layer().only_to(["https://api.example.com"]);
    ServiceBuilder::new().layer(layer).service(client);
}
