//! A body of axum, without the feature `axum`.
//!
//! ```text
//! again: the body doesn't implement `Replay`
//! = note: the bodies of reqwest 0.13, hyper 1, axum 0.8 and tonic 0.14 implement it with tower-auth's feature `reqwest`, `hyper`, `axum` or `tonic`
//! ```

use http::{Request, Response};
use tower::service_fn;

pub(crate) fn mistake(body: axum::body::Body) {
    let client = service_fn(|_: Request<axum::body::Body>| async {
        Ok::<_, std::io::Error>(Response::new(String::new()))
    });
    _ = crate::auth(client).send(Request::new(body));
}
