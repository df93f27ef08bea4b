//! Which origins get no credential any more after a redirect with a given `Location`.

use http::header::LOCATION;
use http::{HeaderValue, Request, Response, StatusCode};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{AuthLayer, BoxError, Error};

use crate::support::Counting;

const FROM: &str = "https://from.example";
const OTHER: &str = "https://other.example";

/// Which of the origins a layer still sends its credential to, after `FROM` has answered with this `Location`.
async fn served_after<'a>(location: &[u8], origins: &[&'a str]) -> Vec<&'a str> {
    let layer = AuthLayer::new(Counting::default());
    let location = HeaderValue::from_bytes(location).unwrap();
    let redirecting = service_fn(move |_: Request<String>| {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(LOCATION, location.clone());
        std::future::ready(Ok::<_, BoxError>(response))
    });
    let client = layer.layer(redirecting);
    client.clone().oneshot(get(FROM)).await.unwrap();
    let mut served = Vec::new();
    for origin in origins {
        match client.clone().oneshot(get(origin)).await {
            Ok(_) => served.push(*origin),
            Err(error) => assert!(
                error.downcast_ref::<Error>().unwrap().is_origin(),
                "{error}"
            ),
        }
    }
    served
}

fn get(uri: &str) -> Request<String> {
    Request::get(uri).body(String::new()).unwrap()
}

#[tokio::test]
async fn a_location_without_an_authority_is_of_the_same_origin() {
    for location in [
        "/x",
        "x/y",
        "",
        "?q=//evil.example",
        "#a",
        "../x",
        "/a:b",
        "a:b",
        "app://b",
        "/?\\\\evil",
    ] {
        let served = served_after(location.as_bytes(), &[FROM, OTHER]).await;
        assert_eq!(served, [FROM, OTHER], "{location}");
    }
}

#[tokio::test]
async fn an_origin_is_the_same_however_its_case_and_its_port_are_written() {
    let origins = ["https://a.example", OTHER, FROM];
    for location in [
        "https://a.example",
        "HTTPS://A.Example/x",
        "https://a.example:443?q",
    ] {
        let served = served_after(location.as_bytes(), &origins).await;
        assert_eq!(served, [OTHER, FROM], "{location}");
    }
    let served = served_after(b"http://127.0.0.1:80/", &["http://127.0.0.1", OTHER]).await;
    assert_eq!(served, [OTHER]);
    for location in [
        "https://a.example:8443",
        "http://a.example:443",
        "https://b.example",
        "https://a.example.",
    ] {
        let served = served_after(location.as_bytes(), &origins).await;
        assert_eq!(served, origins, "{location}");
    }
}

#[tokio::test]
async fn without_a_scheme_a_location_is_of_either() {
    let origins = ["https://localhost", "http://localhost", OTHER];
    assert_eq!(served_after(b"//localhost/x", &origins).await, [OTHER]);
}

/// Some URI parser reads another host in each of these.
#[tokio::test]
async fn after_an_ambiguous_location_only_its_own_origin_is_served() {
    for location in [
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "https:\\\\evil.example",
        "https:/evil.example",
        "https:evil.example",
        "https://user@evil.example",
        "https://ex%61mple.com",
        "https://0x7f.1",
        "https://2130706433",
        "https://127.0.0.01",
        "https://a.example:0443",
        "https://a.example:",
        "https://\u{e9}.example",
        "https://[::1]/",
        "https://",
        "///evil.example",
        "https:///evil.example",
    ] {
        let served = served_after(location.as_bytes(), &[FROM, OTHER]).await;
        assert_eq!(served, [FROM], "{location}");
    }
    assert_eq!(served_after(b"/\xff", &[FROM, OTHER]).await, [FROM]);
}
