//! A client whose error isn't an error.
//!
//! ```text
//! `u16: Into<Box<(dyn std::error::Error
//! ```

use http::{Request, Response};
use tower::service_fn;

pub(crate) fn mistake() {
    let client = service_fn(|_: Request<String>| async { Err::<Response<String>, u16>(404) });
    let sent = crate::auth(client).send(Request::new(String::new()));
    drop(sent);
}
