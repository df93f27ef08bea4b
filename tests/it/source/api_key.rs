//! API keys: where they are attached, how they are read, and how they are rotated.

use std::convert::Infallible;
use std::fs;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::cache::Clock;
use tower_auth::{
    ApiKey, AuthLayer, BoxError, Error, Place, Reason, SecretSource, Token, TokenCache, TokenSource,
};
use tower_auth_test::run_until_idle;
use tower_service::Service;

use crate::support::{call, clocked, request};

/// An API that knows some keys, in a header or in the query. The API records the credentials that
/// it gets.
#[derive(Clone, Default)]
struct KeyedApi {
    good: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl KeyedApi {
    fn knowing<const N: usize>(keys: [&str; N]) -> Self {
        let api = Self::default();
        api.knows(keys);
        api
    }

    fn knows<const N: usize>(&self, keys: [&str; N]) {
        *self.good.lock().unwrap() = keys.map(String::from).to_vec();
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn client(
        &self,
    ) -> impl Service<Request<Full<Bytes>>, Response = Response<()>, Error = Infallible> + Clone + use<>
    {
        let api = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let shown = match request.headers().get("x-api-key") {
                Some(key) => key.to_str().unwrap().to_owned(),
                None => request.uri().query().unwrap_or("-").to_owned(),
            };
            let is_good = api.good.lock().unwrap().contains(&shown);
            api.seen.lock().unwrap().push(shown);
            let status = if is_good { 200 } else { 401 };
            ready(Ok(Response::builder().status(status).body(()).unwrap()))
        })
    }
}

async fn get(layer: &AuthLayer, api: &KeyedApi, uri: &str) -> Result<StatusCode, BoxError> {
    let request = Request::get(uri).body(Full::default()).unwrap();
    let response = layer.layer(api.client()).oneshot(request).await?;
    Ok(response.status())
}

const URI: &str = "https://api.example.com/things";

#[tokio::test]
async fn a_key_goes_in_its_header_as_it_is() {
    let api = KeyedApi::knowing(["k3y/+="]);
    let layer = crate::support::layer(ApiKey::new("k3y/+="));
    assert_eq!(get(&layer, &api, URI).await.unwrap(), StatusCode::OK);
    assert_eq!(api.seen(), ["k3y/+="]);

    let key = ApiKey::new("k3y")
        .header("Authorization")
        .unwrap()
        .prefix("ApiKey ");
    let token = key.fetch(Reason::First).await.unwrap();
    assert_eq!(token.header_value().unwrap(), "ApiKey k3y");
    assert_eq!(*token.place(), key.place());
}

#[tokio::test]
async fn a_key_goes_behind_the_query_that_is_there_and_percent_encoded() {
    let layer = crate::support::layer(ApiKey::new("a b&c=d/ü").query("api key").unwrap());
    let pair = "api+key=a+b%26c%3Dd%2F%C3%BC";
    for (uri, query) in [
        ("https://a.example", pair.to_owned()),
        ("https://a.example/", pair.to_owned()),
        ("https://a.example/x?", pair.to_owned()),
        (
            "https://a.example/x?q=%20a+b&empty&=&q=2",
            format!("q=%20a+b&empty&=&q=2&{pair}"),
        ),
        ("/only/a/path?q=1", format!("q=1&{pair}")),
    ] {
        let api = KeyedApi::default();
        get(&layer.clone().retry(false), &api, uri).await.unwrap();
        assert_eq!(api.seen(), [query], "{uri}");
    }
}

