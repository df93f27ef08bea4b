//! A client whose error type doesn't implement `std::error::Error`.
//!
//! ```text
//! the trait `std::error::Error` is not implemented for `u16`
//! ```

use http::{Request, Response};
use tower::service_fn;

pub(crate) fn mistake() {
    let client = service_fn(|_: Request<String>| async { Err::<Response<String>, u16>(404) });
    _ = crate::auth(client).send(Request::new(String::new()));
}
