//! Only origins that the source or the user has named get the credential.

use std::convert::Infallible;

use http::Request;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{ApiKey, AuthLayer, Error, NotReplayed, Origin, Reason, Token, TokenSource};
use tower_auth_test::{Api, ScriptedSource, controlled_source};

use crate::support::{call, credentials};

mod naming_sources;

const API: &str = "https://api.example.com";

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    WithCredential,
    WithoutCredential,
    /// The layer returned an error and sent nothing.
    Denied,
}

use Fate::{Denied, WithCredential, WithoutCredential};

async fn fate(layer: &AuthLayer, uri: &str) -> Fate {
    let api = Api::default();
    let request = Request::get(uri).body(String::new()).unwrap();
    match layer.layer(api.clone()).oneshot(request).await {
        Ok(_) => match credentials(&api)[0].as_str() {
            "-" => WithoutCredential,
            credential => {
                assert!(credential.starts_with("Bearer token-"), "{credential}");
                WithCredential
            }
        },
        Err(error) => {
            let error = error.downcast_ref::<Error>().unwrap();
            assert!(error.is_origin(), "{error}");
            assert_eq!(api.requests().len(), 0, "the request was sent");
            Denied
        }
    }
}

/// Returns the fate of a request to this URL. reqwest parses the URL.
#[cfg(feature = "reqwest")]
async fn fate_in_reqwest(layer: &AuthLayer, url: &str) -> Fate {
    let client = service_fn(|request: reqwest::Request| async move {
        let is_bare = !request.headers().contains_key("authorization");
        Ok::<_, Infallible>(http::Response::new(is_bare))
    });
    let request = reqwest::Request::new(http::Method::GET, url.parse().unwrap());
    match layer.layer(client).oneshot(request).await {
        Ok(response) if *response.body() => WithoutCredential,
        Ok(_) => WithCredential,
        Err(error) => {
            assert!(error.downcast_ref::<Error>().unwrap().is_origin());
            Denied
        }
    }
}

async fn denial(layer: &AuthLayer, uri: &str) -> String {
    let request = Request::get(uri).body(String::new()).unwrap();
    let error = layer.layer(Api::default()).oneshot(request).await;
    error.unwrap_err().to_string()
}

/// Builds a layer for which no origin is named.
fn unnamed() -> AuthLayer {
    AuthLayer::new(ScriptedSource::default())
}

fn only_to(origins: &[&str]) -> AuthLayer {
    unnamed().only_to(origins).unwrap()
}

fn any_https() -> AuthLayer {
    unnamed().any_https()
}

/// A source that names these origins.
struct Naming(&'static [&'static str]);

impl TokenSource for Naming {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        Token::bearer("token-1")
    }

    fn origins(&self) -> Vec<Origin> {
        let origins = self.0.iter();
        origins.map(|origin| origin.parse().unwrap()).collect()
    }
}

// ---- which origins are named

#[tokio::test]
async fn with_nothing_named_each_absolute_request_is_an_error_that_says_how_to_name_origins() {
    let (source, mut fetches) = controlled_source();
    let layer = AuthLayer::new(source);
    for layer in [layer.clone(), layer.pass_elsewhere()] {
        for uri in [
            API,
            "http://api.example.com",
            "http://localhost:8080/",
            "http://[::1]",
        ] {
            // Later requests fail like the first.
            for _ in 0..2 {
                assert_eq!(fate(&layer, uri).await, Denied, "{uri}");
            }
            let error = denial(&layer, uri).await;
            for way in [
                "AuthLayer::only_to",
                "AuthLayer::any_https",
                "TokenSource::origins",
            ] {
                assert!(error.contains(way), "{error}");
            }
        }
    }
    fetches.assert_none().await;
}

