//! A service that does the minimum work of a layer that notices refusals. It looks at the response.
//! Its future carries the data that such a layer needs to react.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tower::{BoxError, Service};

#[derive(Clone)]
pub(crate) struct LookFor401<S>(pub(crate) S);

impl<S, B> Service<Request<B>> for LookFor401<S>
where
    S: Service<Request<B>, Response = Response<()>, Error: Into<BoxError>>,
{
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Looking<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Looking {
            answer: self.0.call(request),
            sent_with: 1,
        }
    }
}

pin_project! {
    pub(crate) struct Looking<F> {
        #[pin]
        answer: F,
        // Identifies the sent token. A layer needs this number to reject a refused token.
        sent_with: u64,
    }
}

impl<F, E> Future for Looking<F>
where
    F: Future<Output = Result<Response<()>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<()>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = std::task::ready!(this.answer.poll(cx)).map_err(Into::into)?;
        if response.status() == StatusCode::UNAUTHORIZED {
            refused(*this.sent_with);
        }
        Poll::Ready(Ok(response))
    }
}

#[cold]
fn refused(sent_with: u64) {
    black_box(sent_with);
}
