//! A body of hyper, without the feature `hyper`.
//!
//! ```text
//! again: the body doesn't implement `Replay`
//! = note: the bodies of reqwest 0.13, hyper 1, axum 0.8 and tonic 0.14 implement it with tower-auth's feature `reqwest`, `hyper`, `axum` or `tonic`
//! ```

use http::{Request, Response};
use tower::service_fn;

pub(crate) fn mistake(body: hyper::body::Incoming) {
    let client = service_fn(|_: Request<hyper::body::Incoming>| async {
        Ok::<_, std::io::Error>(Response::new(String::new()))
    });
    _ = crate::auth(client).send(Request::new(body));
}