#[tokio::test]
async fn with_nothing_named_a_cached_token_changes_nothing() {
    let layer = unnamed();
    layer.cache().token().await.unwrap();
    let mut client = layer.layer(Api::default());
    for _ in 0..3 {
        let request = Request::get(API).body(String::new()).unwrap();
        let error = call(&mut client, request).await.unwrap_err();
        assert!(error.downcast_ref::<Error>().unwrap().is_origin());
    }
    assert_eq!(client.get_ref().requests().len(), 0);
}

#[tokio::test]
async fn a_path_passes_with_the_credential_whatever_is_named() {
    for layer in [
        unnamed(),
        unnamed().pass_elsewhere(),
        any_https(),
        only_to(&[API]),
        only_to(&[API]).pass_elsewhere(),
        AuthLayer::new(Naming(&[API])),
    ] {
        for uri in ["/", "/v1/things?q=https://evil.example", "*"] {
            assert_eq!(fate(&layer, uri).await, WithCredential, "{layer:?} {uri}");
        }
    }
}

#[tokio::test]
async fn the_origins_that_a_source_names_get_it_and_no_other_does() {
    let layer = AuthLayer::new(Naming(&[API, "http://sidecar.internal:8080"]));
    for uri in [
        API,
        "https://API.example.com:443/v1",
        "http://sidecar.internal:8080/",
    ] {
        assert_eq!(fate(&layer, uri).await, WithCredential, "{uri}");
    }
    for uri in [
        "https://files.example.com",
        "http://localhost/",
        "http://api.example.com",
    ] {
        assert_eq!(fate(&layer, uri).await, Denied, "{uri}");
        assert!(denial(&layer, uri).await.contains("pass_elsewhere"));
    }
}

#[tokio::test]
async fn an_origin_may_be_a_value_instead_of_a_text() {
    for text in [API, "https://[2001:db8::1]:8443", "http://localhost:80"] {
        let origin: Origin = text.parse().unwrap();
        let layer = unnamed().only_to([origin]).unwrap();
        assert_eq!(fate(&layer, text).await, WithCredential, "{text}");
        assert_eq!(fate(&layer, "https://other.example.com").await, Denied);
    }
}

#[tokio::test]
async fn the_users_origins_replace_those_of_the_source() {
    let source = || AuthLayer::new(Naming(&["http://api.example.com"]));
    let layer = source().only_to(["https://files.example.com"]).unwrap();
    assert_eq!(
        fate(&layer, "https://files.example.com/").await,
        WithCredential
    );
    assert_eq!(fate(&layer, "http://api.example.com/").await, Denied);
    // The last `only_to` or `any_https` replaces the earlier ones.
    let layer = layer.only_to([API]).unwrap();
    assert_eq!(fate(&layer, API).await, WithCredential);
    assert_eq!(fate(&layer, "https://files.example.com/").await, Denied);
    let layer = source().any_https();
    assert_eq!(
        fate(&layer, "https://files.example.com/").await,
        WithCredential
    );
    assert_eq!(fate(&layer, "http://api.example.com/").await, Denied);
    let layer = any_https().only_to([API]).unwrap();
    assert_eq!(fate(&layer, "https://files.example.com/").await, Denied);
}

#[tokio::test]
async fn any_https_is_https_anywhere_and_loopback() {
    for uri in [
        "https://api.example.com/v1",
        "HTTPS://api.example.com",
        "https://api.example.com:8443/",
        "https://10.0.0.1/",
        "wss://api.example.com/socket",
        "http://localhost:8080/",
        "http://LOCALHOST/",
        "http://localhost./",
        "http://api.localhost/",
        "http://127.0.0.1/",
        "http://127.8.9.10:3000/",
        "http://[::1]:3000/",
        "http://user@localhost/",
    ] {
        assert_eq!(fate(&any_https(), uri).await, WithCredential, "{uri}");
    }
    for uri in [
        "http://api.example.com/",
        "ws://api.example.com/",
        "http://localhost.evil.com/",
        "http://localhost@evil.com/",
        "http://evil-localhost/",
        "http://127.0.0.1.nip.io/",
        "http://127.0.0.1@evil.com/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://[::2]/",
        // Not every network stack treats the next four names as loopback.
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "ftp://api.example.com/",
        "api.example.com:443",
        "localhost:8080",
        "https://api.example.com:99999/",
        "http://localhost:99999/",
    ] {
        assert_eq!(fate(&any_https(), uri).await, Denied, "{uri}");
        let layer = any_https().pass_elsewhere();
        assert_eq!(fate(&layer, uri).await, WithoutCredential, "{uri}");
    }
    let error = denial(&any_https(), "http://api.example.com/").await;
    assert!(
        error.contains("https") && error.contains("only_to"),
        "{error}"
    );
}

