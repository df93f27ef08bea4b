//! A closure for `by` that returns a key instead of an `Option` of a key.
//!
//! ```text
//! error[E0308]: mismatched types
//! expected `Option<String>`, found `String`
//! ```

use http::Request;
use tower_auth::tenants::Tenants;

pub(crate) fn mistake() {
    let tenants = Tenants::new(|_: &String| Ok(crate::layer()));
    tenants.by(|request: &Request<String>| request.uri().path().to_owned());
}
