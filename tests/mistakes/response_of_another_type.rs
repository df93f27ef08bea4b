//! A layer between the auth layer and the client, whose responses are only bodies.
//!
//! ```text
//! error[E0277]: the layer can't read responses of type `String`
//! this type doesn't implement `AuthResponse`
//! = note: the layer takes `http::Response` of http 1, and `reqwest::Response` of reqwest 0.13 with tower-auth's feature `reqwest`
//! = note: in `ServiceBuilder`, name a layer that changes the response before `AuthLayer`
//! ```

use http::{Request, Response};
use tower::{ServiceBuilder, service_fn};

pub(crate) fn mistake() {
    let client = service_fn(|_: Request<String>| async {
        Ok::<_, std::io::Error>(Response::new(String::new()))
    });
    let client = ServiceBuilder::new()
        .layer(crate::layer())
        .map_response(Response::into_body)
        .service(client);
    _ = client.send(Request::new(String::new()));
}
