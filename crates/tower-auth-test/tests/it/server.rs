//! `ScriptedServer` in memory: scripts, faults, and what was recorded.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, sleep};
use tower::{Service as _, ServiceExt as _};
use tower_auth_test::{RecordedRequest, ScriptedResponse, ScriptedServer, run_until_idle};

use crate::support::{Body, get, get_with, panic_message, send, text};

fn ok() -> ScriptedServer {
    ScriptedServer::new(|_| ScriptedResponse::new(200).body("usual"))
}

async fn status(server: &ScriptedServer) -> u16 {
    send(server, get("/")).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn next_responses_come_first_then_those_for_always_and_then_the_usual_ones() {
    let server = ok();
    server.respond_always(ScriptedResponse::new(503));
    server.respond_next(ScriptedResponse::new(500));
    server.respond_next(ScriptedResponse::new(502));
    assert_eq!(status(&server).await, 500);
    assert_eq!(status(&server).await, 502);
    assert_eq!(status(&server).await, 503);
    assert_eq!(status(&server).await, 503);
    server.respond_next(ScriptedResponse::new(500));
    server.respond_as_usual();
    assert_eq!(status(&server).await, 200);
    server
        .assert_requests(["500", "502", "503", "503", "200"].map(|it| format!("GET / - -> {it}")));
}

#[tokio::test]
async fn a_recorded_request_has_all_that_was_sent() {
    let server = ok();
    let request = Request::post("https://api.example.com/notes?page=2")
        .header("x-one", "1")
        .header("content-type", "application/json; charset=utf-8")
        .body(Body::from(r#"{"text":"é","count":3,"flag":true}"#))
        .unwrap();
    let response = send(&server, request).await.unwrap();
    assert_eq!(text(response).await, "usual");

    let request = &server.requests()[0];
    assert_eq!(request.method(), "POST");
    assert_eq!(request.uri(), "https://api.example.com/notes?page=2");
    assert_eq!(request.path(), "/notes");
    assert_eq!(request.origin().unwrap(), "https://api.example.com");
    assert_eq!(request.header("X-One"), Some("1"));
    assert_eq!(request.headers().len(), 2);
    assert!(request.body().starts_with(b"{"));
    assert!(request.text().contains('é'));
    assert_eq!(request.param("text").as_deref(), Some("é"));
    assert_eq!(request.param("count").as_deref(), Some("3"));
    assert_eq!(request.params().len(), 3);
    assert_eq!(request.status().unwrap(), 200);
    assert_eq!((request.token(), request.basic()), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_request_has_the_time_of_its_arrival() {
    let (server, start) = (ok(), Instant::now());
    for _ in 0..2 {
        status(&server).await;
        sleep(Duration::from_secs(5)).await;
    }
    let seconds = |request: &RecordedRequest| (request.received_at() - start).as_secs();
    assert_eq!(
        server.requests().iter().map(seconds).collect::<Vec<_>>(),
        [0, 5]
    );
}

#[tokio::test]
async fn requests_are_numbered_and_the_parameters_of_a_form_keep_their_order() {
    let server = ScriptedServer::new(|request| match request.number() {
        1 => ScriptedResponse::new(503),
        _ => ScriptedResponse::new(200),
    });
    for expected in [503, 200] {
        let request = Request::post("https://api.example.com/").body(Body::from("b=2&a=1+%2B&b=3"));
        let response = send(&server, request.unwrap()).await.unwrap();
        assert_eq!(response.status(), expected);
    }
    let requests = server.requests();
    assert_eq!([requests[0].number(), requests[1].number()], [1, 2]);
    let expected = [("b", "2"), ("a", "1 +"), ("b", "3")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(requests[1].form(), expected);
}

#[tokio::test]
async fn a_request_is_shown_with_its_grant_and_without_its_password() {
    let server = ok();
    let request = |authorization: &[u8], body: &'static str| {
        Request::post("/token?x=1")
            .header("authorization", authorization)
            .body(Body::from(body))
            .unwrap()
    };
    // "a:b" in Base64.
    for scheme in ["Basic", "basic", "BASIC"] {
        let sent = request(
            format!("{scheme} YTpi").as_bytes(),
            "grant_type=password&p=1",
        );
        send(&server, sent).await.unwrap();
    }
    send(&server, request(b"DPoP abc", r#"{"grant_type":"x"}"#))
        .await
        .unwrap();
    send(&server, request(b"Bearer \xff", "")).await.unwrap();
    server.assert_requests([
        "POST /token?x=1 Basic password -> 200",
        "POST /token?x=1 Basic password -> 200",
        "POST /token?x=1 Basic password -> 200",
        "POST /token?x=1 DPoP abc -> 200",
        "POST /token?x=1 Bearer \u{fffd} -> 200",
    ]);
    let requests = server.requests();
    assert_eq!(requests[1].basic(), Some(("a".into(), "b".into())));
    assert_eq!(requests[3].token(), Some("abc"));
    assert_eq!(requests[3].origin(), None);
}

#[tokio::test]
async fn the_client_of_basic_is_decoded_as_it_was_encoded() {
    let server = ok();
    let (id, secret) = ("a:b c", "p%&+é");
    let source = tower_auth::oauth2::ClientCredentials::new("https://id.example.com/t", id, secret)
        .unwrap()
        .basic_auth()
        .transport(server.clone());
    let _ = tower_auth::TokenSource::fetch(&source, tower_auth::Reason::First).await;
    assert_eq!(
        server.requests()[0].basic(),
        Some((id.to_owned(), secret.to_owned()))
    );
}

#[tokio::test]
async fn a_stalled_request_is_shown_without_a_status() {
    let server = ok();
    server.respond_next(ScriptedResponse::stall());
    let client = tokio::spawn(server.clone().oneshot(get("/slow")));
    server.wait_for_requests(1).await;
    run_until_idle().await;
    assert!(!client.is_finished());
    server.assert_requests(["GET /slow - -> …"]);
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    server.assert_requests(["GET /slow - -> …"]);
    assert_eq!(server.requests()[0].status(), None);
}

#[tokio::test]
async fn waiting_for_requests_that_came_before_ends_at_once() {
    let server = ok();
    assert!(server.wait_for_requests(0).now_or_never().is_some());
    assert!(server.wait_for_requests(1).now_or_never().is_none());
    status(&server).await;
    assert!(server.wait_for_requests(1).now_or_never().is_some());
    assert!(server.wait_for_requests(2).now_or_never().is_none());
}

#[tokio::test]
async fn a_reset_is_an_io_error_and_shown() {
    let server = ok();
    server.respond_next(ScriptedResponse::reset());
    let error = send(&server, get("/a")).await.unwrap_err();
    let error = error.downcast_ref::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    server.assert_requests(["GET /a - -> reset"]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_response_waits_by_tokios_clock() {
    let server = ok();
    server.respond_next(ScriptedResponse::new(204).after(Duration::from_secs(5)));
    let started = tokio::time::Instant::now();
    assert_eq!(status(&server).await, 204);
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_usual_response_can_be_late_cut_and_have_more_headers() {
    let server = ScriptedServer::new(|_| {
        ScriptedResponse::new(201)
            .header("x", "1")
            .body("usual")
            .after(Duration::from_secs(1))
    });
    server.respond_next(
        ScriptedResponse::as_usual()
            .after(Duration::from_secs(2))
            .header("x", "2")
            .reset_after(3),
    );
    let started = tokio::time::Instant::now();
    let response = send(&server, get("/")).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(3));
    assert_eq!(response.status(), 201);
    let values: Vec<_> = response.headers().get_all("x").iter().collect();
    assert_eq!(values, ["1", "2"]);
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "usu");
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.downcast_ref::<io::Error>().is_some());
    assert!(body.frame().await.is_none());
    server.assert_requests(["GET / - -> 201"]);
}

#[tokio::test]
async fn a_usual_response_that_is_a_reset_stays_one() {
    let server = ScriptedServer::new(|_| ScriptedResponse::reset());
    server.respond_next(ScriptedResponse::as_usual().header("x", "1").stall_after(1));
    assert!(send(&server, get("/")).await.is_err());
}

#[tokio::test]
async fn a_server_whose_usual_response_is_the_usual_one_panics() {
    let server = ScriptedServer::new(|_| ScriptedResponse::as_usual());
    let client = tokio::spawn(server.clone().oneshot(get("/")));
    let payload = client.await.unwrap_err().into_panic();
    assert_eq!(
        *payload.downcast::<&str>().unwrap(),
        "`as_usual()` can't be the usual response of a server"
    );
}

#[tokio::test]
async fn a_body_stalls_after_the_bytes_that_the_script_says() {
    let server = ok();
    for (bytes, expected) in [(2, "us"), (50, "usual")] {
        server.respond_next(ScriptedResponse::as_usual().stall_after(bytes));
        let mut body = send(&server, get("/")).await.unwrap().into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), expected);
        assert!(body.frame().now_or_never().is_none());
        assert!(body.frame().now_or_never().is_none());
    }
    server.respond_next(ScriptedResponse::new(200).stall_after(0).body("abc"));
    let mut body = send(&server, get("/")).await.unwrap().into_body();
    assert!(body.frame().now_or_never().is_none());
}

#[tokio::test]
async fn any_bytes_can_be_the_body_and_broken_json_too() {
    let server = ok();
    server.respond_next(ScriptedResponse::json(200, r#"{"access_token":"#));
    let response = send(&server, get("/")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(text(response).await, r#"{"access_token":"#);

    server.respond_next(ScriptedResponse::new(599).body(&b"\xff\x00"[..]));
    let response = send(&server, get("/")).await.unwrap();
    assert_eq!(response.status(), 599);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"\xff\x00");

    let own = Response::builder().status(418).header("x", "y").body("tea");
    server.respond_next(own.unwrap().into());
    let response = send(&server, get("/")).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x"]),
        (418, &"y".parse().unwrap())
    );
    assert_eq!(text(response).await, "tea");
}

#[test]
fn a_mistake_in_a_script_panics_with_what_was_wrong() {
    let response = || ScriptedResponse::new(200);
    let cases = [
        (
            panic_message(|| ScriptedResponse::new(1000)),
            "1000 is not the status of a final response; use a number from 200 to 999",
        ),
        (
            panic_message(|| ScriptedResponse::new(101)),
            "101 is not the status of a final response; use a number from 200 to 999",
        ),
        (
            panic_message(|| response().header("a b", "c")),
            "\"a b\" can't be the name of a header",
        ),
        (
            panic_message(|| response().header("a", "b\nc")),
            "the value can't be in the header \"a\"",
        ),
        (
            panic_message(|| ScriptedResponse::stall().header("a", "b")),
            "there is no response to add \"a\" to",
        ),
        (
            panic_message(|| ScriptedResponse::reset().body("b")),
            "there is no response to add a body to",
        ),
        (
            panic_message(|| ScriptedResponse::as_usual().body("b")),
            "the server makes the body of its usual response",
        ),
        (
            panic_message(|| ScriptedResponse::stall().reset_after(1)),
            "there is no body to cut",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
}

#[tokio::test]
async fn a_failed_assertion_shows_the_difference() {
    let server = ok();
    for path in ["/a", "/b", "/c"] {
        send(&server, get(path)).await.unwrap();
    }
    let message = panic_message(|| {
        server.assert_requests(["GET /a - -> 200", "GET /b - -> 401", "GET /c - -> 200"]);
    });
    assert_eq!(
        message,
        "the server received other requests (- expected, + received):\n  \
         GET /a - -> 200\n\
         - GET /b - -> 401\n\
         + GET /b - -> 200\n  \
         GET /c - -> 200"
    );
    let message = panic_message(|| server.assert_requests([""; 0]));
    assert_eq!(
        message,
        "the server received other requests (- expected, + received):\n\
         + GET /a - -> 200\n\
         + GET /b - -> 200\n\
         + GET /c - -> 200"
    );
}

#[tokio::test]
async fn a_server_without_requests_says_so_and_lists_what_nobody_expected() {
    let server = ok();
    server.assert_no_requests();
    send(&server, get("/a")).await.unwrap();
    assert_eq!(
        panic_message(|| server.assert_no_requests()),
        "the server received other requests (- expected, + received):\n+ GET /a - -> 200"
    );
}

#[tokio::test]
async fn a_closure_may_ask_its_own_server() {
    let slot = Arc::new(OnceLock::<ScriptedServer>::new());
    let own = slot.clone();
    let server = ScriptedServer::new(move |request| {
        let server = own.get().unwrap();
        assert!(server.requests().last().unwrap().path() == request.path());
        server.respond_next(ScriptedResponse::new(404));
        ScriptedResponse::new(200 + u16::try_from(server.requests().len()).unwrap())
    });
    slot.set(server.clone()).unwrap();
    assert_eq!(status(&server).await, 201);
    assert_eq!(status(&server).await, 404);
    assert_eq!(status(&server).await, 203);
}

#[tokio::test]
async fn a_panicking_closure_leaves_the_server_working() {
    let server = ScriptedServer::new(|request| match request.path() {
        "/panic" => panic!("as the test wants"),
        _ => ScriptedResponse::new(200),
    });
    let client = tokio::spawn(server.clone().oneshot(get("/panic")));
    assert!(client.await.unwrap_err().is_panic());
    assert_eq!(status(&server).await, 200);
    server.assert_requests(["GET /panic - -> …", "GET / - -> 200"]);
}

#[tokio::test]
async fn a_request_whose_body_breaks_has_not_arrived() {
    let server = ok();
    let broken = futures_util::stream::iter([
        Ok(http_body::Frame::data(bytes::Bytes::from("a"))),
        Err("the client's disk broke"),
    ]);
    let request = Request::post("/").body(http_body_util::StreamBody::new(broken));
    let response = server.clone().call(request.unwrap()).await;
    assert_eq!(response.unwrap_err().to_string(), "the client's disk broke");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn clones_share_everything() {
    let server = ok();
    let clone = server.clone();
    clone.respond_next(ScriptedResponse::new(404));
    assert_eq!(
        send(&server, get_with("/", "t")).await.unwrap().status(),
        404
    );
    clone.assert_requests(["GET / Bearer t -> 404"]);
    assert_eq!(format!("{clone:?}"), "ScriptedServer { requests: 1, .. }");
}
