//! Which types are `Send`, `Sync` and `Unpin`.

use std::convert::Infallible;
use std::future::Ready;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::util::ServiceFn;
use tower_auth::cache::{Acquire, Clock, ManualClock, Moment, TokenCacheBuilder};
use tower_auth::challenge::Challenge;
use tower_auth::layer::ResponseFuture;
use tower_auth::{Auth, AuthLayer, Error, NotReplayed, Origin, Reason, Token, TokenCache};

fn send<T: Send>() {}
fn sync<T: Sync>() {}
fn unpin<T: Unpin>() {}
fn is_clone<T: Clone>() {}
fn error<T: std::error::Error + Send + Sync + 'static>() {}

type Api = ServiceFn<fn(Request<Full<Bytes>>) -> Ready<Result<Response<()>, Infallible>>>;
type Future = ResponseFuture<Api, Request<Full<Bytes>>>;

#[test]
fn everything_is_send_and_sync_and_unpin_and_handles_are_clone() {
    macro_rules! all {
        ($($name:ty),* $(,)?) => {$(
            send::<$name>();
            sync::<$name>();
            unpin::<$name>();
        )*};
    }
    all!(
        Acquire,
        Auth<Api>,
        AuthLayer,
        Challenge,
        Clock,
        Error,
        Future,
        ManualClock,
        Moment,
        NotReplayed,
        Origin,
        Reason,
        Token,
        TokenCache,
        TokenCacheBuilder,
    );
    macro_rules! cloned {
        ($($name:ty),* $(,)?) => {$( is_clone::<$name>(); )*};
    }
    cloned!(
        Auth<Api>,
        AuthLayer,
        Challenge,
        Clock,
        Error,
        ManualClock,
        Origin,
        Token,
        TokenCache
    );
    error::<Error>();
}

/// The response future must be pinned if the inner future isn't `Unpin`. The response future is
/// `Send` if the inner future is `Send`.
#[test]
fn a_response_future_is_send_if_what_it_is_made_of_is() {
    fn assert_send<T: Send>(_: &T) {}
    let client = tower::service_fn(|_: Request<Full<Bytes>>| async {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(Response::new(()))
    });
    let layer = crate::support::layer(|_| async { Token::bearer("secret") });
    let mut client = tower::Layer::layer(&layer, client);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _inside = runtime.enter();
    let request = Request::get("https://api.example.com")
        .body(Full::default())
        .unwrap();
    assert_send(&tower_service::Service::call(&mut client, request));
}
