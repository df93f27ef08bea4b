//! Failures of an authorization server, with client credentials and a cache. The tests check which
//! requests a fetch repeats and what callers get.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower_auth::oauth2::ClientCredentials;
use tower_auth::{BoxError, Error, Token, TokenCache};

use crate::support::paused;
use crate::support::token_server::{ID, SECRET, URL};

const SECOND: Duration = Duration::from_secs(1);

/// How the server handles one request.
enum Behaviour {
    Issues,
    Says(u16, &'static str),
    WantsRest(u16, String),
    Resets,
    Hangs,
    Stalls,
}

use Behaviour::{Hangs, Issues, Resets, Says, Stalls, WantsRest};

type HttpResponse = Response<BoxBody<Bytes, BoxError>>;

/// Fetches a token from a server. The server uses the next behaviour for each request. Returns the
/// result, the number of requests and the duration.
async fn ask<const N: usize>(
    behaviours: [Behaviour; N],
) -> (Result<Token, Error>, usize, Duration) {
    let behaviours = Arc::new(Mutex::new(VecDeque::from_iter(behaviours)));
    let left = Arc::clone(&behaviours);
    let server = tower::service_fn(move |_: Request<Full<Bytes>>| {
        let behaviour = left.lock().unwrap().pop_front();
        async move { respond(behaviour.expect("asked more often than it has behaviours")).await }
    });
    let source = ClientCredentials::new(URL, ID, SECRET)
        .unwrap()
        .transport(server);
    let cache: TokenCache = paused(source).build();
    let start = Instant::now();
    let token = cache.token().await;
    let took = start.elapsed();
    (token, N - behaviours.lock().unwrap().len(), took)
}

async fn respond(behaviour: Behaviour) -> Result<HttpResponse, BoxError> {
    let full = |status: u16, body: String| {
        let mut response = Response::new(Full::from(body).map_err(Into::into).boxed());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    };
    match behaviour {
        Issues => Ok(full(
            200,
            String::from(r#"{"access_token":"issued","expires_in":3600}"#),
        )),
        Says(status, body) => Ok(full(status, String::from(body))),
        WantsRest(status, wait) => {
            let mut response = full(status, String::new());
            response
                .headers_mut()
                .insert("retry-after", wait.parse().unwrap());
            Ok(response)
        }
        Resets => Err(BoxError::from("connection reset by peer")),
        Hangs => pending().await,
        Stalls => Ok(Response::new(Stalled.boxed())),
    }
}

/// A body whose first byte never arrives.
struct Stalled;

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn two_transient_errors_are_not_seen_by_any_caller() {
    for (one, other) in [
        (Resets, Says(500, "")),
        (Says(502, "<html>Bad Gateway</html>"), Resets),
        (
            Says(503, r#"{"error":"temporarily_unavailable"}"#),
            Says(408, ""),
        ),
        (Says(429, ""), Says(425, "")),
    ] {
        let (token, asked, took) = ask([one, other, Issues]).await;
        assert_eq!(token.unwrap().secret(), "issued");
        assert_eq!(asked, 3);
        assert_eq!(took.as_millis() / 100, 6, "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_in_seconds_or_as_a_date_is_waited_for_within_the_fetch() {
    for status in [429, 503] {
        let (token, asked, took) = ask([WantsRest(status, String::from("7")), Issues]).await;
        assert_eq!((token.unwrap().secret(), asked), ("issued", 2));
        assert_eq!(took.as_secs(), 7);

        // The date has whole seconds, and the wall clock isn't paused. So the wait may be up to 3 s
        // shorter.
        let date = httpdate::fmt_http_date(SystemTime::now() + 20 * SECOND);
        let (token, asked, took) = ask([WantsRest(status, date), Issues]).await;
        assert_eq!((token.unwrap().secret(), asked), ("issued", 2));
        assert!((17..=20).contains(&took.as_secs()), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rest_longer_than_the_fetch_may_take_is_an_error_at_once() {
    let (token, asked, took) = ask([WantsRest(429, String::from("3000"))]).await;
    let error = token.unwrap_err();
    assert_eq!(error.retry_after(), Some(3000 * SECOND));
    assert_eq!((asked, took), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_or_stalls_is_left_and_asked_again_after_ten_seconds() {
    for silence in [Hangs, Stalls] {
        let (token, asked, took) = ask([silence, Issues]).await;
        assert_eq!((token.unwrap().secret(), asked), ("issued", 2));
        assert_eq!(took.as_secs(), 10);
    }
    let (token, asked, took) = ask([Hangs, Stalls, Hangs]).await;
    assert!(token.unwrap_err().is_timeout());
    assert_eq!((asked, took.as_secs()), (3, 30));
}

#[tokio::test(start_paused = true)]
async fn what_the_server_means_is_asked_once_and_told_at_once() {
    for (status, body) in [
        (401, r#"{"error":"invalid_client"}"#),
        (400, r#"{"error":"unauthorized_client"}"#),
        (400, r#"{"error":"invalid_scope"}"#),
        (400, r#"{"error":"unsupported_grant_type"}"#),
        (200, r#"{"error":"invalid_client"}"#),
        (404, "<html>no such page</html>"),
        (302, ""),
    ] {
        let (token, asked, took) = ask([Says(status, body)]).await;
        let error = token.unwrap_err();
        assert!(!error.is_transient(), "{status}: {error}");
        assert_eq!((asked, took), (1, Duration::ZERO), "{status}");
    }
}

/// A proxy or a broken server may send something that isn't a token response. An immediate second
/// request wouldn't help.
#[tokio::test(start_paused = true)]
async fn garbage_is_asked_once() {
    for body in [
        "<html>",
        "",
        "[]",
        r#"{"access_token":7}"#,
        r#"{"access_to"#,
    ] {
        let (token, asked, _) = ask([Says(200, body)]).await;
        assert!(token.unwrap_err().is_reply(), "{body}");
        assert_eq!(asked, 1);
    }
}
