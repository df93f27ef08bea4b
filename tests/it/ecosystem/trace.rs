//! `tower_http::trace`. Outside, the trace layer sees one request. Inside, the trace layer sees
//! each try. In both places, the trace layer doesn't see the credential.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::ApiKey;
use tower_auth_test::ScriptedSource;
use tower_http::classify::{ServerErrorsAsFailures, SharedClassifier};
use tower_http::trace::{DefaultOnRequest, TraceLayer};
use tracing::{Span, info, info_span};

use super::Script;
use crate::support::log::{Line, listen};
use crate::support::request;

type Opens = fn(&Request<Full<Bytes>>) -> Span;
type Tells = fn(&Response<Full<Bytes>>, Duration, &Span);

/// Logs everything about a request and its response.
fn trace() -> TraceLayer<SharedClassifier<ServerErrorsAsFailures>, Opens, DefaultOnRequest, Tells> {
    let opens: Opens = |request| info_span!("request", ?request);
    let tells: Tells = |response, _, _| info!(status = response.status().as_u16(), "responded");
    TraceLayer::new_for_http()
        .make_span_with(opens)
        .on_response(tells)
}

/// Returns the number of spans and the statuses of the responses. Asserts that neither contains a
/// secret.
fn traced(lines: &[Line], secret: &str) -> (usize, Vec<String>) {
    for line in lines {
        assert!(!line.to_string().contains(secret), "{line}");
    }
    let spans = lines
        .iter()
        .filter(|line| line.is_span && line.message == "request");
    let responses = lines.iter().filter(|line| line.message == "responded");
    let statuses = responses.map(|line| line.value("status").to_owned());
    (spans.count(), statuses.collect())
}

#[tokio::test]
async fn outside_it_sees_one_request_and_the_response_to_the_replay() {
    let (log, _guard) = listen();
    let client = ServiceBuilder::new()
        .layer(trace())
        .layer(crate::support::layer(ScriptedSource::default()))
        .service(Script::new([401]));
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(traced(&log.all(), "token-"), (1, vec![String::from("200")]));
}

#[tokio::test]
async fn inside_it_sees_each_try_with_a_header_that_it_does_not_show() {
    let (log, _guard) = listen();
    let client = ServiceBuilder::new()
        .layer(crate::support::layer(ScriptedSource::default()))
        .layer(trace())
        .service(Script::new([401]));
    let response = client.oneshot(request("")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let lines = log.all();
    let headers = lines.iter().filter(|line| line.is_span);
    let shown = headers.filter(|line| line.to_string().contains("\"authorization\": Sensitive"));
    assert_eq!(shown.count(), 2, "{lines:#?}");
    let statuses = ["401", "200"].map(String::from).to_vec();
    assert_eq!(traced(&lines, "token-"), (2, statuses));
}

/// A span contains the whole URL with its query. If the query contains a key, tracing has to go
/// outside.
#[tokio::test]
async fn outside_it_does_not_see_a_key_in_the_query_either() {
    let (log, _guard) = listen();
    let key = ApiKey::new("k3y").query("key").unwrap();
    let client = ServiceBuilder::new()
        .layer(trace())
        .layer(crate::support::layer(key))
        .service(Script::new([]));
    client.oneshot(request("")).await.unwrap();
    assert_eq!(traced(&log.all(), "k3y").0, 1);
}
