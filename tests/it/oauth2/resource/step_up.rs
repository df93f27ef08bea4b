//! A valid token that isn't sufficient: what callers get, and the source that requests more.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::sync::Notify;
use tower::{Layer, Service, service_fn};
use tower_auth::challenge::StepUpChallenge;
use tower_auth::oauth2::{Client, ClientCredentials, StepUp, StepUpRequest};
use tower_auth::{AuthLayer, BoxError, Error, NotReplayed, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedSource, run_until_idle};

use crate::support::serving::{ServerResponse, respond, serving};
use crate::support::token_server::{ID, SECRET, URL};
use crate::support::{call, paused, request};

/// A server that records each request, and issues a token that contains the request.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<String>>>,
    /// The scope that the server doesn't grant.
    withholds: Arc<Mutex<Option<&'static str>>>,
    /// If set, the server waits for this signal before it responds.
    may_respond: Option<Arc<Notify>>,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let transport = serving(move |_, body| server.clone().respond(body));
        Client::new(URL, ID, SECRET).unwrap().transport(transport)
    }

    async fn respond(self, body: Bytes) -> Result<ServerResponse, BoxError> {
        let param = |name: &str| {
            let mut pairs = form_urlencoded::parse(&body);
            let found = pairs.find(|(of, _)| of == name);
            found.map_or(String::new(), |(_, value)| value.into_owned())
        };
        let asked = [param("scope"), param("acr_values"), param("max_age")];
        let asked = asked.join("|").trim_end_matches('|').to_owned();
        self.asked.lock().unwrap().push(asked.clone());
        if let Some(may_respond) = &self.may_respond {
            may_respond.notified().await;
        }
        let withheld = *self.withholds.lock().unwrap();
        if withheld.is_some_and(|scope| asked.contains(scope)) {
            return Ok(respond(400, r#"{"error":"invalid_scope"}"#));
        }
        let number = self.asked.lock().unwrap().len();
        let token = format!(r#"{{"access_token":"{number}:{asked}","expires_in":3600}}"#);
        Ok(respond(200, token))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Builds a source that requests `read`. It may also request `write` and `admin`.
    fn source(&self) -> StepUp {
        let client = self.client();
        StepUp::new(move |wanted| build(client.clone(), wanted))
            .scope("read")
            .allow("write admin")
            .allow_acr("mfa hardware")
    }
}

fn build(client: Client, wanted: &StepUpRequest) -> Result<ClientCredentials, Error> {
    let mut source = ClientCredentials::with_client(client).scope(wanted.scope());
    if let Some(acr_values) = wanted.acr_values() {
        source = source.param("acr_values", acr_values)?;
    }
    if let Some(max_age) = wanted.max_age() {
        source = source.param("max_age", max_age.as_secs().to_string())?;
    }
    Ok(source)
}

/// An API that requires `wants` in the token. If the token lacks it, the API responds with
/// `challenge`.
#[derive(Clone)]
struct Wanting {
    wants: &'static str,
    status: u16,
    challenge: &'static str,
    seen: Arc<Mutex<Vec<String>>>,
}

const WRITE: &str = r#"Bearer error="insufficient_scope", scope="write""#;

fn wanting(wants: &'static str, status: u16, challenge: &'static str) -> Wanting {
    Wanting {
        wants,
        status,
        challenge,
        seen: Arc::default(),
    }
}

impl Wanting {
    fn respond(&self, request: &Request<Full<Bytes>>) -> Response<()> {
        let credential = request.headers()[AUTHORIZATION].to_str().unwrap();
        self.seen.lock().unwrap().push(credential.to_owned());
        if credential.contains(self.wants) {
            return Response::new(());
        }
        let response = Response::builder().status(self.status);
        let response = response.header("www-authenticate", self.challenge);
        response.body(()).unwrap()
    }

    fn service(
        &self,
    ) -> impl Service<
        Request<Full<Bytes>>,
        Response = Response<()>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + use<> {
        let api = self.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            std::future::ready(Ok::<_, Infallible>(api.respond(&request)))
        })
    }
}

async fn ask(layer: &AuthLayer, api: &Wanting) -> Result<Response<()>, BoxError> {
    call(&mut layer.layer(api.service()), request("")).await
}

fn why(response: &Response<()>) -> Option<&NotReplayed> {
    response.extensions().get()
}

#[tokio::test]
async fn a_403_for_want_of_scope_says_which_and_costs_no_fetch() {
    let source = ScriptedSource::default();
    let layer = crate::support::layer(source.clone());
    let challenge = r#"Basic, DPoP error="insufficient_scope", scope="write delete""#;
    let response = ask(&layer, &wanting("more", 403, challenge)).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let wanted: &StepUpChallenge = response.extensions().get().unwrap();
    assert_eq!(wanted.scope(), Some("write delete"));
    assert!(wanted.is_insufficient_scope() && !wanted.is_insufficient_user_authentication());
    assert!(matches!(
        why(&response),
        Some(NotReplayed::InsufficientScope)
    ));
    assert_eq!(source.tokens_issued(), 1);
    assert!(layer.cache().status().is_accepted());
}

#[tokio::test]
async fn a_401_for_want_of_a_better_login_says_which_and_keeps_the_token() {
    let source = ScriptedSource::default();
    let layer = crate::support::layer(source.clone());
    let challenge =
        r#"Bearer error="insufficient_user_authentication", acr_values="mfa pop", max_age="300""#;
    let response = ask(&layer, &wanting("more", 401, challenge)).await.unwrap();
    let wanted: &StepUpChallenge = response.extensions().get().unwrap();
    assert!(wanted.is_insufficient_user_authentication() && !wanted.is_insufficient_scope());
    assert_eq!(wanted.acr_values(), Some("mfa pop"));
    assert_eq!(wanted.max_age(), Some(Duration::from_secs(300)));
    assert!(matches!(
        why(&response),
        Some(NotReplayed::InsufficientUserAuthentication)
    ));
    assert_eq!(layer.cache().token().await.unwrap().secret(), "token-1");
    assert_eq!(source.tokens_issued(), 1);
}

#[tokio::test]
async fn a_403_that_says_nothing_of_scope_is_left_alone() {
    let layer = crate::support::layer(Server::default().source());
    for challenge in ["Bearer", r#"Bearer error="invalid_token""#, "Basic"] {
        let response = ask(&layer, &wanting("more", 403, challenge)).await.unwrap();
        assert!(response.extensions().get::<StepUpChallenge>().is_none());
        assert!(why(&response).is_none());
    }
}

#[tokio::test]
async fn scope_that_is_allowed_is_added_and_the_request_sent_again() {
    for status in [403, 401] {
        let server = Server::default();
        let layer = crate::support::layer(server.source());
        let api = wanting("write", status, WRITE);
        assert_eq!(ask(&layer, &api).await.unwrap().status(), StatusCode::OK);
        assert_eq!(server.asked(), ["read", "read write"]);
        assert_eq!(
            *api.seen.lock().unwrap(),
            ["Bearer 1:read", "Bearer 2:read write"]
        );
        // Later tokens keep the additional scope.
        assert_eq!(ask(&layer, &api).await.unwrap().status(), StatusCode::OK);
        let admin = r#"Bearer error="insufficient_scope", scope="admin write""#;
        let admin = wanting("admin", status, admin);
        assert_eq!(ask(&layer, &admin).await.unwrap().status(), StatusCode::OK);
        assert_eq!(server.asked()[2..], ["read write admin"]);
    }
}

#[tokio::test]
async fn scope_that_is_not_allowed_is_never_asked_for() {
    let server = Server::default();
    let layer = crate::support::layer(server.source());
    let greedy = r#"Bearer error="insufficient_scope", scope="write root""#;
    let response = ask(&layer, &wanting("root", 403, greedy)).await.unwrap();
    assert!(matches!(
        why(&response),
        Some(NotReplayed::InsufficientScope)
    ));
    let silent = wanting("more", 403, r#"Bearer error="insufficient_scope""#);
    assert!(why(&ask(&layer, &silent).await.unwrap()).is_some());
    assert_eq!(server.asked(), ["read"]);
}

#[tokio::test]
async fn an_api_that_is_never_content_costs_one_fetch() {
    let server = Server::default();
    let layer = crate::support::layer(server.source());
    let api = wanting("never", 403, WRITE);
    for _ in 0..5 {
        let response = ask(&layer, &api).await.unwrap();
        assert!(matches!(
            why(&response),
            Some(NotReplayed::InsufficientScope)
        ));
    }
    assert_eq!(server.asked(), ["read", "read write"]);
    assert_eq!(api.seen.lock().unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn scope_that_is_withheld_is_not_asked_for_again_and_the_old_token_stays() {
    let server = Server::default();
    *server.withholds.lock().unwrap() = Some("write");
    let layer = crate::support::layer_from(paused(server.source()).build());
    let response = ask(&layer, &wanting("write", 403, WRITE)).await.unwrap();
    match why(&response) {
        Some(NotReplayed::Fetch(error)) => assert!(error.is_invalid_scope()),
        other => panic!("{other:?}"),
    }
    assert_eq!(layer.cache().token().await.unwrap().secret(), "1:read");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(120)).await;
        let response = ask(&layer, &wanting("write", 403, WRITE)).await.unwrap();
        assert!(matches!(
            why(&response),
            Some(NotReplayed::InsufficientScope)
        ));
    }
    assert_eq!(server.asked(), ["read", "read write"]);
    // The scope that the server withheld isn't requested again.
    *server.withholds.lock().unwrap() = None;
    let next = layer.cache().refresh_now().await.unwrap();
    assert_eq!(next.secret(), "3:read");
}

#[tokio::test]
async fn many_who_want_the_same_at_once_cost_one_fetch_and_others_are_served_meanwhile() {
    let may_respond = Arc::new(Notify::new());
    let server = Server {
        may_respond: Some(Arc::clone(&may_respond)),
        ..Server::default()
    };
    let layer = crate::support::layer(server.source());
    may_respond.notify_one();
    layer.cache().token().await.unwrap();
    let api = wanting("write", 403, WRITE);
    let asking = tokio::spawn({
        let (layer, api) = (layer.clone(), api.clone());
        async move { join_all((0..20).map(|_| ask(&layer, &api))).await }
    });
    run_until_idle().await;
    assert_eq!(server.asked(), ["read", "read write"]);
    let modest = ask(&layer, &wanting("read", 403, WRITE)).await.unwrap();
    assert_eq!(modest.status(), StatusCode::OK);
    may_respond.notify_one();
    for response in asking.await.unwrap() {
        assert_eq!(response.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_late_403_for_an_older_token_picks_up_the_newer_without_a_fetch() {
    let server = Server::default();
    let layer = crate::support::layer(server.source());
    let api = wanting("write", 403, WRITE);
    let may_refuse = Arc::new(Notify::new());
    let late = {
        let (api, may_refuse) = (api.clone(), Arc::clone(&may_refuse));
        service_fn(move |request: Request<Full<Bytes>>| {
            let (api, may_refuse) = (api.clone(), Arc::clone(&may_refuse));
            async move {
                let response = api.respond(&request);
                if response.status() == 403 {
                    may_refuse.notified().await;
                }
                Ok::<_, Infallible>(response)
            }
        })
    };
    let mut slow = layer.layer(late);
    let slow = tokio::spawn(async move { call(&mut slow, request("")).await });
    run_until_idle().await;
    assert_eq!(ask(&layer, &api).await.unwrap().status(), StatusCode::OK);
    may_refuse.notify_one();
    assert_eq!(
        slow.await.unwrap().unwrap().status(),
        StatusCode::OK,
        "{:?}",
        api.seen.lock().unwrap()
    );
    assert_eq!(server.asked(), ["read", "read write"]);
}

#[tokio::test(start_paused = true)]
async fn a_login_is_stepped_up_as_far_as_allowed_and_once_in_half_a_minute() {
    let server = Server::default();
    let layer = crate::support::layer_from(paused(server.source()).build());
    let mfa = r#"Bearer error="insufficient_user_authentication", acr_values="biometric mfa", max_age=60"#;
    let api = wanting("mfa", 401, mfa);
    assert_eq!(ask(&layer, &api).await.unwrap().status(), StatusCode::OK);
    assert_eq!(server.asked(), ["read", "read|mfa|60"]);
    // An API that refuses every token causes no further login now, and one more after 30 s.
    let never = wanting("never", 401, mfa);
    for _ in 0..3 {
        assert!(why(&ask(&layer, &never).await.unwrap()).is_some());
    }
    assert_eq!(server.asked().len(), 2);
    tokio::time::advance(Duration::from_secs(31)).await;
    for _ in 0..3 {
        assert!(why(&ask(&layer, &never).await.unwrap()).is_some());
    }
    assert_eq!(server.asked()[2..], ["read|mfa|60"]);
    let unknown = r#"Bearer error="insufficient_user_authentication", acr_values="biometric""#;
    tokio::time::advance(Duration::from_secs(31)).await;
    let response = ask(&layer, &wanting("never", 401, unknown)).await.unwrap();
    assert!(matches!(
        why(&response),
        Some(NotReplayed::InsufficientUserAuthentication)
    ));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn without_a_replay_there_is_no_step_up() {
    let server = Server::default();
    let layer = crate::support::layer(server.source()).retry(false);
    let response = ask(&layer, &wanting("write", 403, WRITE)).await.unwrap();
    assert!(matches!(
        why(&response),
        Some(NotReplayed::InsufficientScope)
    ));
    assert!(response.extensions().get::<StepUpChallenge>().is_some());
    let layer = crate::support::layer(server.source()).body_limit(0);
    let body = http_body_util::combinators::UnsyncBoxBody::new(Full::from("too long to keep"));
    let api = service_fn(
        |request: Request<http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>>| async {
            request.into_body().collect().await?;
            let response = Response::builder().status(403);
            Ok::<_, Infallible>(response.header("www-authenticate", WRITE).body(()).unwrap())
        },
    );
    let request = Request::post("https://api.example.com").body(body).unwrap();
    let response = call(&mut layer.layer(api), request).await.unwrap();
    assert!(why(&response).is_some());
    assert_eq!(server.asked(), ["read", "read"]);
}

#[cfg(feature = "reqwest")]
#[tokio::test]
async fn no_scope_is_asked_for_because_of_what_another_origin_said() {
    use reqwest::ResponseBuilderExt;
    let server = Server::default();
    let layer = crate::support::layer(server.source());
    let api = service_fn(|_: reqwest::Request| async {
        let response = Response::builder().status(403);
        let response = response.header("www-authenticate", WRITE);
        let elsewhere = "https://evil.example.com".parse().unwrap();
        Ok::<_, Infallible>(reqwest::Response::from(
            response.url(elsewhere).body("").unwrap(),
        ))
    });
    let url = "https://api.example.com".parse().unwrap();
    let request = reqwest::Request::new(http::Method::GET, url);
    let response = call(&mut layer.layer(api), request).await.unwrap();
    assert!(matches!(
        response.extensions().get(),
        Some(NotReplayed::Elsewhere)
    ));
    assert_eq!(server.asked(), ["read"]);
}

/// A source that records its challenges and its close.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl TokenSource for Told {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        Token::bearer("told")
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        let last = last.map(|token| token.secret().to_owned());
        self.0.lock().unwrap().push(format!("closed with {last:?}"));
        Ok(())
    }

    fn challenged(&self, _: &Token, challenges: &[tower_auth::challenge::Challenge]) -> bool {
        let schemes = challenges
            .iter()
            .map(tower_auth::challenge::Challenge::scheme);
        self.0.lock().unwrap().extend(schemes.map(str::to_owned));
        false
    }
}

#[tokio::test]
async fn a_source_hears_of_each_refusal_and_one_around_it_passes_all_on() {
    for wrapped in [false, true] {
        let told = Told::default();
        let inner = told.clone();
        let cache = if wrapped {
            TokenCache::new(Arc::new(StepUp::new(move |_| Ok(inner.clone()))))
        } else {
            TokenCache::new(inner)
        };
        let layer = crate::support::layer_from(cache);
        ask(&layer, &wanting("never", 401, "DPoP, Basic"))
            .await
            .unwrap();
        layer.cache().close().await;
        assert_eq!(
            *told.0.lock().unwrap(),
            ["DPoP", "Basic", r#"closed with Some("told")"#]
        );
    }
}