#[tokio::test]
async fn scheme_host_port_and_path_are_left_alone() {
    let layer = crate::support::layer(ApiKey::new("k").query("key").unwrap());
    let seen = Arc::new(Mutex::new(None));
    let put = Arc::clone(&seen);
    let client = tower::service_fn(move |request: Request<Full<Bytes>>| {
        *put.lock().unwrap() = Some(request.uri().clone());
        std::future::ready(Ok::<_, Infallible>(Response::new(())))
    });
    let request = Request::get("https://a.example:8443/x%2Fy?q=1").body(Full::default());
    layer.layer(client).oneshot(request.unwrap()).await.unwrap();
    let expected: Uri = "https://a.example:8443/x%2Fy?q=1&key=k".parse().unwrap();
    assert_eq!(seen.lock().unwrap().take(), Some(expected));
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn a_request_of_reqwests_has_it_in_its_query_too() {
    use tower_auth::layer::AuthRequest;

    let url = "https://a.example/x?q=a%20b&key=theirs".parse().unwrap();
    let mut request = reqwest::Request::new(reqwest::Method::GET, url);
    assert!(request.has_query("key") && !request.has_query("q2"));
    request.set_query("key", "key=ours").unwrap();
    assert_eq!(
        request.url().as_str(),
        "https://a.example/x?q=a%20b&key=ours"
    );
}

#[tokio::test]
async fn a_key_of_the_callers_own_wins_however_its_name_is_written() {
    let api = KeyedApi::default();
    let layer = crate::support::layer(ApiKey::new("ours").query("key").unwrap());
    for query in ["key=theirs", "q=1&k%65y=theirs", "key"] {
        get(&layer, &api, &format!("{URI}?{query}")).await.unwrap();
        assert_eq!(api.seen(), [query]);
    }
    // If the layer replaces existing credentials, our key replaces all keys of that name in the
    // query.
    let layer = layer.replace_existing(true).retry(false);
    get(&layer, &api, &format!("{URI}?key=a&q=1&k%65y=b"))
        .await
        .unwrap();
    assert_eq!(api.seen(), ["q=1&key=ours"]);
}

#[tokio::test]
async fn a_key_in_the_query_goes_only_where_it_belongs() {
    let layer = crate::support::layer(ApiKey::new("planted").query("key").unwrap());
    let api = KeyedApi::default();
    let error = get(&layer, &api, "http://api.example.com/x?q=1")
        .await
        .unwrap_err();
    let error = error.downcast_ref::<Error>().unwrap();
    assert!(error.is_origin() && !format!("{error:?}").contains("planted"));
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn a_request_without_a_place_for_a_query_is_an_error() {
    let layer = crate::support::layer(ApiKey::new("planted").query("key").unwrap());
    let api = KeyedApi::default();
    let mut request = request("");
    *request.method_mut() = http::Method::CONNECT;
    *request.uri_mut() = "api.example.com:443".parse().unwrap();
    let layer = layer.only_to(["https://api.example.com"]).unwrap();
    let error = layer
        .layer(api.client())
        .oneshot(request)
        .await
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("planted"));
    assert!(api.seen().is_empty());
}

#[test]
fn nothing_shows_a_key() {
    let (rotating, rotation) = ApiKey::rotating("planted");
    let token = Token::query("key", "planted").unwrap();
    let shown = format!(
        "{:?} {rotating:?} {rotation:?} {token:?}",
        ApiKey::new("planted").prefix("Key ")
    );
    assert!(!shown.contains("planted"), "{shown}");
    assert_eq!(token.secret(), "planted");
    assert_eq!(*token.place(), Place::Query("key".into()));
    assert!(token.header_value().is_none());
}

#[test]
fn what_can_not_be_a_place_is_refused_at_once() {
    for name in ["", "two words", "line\nbreak", "ü"] {
        assert!(
            ApiKey::new("k").header(name).unwrap_err().is_config(),
            "{name}"
        );
    }
    assert!(ApiKey::new("k").query("").unwrap_err().is_config());
    assert!(Token::query("", "k").unwrap_err().is_illegal_token());
    assert!(Token::query("key", "").unwrap_err().is_illegal_token());
}

#[tokio::test]
async fn a_key_that_is_empty_or_illegal_is_an_error_and_nothing_is_sent() {
    for key in ["", "line\nbreak"] {
        let api = KeyedApi::default();
        let layer = crate::support::layer(ApiKey::new(key));
        get(&layer, &api, URI).await.unwrap_err();
        assert!(api.seen().is_empty());
    }
}

#[tokio::test]
async fn a_file_that_changes_is_picked_up_within_the_interval_and_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, "first\n").unwrap();
    let clock = Clock::manual();
    let key = ApiKey::new(SecretSource::file(&path)).reread_every(Duration::from_secs(60));
    let cache = clocked(key, &clock).build();
    let secret = async |cache: &TokenCache| cache.token().await.unwrap().secret().to_owned();
    assert_eq!(secret(&cache).await, "first");
    fs::write(&path, "second\n").unwrap();
    clock.advance(Duration::from_secs(59));
    assert_eq!(secret(&cache).await, "first");
    clock.advance(Duration::from_secs(1));
    let mut watch = cache.subscribe();
    watch.mark_unchanged();
    assert_eq!(secret(&cache).await, "first");
    let completed = |status: &tower_auth::cache::Status| status.fetching().is_none();
    watch.changed().await.unwrap();
    drop(watch.wait_for(completed).await.unwrap());
    assert_eq!(secret(&cache).await, "second");
}

#[tokio::test]
async fn a_file_that_changed_is_read_again_when_the_old_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, "old").unwrap();
    let api = KeyedApi::knowing(["old"]);
    let layer = crate::support::layer(ApiKey::new(SecretSource::file(&path)));
    assert_eq!(get(&layer, &api, URI).await.unwrap(), StatusCode::OK);
    fs::write(&path, "new").unwrap();
    api.knows(["new"]);
    assert_eq!(get(&layer, &api, URI).await.unwrap(), StatusCode::OK);
    assert_eq!(api.seen(), ["old", "old", "new"]);
}

