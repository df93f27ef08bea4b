//! A client that isn't `Clone`.
//!
//! ```text
//! error[E0277]: the layer needs a client that is `Clone`, and `OneConnection` is not
//! this client is not `Clone`
//! = note: the layer sends a refused request again with a clone of the client
//! = note: derive `Clone` for the client, or wrap it: tower's `Buffer` makes any service `Clone`
//! ```

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Service, ServiceBuilder};

struct OneConnection {
    // A `TcpStream` can't be cloned.
    _connection: std::net::TcpStream,
}

impl Service<Request<String>> for OneConnection {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<String>) -> Self::Future {
        ready(Ok(Response::new(String::new())))
    }
}

pub(crate) fn mistake(client: OneConnection) {
    ServiceBuilder::new().layer(crate::layer()).service(client);
}
