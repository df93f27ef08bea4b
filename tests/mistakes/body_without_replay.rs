//! A body that can't be sent again: the user's own, or a crate's body without that crate's feature.
//!
//! ```text
//! error[E0277]: the layer can't send the body `OrderForm` again: the body doesn't implement `Replay`
//! this body doesn't implement `Replay`
//! = note: the bodies of reqwest 0.13, hyper 1, axum 0.8 and tonic 0.14 implement it with tower-auth's feature `reqwest`, `hyper`, `axum` or `tonic`
//! = note: box any other body with `http_body_util::BodyExt::boxed`, or implement `tower_auth::layer::Replay` for it
//! ```

use http::{Request, Response};
use tower::service_fn;

struct OrderForm;

pub(crate) fn mistake() {
    let client = service_fn(|_: Request<OrderForm>| async {
        Ok::<_, std::io::Error>(Response::new(String::new()))
    });
    _ = crate::auth(client).send(Request::new(OrderForm));
}