// ---- spellings

/// Spellings of `https://api.example.com`.
const SPELLINGS: [&str; 8] = [
    "https://api.example.com/v1",
    "https://API.EXAMPLE.COM/v1",
    "HTTPS://api.example.com/v1",
    "https://api.example.com:443/v1",
    "https://api.example.com:/v1",
    "https://user@api.example.com/v1",
    "https://user:pass@api.example.com:443/v1",
    "https://api.example.com?q=http://evil.example",
];

/// Spellings of other origins.
const OTHERS: [&str; 16] = [
    "http://api.example.com/",
    "http://api.example.com:443/",
    "https://api.example.com:80/",
    "https://api.example.com:8443/",
    "https://api.example.com./",
    "https://api.example.com.evil.example/",
    "https://evil.example/https://api.example.com",
    "https://api.example.com@evil.example/",
    "https://api.example.com:443@evil.example/",
    "https://xn--pi-5ja.example.com/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::1]/",
    "wss://api.example.com/",
    "http://localhost/",
];

#[tokio::test]
async fn one_origin_is_the_same_in_all_spellings() {
    for named in [API, "HTTPS://API.example.com:443"] {
        let layer = only_to(&[named]);
        for uri in SPELLINGS {
            assert_eq!(fate(&layer, uri).await, WithCredential, "{uri}");
        }
        for uri in OTHERS {
            assert_eq!(fate(&layer, uri).await, Denied, "{uri}");
        }
        for uri in ["https://api.example.com:99999/", "api.example.com:443"] {
            assert_eq!(fate(&layer, uri).await, Denied, "{uri}");
        }
    }
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn reqwests_urls_are_compared_in_the_same_way() {
    for layer in [only_to(&[API]), only_to(&[API]).pass_elsewhere()] {
        let denied = fate(&layer, "https://evil.example").await;
        for url in SPELLINGS {
            assert_eq!(fate_in_reqwest(&layer, url).await, WithCredential, "{url}");
        }
        for url in OTHERS.into_iter().chain(["file:///tmp/x", "data:,x"]) {
            assert_eq!(fate_in_reqwest(&layer, url).await, denied, "{url}");
        }
        // reqwest reads these URLs as browsers do. For example, a backslash counts as a slash.
        for (url, expected) in [
            ("https:\\\\api.example.com\\v1", &WithCredential),
            ("https://ap\ti.example.com", &WithCredential),
            ("https://%61pi.example.com", &WithCredential),
            ("https://evil.example\\@api.example.com", &denied),
            ("https://\u{430}pi.example.com", &denied),
        ] {
            assert_eq!(&fate_in_reqwest(&layer, url).await, expected, "{url}");
        }
    }
    for (url, expected) in [
        ("http://2130706433/", WithCredential),
        ("http://0x7f.1/", WithCredential),
        ("http://[::1]/", WithCredential),
        ("http://[::ffff:127.0.0.1]/", Denied),
        ("http://localhost.evil.com/", Denied),
        ("http://127.0.0.1.nip.io/", Denied),
        ("file:///tmp/x", Denied),
    ] {
        assert_eq!(fate_in_reqwest(&any_https(), url).await, expected, "{url}");
        assert_eq!(fate_in_reqwest(&unnamed(), url).await, Denied, "{url}");
    }
}

/// reqwest encodes an internationalized name for DNS, so `only_to` needs the same encoding.
#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_name_in_other_letters_is_named_as_dns_has_it() {
    let layer = only_to(&["https://xn--bcher-kva.example"]);
    let url = "https://b\u{fc}cher.example/";
    assert_eq!(fate_in_reqwest(&layer, url).await, WithCredential);
    assert_eq!(
        fate(&layer, "https://XN--bcher-kva.example/").await,
        WithCredential
    );
    assert!(unnamed().only_to(["https://b\u{fc}cher.example"]).is_err());
}

