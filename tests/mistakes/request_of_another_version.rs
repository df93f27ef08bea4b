//! A client of reqwest 0.12. The types of reqwest 0.12 aren't the types of reqwest 0.13.
//!
//! ```text
//! error[E0277]: the layer can't authenticate requests of type `reqwest_0_12::Request`
//! this type doesn't implement `AuthRequest`
//! = note: the layer takes `http::Request` of http 1, and `reqwest::Request` of reqwest 0.13 with tower-auth's feature `reqwest`
//! = note: types of two versions of a crate have the same name: `cargo tree --duplicates` lists such crates
//! error[E0277]: the layer can't read responses of type `reqwest_0_12::Response`
//! ```

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tower::Service;

/// Plays the role of reqwest 0.12. The real crate would be compiled only for this test.
mod reqwest_0_12 {
    #[derive(Clone)]
    pub(crate) struct Client;
    pub(crate) struct Request;
    pub(crate) struct Response;
}

impl Service<reqwest_0_12::Request> for reqwest_0_12::Client {
    type Response = reqwest_0_12::Response;
    type Error = std::io::Error;
    type Future = Ready<Result<reqwest_0_12::Response, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: reqwest_0_12::Request) -> Self::Future {
        ready(Ok(reqwest_0_12::Response))
    }
}

pub(crate) fn mistake() {
    _ = crate::auth(reqwest_0_12::Client).send(reqwest_0_12::Request);
}
