//! Where a credential goes, and where it doesn't.

use http::Request;
use tower::{Layer, ServiceExt};
use tower_auth::{AuthLayer, Error, Origin};

use crate::support::{Api, Counting, call, source};

/// Whether a request to `uri` reaches the client below, with the credential on it.
async fn passes(layer: &AuthLayer, uri: &str) -> bool {
    let api = Api::accepting(["token-1"]);
    let request = Request::get(uri).body(String::new()).unwrap();
    match layer.layer(api.clone()).oneshot(request).await {
        Ok(_) => {
            assert_eq!(api.credentials(), ["Bearer token-1"]);
            true
        }
        Err(error) => {
            let error = error.downcast_ref::<Error>().unwrap();
            assert!(error.is_origin(), "{error}");
            assert_eq!(api.requests(), 0, "the request was sent");
            false
        }
    }
}

#[tokio::test]
async fn a_credential_goes_over_https_to_loopback_or_where_a_path_leads() {
    let layer = AuthLayer::new(Counting::default());
    for uri in [
        "https://api.example.com/v1",
        "HTTPS://api.example.com",
        "https://api.example.com:8443/",
        "http://localhost:8080/",
        "http://127.0.0.1/",
        "http://127.8.9.10:3000/",
        "http://[::1]:3000/",
        "/v1/things",
    ] {
        assert!(passes(&layer, uri).await, "{uri}");
    }
}

#[tokio::test]
async fn cleartext_to_anywhere_else_is_an_error_before_a_byte_leaves() {
    let layer = AuthLayer::new(Counting::default());
    for uri in [
        "http://api.example.com/",
        "http://localhost.example.com/",
        "http://127.0.0.1.example.com/",
        "http://10.0.0.1/",
        "http://[::2]/",
        "ftp://api.example.com/",
        "http://localhost@api.example.com/",
        "api.example.com:443",
    ] {
        assert!(!passes(&layer, uri).await, "{uri}");
    }
}

#[tokio::test]
async fn allowed_origins_are_checked_before_the_fetch() {
    let (source, mut fetches) = source();
    let layer = AuthLayer::new(source);
    assert!(!passes(&layer, "http://api.example.com/").await);
    fetches.none().await;
}

#[tokio::test]
async fn only_the_named_origins_get_it_and_a_named_one_may_be_cleartext() {
    let layer = AuthLayer::new(Counting::default())
        .only_to([
            "HTTPS://Api.Example.com",
            "http://sidecar.internal:8080",
            "wss://socket.example.com:443",
            "ws://socket.internal",
        ])
        .unwrap();
    for uri in [
        "https://api.example.com/v1",
        "https://API.EXAMPLE.COM:443/v1",
        "HTTPS://api.example.com/v1",
        "wss://socket.example.com/",
        "ws://socket.internal:80/",
        "https://user@api.example.com/v1",
        "http://sidecar.internal:8080/",
        "/path",
    ] {
        assert!(passes(&layer, uri).await, "{uri}");
    }
    for uri in [
        "https://api.example.com:8443/",
        "http://api.example.com/",
        "https://api.example.com.evil.example/",
        "https://evil.example/https://api.example.com",
        "https://api.example.com@evil.example/",
        "http://sidecar.internal/",
        "https://sidecar.internal:8080/",
        "http://localhost/",
        "https://api.example.com./",
        "api.example.com:443",
        "wss://api.example.com/",
        "https://socket.example.com/",
    ] {
        assert!(!passes(&layer, uri).await, "{uri}");
    }
}

/// With a private copy of the header in the service, the request takes the short way.
#[tokio::test]
async fn allowed_origins_are_checked_on_the_hot_path_too() {
    let api = Api::accepting(["token-1"]);
    let mut client = AuthLayer::new(Counting::default()).layer(api.clone());
    let request = |uri: &str| Request::get(uri).body(String::new()).unwrap();
    for _ in 0..3 {
        call(&mut client, request("https://a.example"))
            .await
            .unwrap();
    }
    let error = call(&mut client, request("http://a.example")).await;
    assert!(
        error
            .unwrap_err()
            .downcast_ref::<Error>()
            .unwrap()
            .is_origin()
    );
    assert_eq!(api.requests(), 3);
}

#[tokio::test]
async fn the_error_names_the_origin_and_what_to_do_and_no_more_of_the_uri() {
    let layer = AuthLayer::new(Counting::default());
    let request = Request::get("http://user:pass@api.example.com/path?key=s3cret");
    let request = request.body(String::new()).unwrap();
    let error = layer
        .layer(Api::default())
        .oneshot(request)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("http://api.example.com"), "{error}");
    assert!(error.contains("only_to"), "{error}");
    for secret in ["user", "pass@", "path", "s3cret"] {
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn what_is_no_origin_is_refused_with_a_word_on_how_to_write_one() {
    for wrong in [
        "",
        "api.example.com",
        "https://",
        "https://:443",
        "https://api.example.com/path",
        "https://api.example.com/?q",
        "https://user@api.example.com",
        "gopher://api.example.com",
        "https://api.example.com:99999",
        "https://api.example.com:",
        "https://api.example.com@api.example.com",
        "https://api example.com",
    ] {
        let error = wrong.parse::<Origin>().unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains("scheme://host"),
            "{wrong}"
        );
        assert!(
            AuthLayer::new(Counting::default())
                .only_to([wrong])
                .is_err()
        );
    }
    let none: [&str; 0] = [];
    assert!(
        AuthLayer::new(Counting::default())
            .only_to(none)
            .unwrap_err()
            .is_config()
    );
    let address: Origin = "https://[::1]:8443".parse().unwrap();
    assert_eq!(address.to_string(), "https://[::1]:8443");
    let explicit: Origin = "gopher://api.example.com:70".parse().unwrap();
    assert_eq!(explicit.to_string(), "gopher://api.example.com:70");
    assert_eq!(
        "GOPHER://API.example.com:70".parse::<Origin>().unwrap(),
        explicit
    );
}

#[tokio::test]
async fn allowed_origins_are_checked_where_a_credential_of_the_callers_is_replaced() {
    let api = Api::accepting(["token-1"]);
    let layer = AuthLayer::new(Counting::default()).replace_existing(true);
    let mut client = layer.layer(api.clone());
    let own = |uri: &str| {
        let request = Request::get(uri).header("authorization", "Basic b3du");
        request.body(String::new()).unwrap()
    };
    for _ in 0..3 {
        call(&mut client, own("https://a.example")).await.unwrap();
    }
    let error = call(&mut client, own("http://a.example"))
        .await
        .unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_origin());
    assert_eq!(api.requests(), 3);
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn an_address_without_a_host_gets_nothing() {
    let client = tower::service_fn(|_: reqwest::Request| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(()))
    });
    let request = reqwest::Request::new(http::Method::GET, "file:///tmp/x".parse().unwrap());
    let client = AuthLayer::new(Counting::default()).layer(client);
    let error = client.oneshot(request).await.unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_origin());
}