#[tokio::test]
async fn a_named_origin_may_be_cleartext_or_have_any_scheme() {
    let layer = only_to(&[
        "http://sidecar.internal:8080",
        "wss://socket.example.com:443",
        "ws://socket.internal",
        "http://[::ffff:127.0.0.1]:3000",
    ]);
    for uri in [
        "http://sidecar.internal:8080/",
        "wss://socket.example.com/",
        "ws://socket.internal:80/",
        "http://[::FFFF:127.0.0.1]:3000/",
    ] {
        assert_eq!(fate(&layer, uri).await, WithCredential, "{uri}");
    }
    for uri in [
        "http://sidecar.internal/",
        "https://sidecar.internal:8080/",
        "https://socket.example.com/",
        "http://127.0.0.1:3000/",
    ] {
        assert_eq!(fate(&layer, uri).await, Denied, "{uri}");
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
        "https://api.example.com#fragment",
        "https://user@api.example.com",
        "gopher://api.example.com",
        "https://api.example.com:99999",
        "https://api.example.com:",
        "https://api.example.com@api.example.com",
        "https://api example.com",
        "https://*.example.com",
        "https://*",
        "https://a.example.com,https://b.example.com",
        "https://a.example.com, https://b.example.com",
    ] {
        let error = wrong.parse::<Origin>().unwrap_err();
        assert!(
            error.is_config() && error.to_string().contains("scheme://host"),
            "{wrong}"
        );
        assert!(unnamed().only_to([wrong]).is_err());
    }
    let pattern = "https://*.example.com".parse::<Origin>().unwrap_err();
    assert!(pattern.to_string().contains("has a `*`"), "{pattern}");
    let none: [&str; 0] = [];
    assert!(unnamed().only_to(none).unwrap_err().is_config());
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
async fn the_error_names_the_origin_and_what_to_do_and_no_more_of_the_uri() {
    for layer in [unnamed(), any_https(), only_to(&[API])] {
        let error = denial(&layer, "http://user:pass@evil.example:81/path?key=s3cret").await;
        assert!(error.contains("http://evil.example:81"), "{error}");
        assert!(error.contains("only_to"), "{error}");
        for secret in ["user:", "pass@", "/path", "s3cret"] {
            assert!(!error.contains(secret), "{error}");
        }
    }
}

#[tokio::test]
async fn the_error_names_a_port_that_no_origin_has() {
    for layer in [unnamed(), any_https(), only_to(&[API])] {
        for (uri, what) in [
            ("https://api.example.com:99999/v1", "the port 99999"),
            ("https://me:s3cret@api.example.com:65536/", "the port 65536"),
            ("http://[::1]:99999/", "the port 99999"),
            (
                "https://api.example.com:s3cret/",
                "a port that isn't a number",
            ),
        ] {
            let error = denial(&layer, uri).await;
            assert!(error.contains(what), "{uri}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

// ---- when the origin is checked

#[tokio::test]
async fn origins_are_checked_before_the_fetch() {
    let (source, mut fetches) = controlled_source();
    let layer = AuthLayer::new(source).any_https();
    assert_eq!(fate(&layer, "http://api.example.com/").await, Denied);
    fetches.assert_none().await;
}

/// The layer must check the origin even if the clone has a private copy of the header.
#[tokio::test]
async fn origins_are_checked_on_the_hot_path_too() {
    for layer in [any_https(), only_to(&[API])] {
        let api = Api::accepting(["token-1"]);
        let mut client = layer.layer(api.clone());
        let request = |uri: &str| Request::get(uri).body(String::new()).unwrap();
        for _ in 0..3 {
            call(&mut client, request(API)).await.unwrap();
        }
        for uri in ["http://api.example.com", "http://evil.example"] {
            let error = call(&mut client, request(uri)).await.unwrap_err();
            assert!(error.downcast_ref::<Error>().unwrap().is_origin());
        }
        assert_eq!(api.requests().len(), 3);
    }
}

/// With `any_https`, the origin of the first request becomes the usual origin. The layer still
/// checks each request to another origin.
#[tokio::test]
async fn the_usual_origin_stands_for_no_other() {
    let layer = any_https();
    for _ in 0..2 {
        assert_eq!(
            fate(&layer, "https://user@api.example.com").await,
            WithCredential
        );
        for uri in ["http://user@api.example.com", "http://api.example.com:443"] {
            assert_eq!(fate(&layer, uri).await, Denied, "{uri}");
        }
        assert_eq!(
            fate(&layer, "https://files.example.com").await,
            WithCredential
        );
    }
}

// ---- requests sent without the credential

#[tokio::test]
async fn a_request_elsewhere_passes_without_the_credential_and_costs_no_fetch() {
    let (source, mut fetches) = controlled_source();
    let layer = AuthLayer::new(source)
        .only_to([API])
        .unwrap()
        .pass_elsewhere();
    // The second request passes like the first.
    for _ in 0..2 {
        assert_eq!(
            fate(&layer, "https://files.example.com/").await,
            WithoutCredential
        );
    }
    fetches.assert_none().await;
}

#[tokio::test]
async fn the_order_of_calls_makes_no_difference() {
    for layer in [
        unnamed().pass_elsewhere().only_to([API]).unwrap(),
        only_to(&[API]).pass_elsewhere(),
        AuthLayer::new(Naming(&[API])).pass_elsewhere(),
    ] {
        assert_eq!(fate(&layer, API).await, WithCredential);
        assert_eq!(
            fate(&layer, "https://evil.example").await,
            WithoutCredential
        );
    }
}

#[tokio::test]
async fn what_passes_without_the_credential_is_not_sent_again_and_says_nothing_of_the_token() {
    let source = ScriptedSource::default();
    let layer = AuthLayer::new(source.clone()).only_to([API]).unwrap();
    let layer = layer.pass_elsewhere();
    layer.cache().token().await.unwrap();
    // The server refuses every request.
    let api = Api::default();
    let mut client = layer.layer(api.clone());
    for _ in 0..3 {
        let request = Request::get("https://evil.example").body(String::new());
        let response = call(&mut client, request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 401);
        assert!(response.extensions().get::<NotReplayed>().is_none());
    }
    assert_eq!(credentials(&api), ["-"; 3]);
    layer.cache().token().await.unwrap();
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test]
async fn a_key_in_a_header_or_in_the_query_passes_nowhere_else_either() {
    let header = ApiKey::new("k3y").header("x-api-key").unwrap();
    let query = ApiKey::new("k3y").query("key").unwrap();
    for layer in [AuthLayer::new(header), AuthLayer::new(query)] {
        let layer = layer.only_to([API]).unwrap();
        let client = |layer: &AuthLayer| {
            layer.layer(service_fn(|request: Request<String>| async move {
                let sent = format!("{} {:?}", request.uri(), request.headers().get("x-api-key"));
                let is_sent = sent.contains("k3y") || request.headers().contains_key("x-api-key");
                Ok::<_, Infallible>(http::Response::new(is_sent))
            }))
        };
        let get = |uri: &str| Request::get(uri).body(String::new()).unwrap();
        let denied = client(&layer).oneshot(get("https://evil.example/")).await;
        assert!(
            denied
                .unwrap_err()
                .downcast_ref::<Error>()
                .unwrap()
                .is_origin()
        );
        let client = client(&layer.pass_elsewhere());
        for (uri, is_sent) in [
            ("https://evil.example/", false),
            ("https://api.example.com/", true),
        ] {
            let response = client.clone().oneshot(get(uri)).await.unwrap();
            assert_eq!(response.into_body(), is_sent, "{uri}");
        }
    }
}

#[tokio::test]
async fn the_callers_own_credential_goes_anywhere() {
    let (source, mut fetches) = controlled_source();
    let layer = AuthLayer::new(source);
    for layer in [
        layer.clone(),
        layer.clone().any_https(),
        layer.only_to([API]).unwrap(),
    ] {
        for uri in [
            "http://evil.example/",
            "https://evil.example:99999/",
            "evil.example:443",
        ] {
            let api = Api::default();
            let request = Request::get(uri).header("authorization", "Basic b3du");
            let request = request.body(String::new()).unwrap();
            layer.layer(api.clone()).oneshot(request).await.expect(uri);
            assert_eq!(credentials(&api), ["Basic b3du"]);
        }
    }
    fetches.assert_none().await;
}

#[tokio::test]
async fn origins_are_checked_where_a_credential_of_the_callers_is_replaced() {
    let api = Api::accepting(["token-1"]);
    let layer = only_to(&[API]).replace_existing(true);
    let mut client = layer.layer(api.clone());
    let own = |uri: &str| {
        let request = Request::get(uri).header("authorization", "Basic b3du");
        request.body(String::new()).unwrap()
    };
    for _ in 0..3 {
        call(&mut client, own(API)).await.unwrap();
    }
    let error = call(&mut client, own("https://evil.example"))
        .await
        .unwrap_err();
    assert!(error.downcast_ref::<Error>().unwrap().is_origin());
    assert_eq!(credentials(&api), ["Bearer token-1"; 3]);
    // With `pass_elsewhere`, the layer keeps the credential that the caller has set.
    let mut client = layer.pass_elsewhere().layer(api.clone());
    call(&mut client, own("https://evil.example"))
        .await
        .unwrap();
    assert_eq!(credentials(&api)[3], "Basic b3du");
}

#[tokio::test]
async fn a_path_that_some_clients_read_as_another_host_is_an_error() {
    for layer in [unnamed(), any_https(), only_to(&[API])] {
        for path in ["//evil.example/x", "/\\evil.example/x", "//"] {
            let Ok(request) = Request::get(path).body(String::new()) else {
                continue;
            };
            let api = Api::default();
            let error = layer.layer(api.clone()).oneshot(request).await.unwrap_err();
            let error = error.downcast_ref::<Error>().unwrap();
            assert!(error.is_origin(), "{path}: {error}");
            assert_eq!(api.requests().len(), 0);
        }
        assert_eq!(fate(&layer, "/x//y").await, WithCredential);
    }
}

/// A source that names its origin only when the layer asks for the second time.
#[derive(Default)]
struct NamingLater(ScriptedSource, std::sync::atomic::AtomicUsize);

impl TokenSource for NamingLater {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        self.0.fetch(reason).await
    }

    fn origins(&self) -> Vec<Origin> {
        match self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Vec::new(),
            _ => vec![API.parse().unwrap()],
        }
    }
}

#[tokio::test]
async fn a_source_that_named_nothing_at_first_is_asked_again() {
    let layer = AuthLayer::new(NamingLater::default());
    for _ in 0..3 {
        assert_eq!(fate(&layer, API).await, WithCredential);
        assert_eq!(fate(&layer, "https://evil.example").await, Denied);
    }
    let only = "https://other.example.com";
    let layer = AuthLayer::new(NamingLater::default())
        .only_to([only])
        .unwrap();
    assert_eq!(fate(&layer, API).await, Denied);
}