#[tokio::test]
async fn a_rotation_fails_no_request_whichever_side_is_first() {
    let (key, rotation) = ApiKey::rotating("old");
    let api = KeyedApi::knowing(["old"]);
    let clock = Clock::manual();
    let layer = crate::support::layer_from(clocked(key, &clock).build());
    let mut client = layer.layer(api.client());
    let mut ok = async || {
        clock.advance(Duration::from_secs(5));
        let response = call(&mut client, request("")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        api.seen()
    };
    assert_eq!(ok().await, ["old"]);
    // The new key is configured before the API knows it. So the old key stays in use.
    rotation.offer("new");
    assert_eq!(ok().await, ["old"]);
    api.knows(["old", "new"]);
    assert_eq!(ok().await, ["old"]);
    api.knows(["new"]);
    assert_eq!(ok().await, ["old", "new"]);
    assert_eq!(ok().await, ["new"]);
    // The API accepts only the old key again, which the source still has.
    api.knows(["old"]);
    assert_eq!(ok().await, ["new", "old"]);
}

#[tokio::test]
async fn a_key_that_is_refused_for_good_costs_nothing_but_its_refusals() {
    let api = KeyedApi::default();
    let layer = crate::support::layer(ApiKey::new("revoked"));
    for _ in 0..100 {
        assert_eq!(
            get(&layer, &api, URI).await.unwrap(),
            StatusCode::UNAUTHORIZED
        );
    }
    run_until_idle().await;
    assert_eq!(api.seen().len(), 100);
}

#[tokio::test]
async fn a_switch_uses_the_offered_key_before_a_server_refuses_the_other_and_can_go_back() {
    let (key, rotation) = ApiKey::rotating("old");
    let api = KeyedApi::knowing(["old", "new"]);
    let clock = Clock::manual();
    let layer = crate::support::layer_from(clocked(key, &clock).build());
    let mut client = layer.layer(api.client());
    let mut ok = async || {
        clock.advance(Duration::from_secs(5));
        let response = call(&mut client, request("")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        api.seen()
    };
    assert_eq!(ok().await, ["old"]);
    rotation.offer("new");
    rotation.switch();
    assert_eq!(ok().await, ["old"]);
    assert_eq!(layer.cache().refresh_now().await.unwrap().secret(), "new");
    assert_eq!(ok().await, ["new"]);
    // A second fetch doesn't switch back to the old key.
    layer.cache().refresh_now().await.unwrap();
    assert_eq!(ok().await, ["new"]);
    api.knows(["old"]);
    assert_eq!(ok().await, ["new", "old"]);
}

#[tokio::test]
async fn a_refusal_after_a_switch_was_requested_swaps_the_keys_once() {
    let (key, rotation) = ApiKey::rotating("old");
    let next = async |reason| key.fetch(reason).await.unwrap().secret().to_owned();
    rotation.offer("new");
    rotation.switch();
    assert_eq!(next(Reason::Refused).await, "new");
    assert_eq!(next(Reason::Forced).await, "new");
    assert_eq!(next(Reason::Refused).await, "old");
}

#[tokio::test]
async fn a_switch_needs_a_key_that_was_offered_before() {
    let (key, rotation) = ApiKey::rotating("old");
    let next = async |reason| key.fetch(reason).await.unwrap().secret().to_owned();
    rotation.switch();
    assert_eq!(next(Reason::Forced).await, "old");
    rotation.switch();
    rotation.offer("new");
    assert_eq!(next(Reason::Forced).await, "old");
    rotation.switch();
    assert_eq!(next(Reason::Forced).await, "new");
}

#[tokio::test]
async fn after_a_rotation_no_refusal_brings_back_the_deleted_key() {
    for finish_first in [true, false] {
        let (key, rotation) = ApiKey::rotating("old");
        let next = async |reason| key.fetch(reason).await.unwrap().secret().to_owned();
        rotation.offer("new");
        rotation.switch();
        if !finish_first {
            assert_eq!(next(Reason::Forced).await, "new");
        }
        rotation.finish();
        for reason in [Reason::Forced, Reason::Refused, Reason::Refused] {
            assert_eq!(next(reason).await, "new", "{finish_first}");
        }
        rotation.offer("newer");
        assert_eq!(next(Reason::Refused).await, "newer");
    }
    // Without a switch, `finish` keeps the old key.
    let (key, rotation) = ApiKey::rotating("old");
    rotation.offer("new");
    rotation.finish();
    assert_eq!(key.fetch(Reason::Refused).await.unwrap().secret(), "old");
}
