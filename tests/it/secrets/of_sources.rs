//! No source shows a secret: not in what it prints of itself and its tokens, and not in an error or
//! the log when its server gives back all that it was sent.

use std::convert::Infallible;
use std::fmt;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use secrecy::SecretString;
use tower::{Layer, ServiceExt};
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::{
    Client, ClientCredentials, DeviceAuthorization, EndpointUrl, JwtBearer, ProtectedResource,
    RefreshToken, StepUp, TokenExchange,
};
use tower_auth::{
    ApiKey, AuthLayer, Error, NotReplayed, Reason, SecretSource, Token, TokenCache, TokenSource,
};
use tower_service::Service;

use crate::support::echo::Echo;
use crate::support::request;
use crate::support::watch::Watch;

const URL: &str = "https://id.example.com/token?key=planted-key";
const REVOKE: &str = "https://id.example.com/revoke?key=planted-key";
/// With characters that each way of writing a request spells differently, and long enough to sign.
const SECRET: &str = "planted+client/secret: \"of\" <the>\\planted & client";
const TOKEN: &str = "planted/token+with~signs=&more";

/// Has the source fetch, be refused, replay and close, with each odd answer to each of its first
/// requests.
async fn drive<S>(make: impl AsyncFn(&Watch, Echo) -> Result<S, Error>)
where
    S: TokenSource + fmt::Debug,
{
    let watch = Watch::start();
    // A protected resource has asked six times before it has a second token.
    for works_for in 0..8 {
        let mut odd = 0;
        loop {
            let echo = Echo::new(works_for, odd);
            match make(&watch, echo.clone()).await {
                Ok(source) if odd % 2 == works_for % 2 => alone(&watch, source).await,
                Ok(source) => below_a_layer(&watch, source, odd / 2).await,
                Err(error) => watch.print_error(&error),
            }
            watch.end_round();
            odd += 1;
            if odd >= echo.odd_answers() {
                break;
            }
        }
    }
    watch.end();
}

async fn alone<S>(watch: &Watch, source: S)
where
    S: TokenSource + fmt::Debug,
{
    watch.print(&source);
    let mut last = None;
    for reason in [Reason::First, Reason::Refused] {
        match source.fetch(reason).await {
            Ok(token) => {
                watch.print(&token);
                watch.print(&token.header_value());
                last = Some(token);
            }
            Err(error) => watch.print_error(&error),
        }
        watch.print(&source);
    }
    if let Err(error) = source.close(last).await {
        watch.print_error(&error);
    }
}

async fn below_a_layer<S>(watch: &Watch, source: S, how: usize)
where
    S: TokenSource + fmt::Debug,
{
    // One attempt says all: between two there is a pause.
    let builder = TokenCache::builder(source).fetch_attempts(1);
    watch.print(&builder);
    let cache = builder.build();
    let layer = AuthLayer::from(cache.clone());
    let client = layer.layer(Refusing { how });
    for _ in 0..2 {
        match client.clone().oneshot(request("")).await {
            Ok(response) => {
                let why = response.extensions().get::<NotReplayed>();
                watch.print(&why);
                watch.text(&why.map(ToString::to_string).unwrap_or_default());
                if let Some(NotReplayed::Fetch(error)) = why {
                    watch.print_error(error);
                }
            }
            Err(error) => watch.print_error(error.downcast_ref().unwrap()),
        }
        watch.print(&client);
        watch.print(&layer);
        watch.print(&cache.status());
    }
    cache.close().await;
    watch.print(&cache);
    watch.print_error(&cache.token().await.unwrap_err());
}

/// An API that takes no credential, and says which, in each of the ways that the layer listens to.
#[derive(Clone, Debug)]
struct Refusing {
    how: usize,
}

impl Service<Request<Full<Bytes>>> for Refusing {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let credential = credential(request.headers());
        let challenge = match self.how % 4 {
            0 => format!(r#"Bearer realm="{credential}", error="invalid_token""#),
            1 => format!(r#"Bearer error="insufficient_scope", scope="write {credential}""#),
            2 => {
                let metadata = "https://api.example.com/.well-known/oauth-protected-resource";
                format!(r#"Bearer scope="{credential}", resource_metadata="{metadata}""#)
            }
            _ => String::from(r#"DPoP error="use_dpop_nonce""#),
        };
        let mut response = Response::builder().status(401).body(()).unwrap();
        let headers = response.headers_mut();
        headers.insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
        let nonce = HeaderValue::from_static("planted-nonce-2");
        headers.insert(HeaderName::from_static("dpop-nonce"), nonce);
        ready(Ok(response))
    }
}

/// What of it may stand in a host's name.
fn credential(headers: &HeaderMap) -> String {
    let names = [AUTHORIZATION, COOKIE, HeaderName::from_static("x-api-key")];
    let value = names.iter().find_map(|name| headers.get(name));
    let text = value.map_or("", |value| value.to_str().unwrap());
    let (_, last) = text.rsplit_once([' ', '=']).unwrap_or(("", text));
    last.replace(['"', '\\', '/', '<', '>', '&', '+', '~'], "")
}

fn client(echo: Echo) -> Client {
    let client = Client::with_transport(URL, "client", SECRET, echo).unwrap();
    client.revoke_at(REVOKE).unwrap()
}

fn public(echo: Echo) -> Client {
    let client = Client::public_with_transport(URL, "client", echo).unwrap();
    client.revoke_at(REVOKE).unwrap()
}

#[tokio::test]
async fn client_credentials_show_no_secret_however_they_prove_themselves() {
    let ways: [fn(Client) -> Client; 4] = [
        |client| client,
        Client::basic_auth,
        Client::json,
        |client| client.client_assertion(TOKEN),
    ];
    for way in ways {
        drive(async |watch, echo| {
            let client = way(client(echo));
            watch.print(&client);
            ClientCredentials::with_client(client).param("key", "planted & param")
        })
        .await;
    }
}

#[cfg(feature = "jwt")]
#[tokio::test]
async fn a_client_that_signs_shows_neither_its_key_nor_what_it_signed() {
    use tower_auth::oauth2::{JwsAlgorithm, SignedJwt, SigningKey};

    // What is around a key is passed over, so that the word can be there.
    let pem = || format!("planted\n{}", crate::support::keys::EC_PKCS8);
    let jwk = || crate::support::keys::ED_JWK.replacen('{', "{\"planted\":\"planted\",", 1);
    let keys: [&dyn Fn() -> Result<SigningKey, Error>; 3] = [
        &|| SigningKey::pem(JwsAlgorithm::ES256, pem()),
        &|| SigningKey::jwk(jwk()),
        &|| SigningKey::hmac(SECRET),
    ];
    let watch = Watch::start();
    for key in keys {
        watch.print(&key().unwrap());
        watch.print(&public(Echo::new(0, 0)).private_key_jwt(key().unwrap()));
    }
    watch.end();
    drive(async |_, echo| {
        let client = public(echo).private_key_jwt(keys[0]()?)?;
        Ok(ClientCredentials::with_client(client))
    })
    .await;
    drive(async |watch, echo| {
        let jwt = SignedJwt::new(keys[1]()?).claim("note", "planted-claim")?;
        watch.print(&jwt);
        watch.print(&SecretSource::from(jwt.clone()));
        Ok(JwtBearer::new(
            public(echo).client_assertion(jwt.clone()),
            jwt,
        ))
    })
    .await;
    drive(async |_, echo| Ok(ClientCredentials::with_client(client(echo).secret_jwt()?))).await;

    let watch = Watch::start();
    for wrong in [
        SigningKey::pem(JwsAlgorithm::RS256, pem()),
        SigningKey::pem(JwsAlgorithm::ES256, "-----BEGIN PRIVATE KEY-----\nplanted"),
        SigningKey::jwk(format!(
            "{{\"kty\":\"EC\",\"crv\":\"planted\",\"d\":{SECRET:?}}}"
        )),
        SigningKey::jwk(format!("{{\"kty\":{SECRET:?}}}")),
        SigningKey::jwk(format!("{{\"planted\": {SECRET:?}")),
        SigningKey::hmac("planted"),
        SigningKey::hmac(SECRET).unwrap().x5t("planted"),
    ] {
        watch.print_error(&wrong.unwrap_err());
    }
    watch.end();
}

#[tokio::test]
async fn a_refresh_token_does_not_show() {
    drive(async |_, echo| RefreshToken::new(client(echo), TOKEN).param("key", "planted param"))
        .await;
}

#[tokio::test]
async fn an_assertion_does_not_show() {
    drive(async |_, echo| JwtBearer::new(client(echo), TOKEN).param("key", "planted param")).await;
}

#[tokio::test]
async fn an_exchange_shows_neither_the_subject_nor_the_actor() {
    drive(async |_, echo| {
        let own = ClientCredentials::with_client(client(echo.clone()).basic_auth());
        let actor = |_| async { Token::bearer(TOKEN) };
        let exchange = TokenExchange::new(client(echo), own).actor(actor);
        exchange.param("key", "planted param")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_login_on_another_device_shows_no_code() {
    drive(async |watch, echo| {
        let url = "https://id.example.com/device?key=planted-key";
        let login = DeviceAuthorization::new(client(echo), url)?.param("key", "planted param")?;
        watch.print(&login);
        let prompt = login.begin().await?;
        watch.print(&prompt);
        login.finish(prompt).await
    })
    .await;
}

#[cfg(feature = "authorization-code")]
#[tokio::test]
async fn a_login_with_a_browser_shows_no_code_no_state_and_no_verifier() {
    use tower_auth::oauth2::AuthorizationCode;

    drive(async |watch, echo| {
        let login = AuthorizationCode::new(
            client(echo.clone()),
            "https://id.example.com/authorize?key=planted-key",
        )?
        .param("key2", "planted param")?
        .issuer("https://id.example.com");
        watch.print(&login);
        let request = login.begin("https://app.example.com/callback").await?;
        let state = param(request.url(), "state");
        watch.look_for(&state);
        watch.print(&request);

        let code = form(TOKEN);
        for wrong in [
            format!("code={code}&state=planted"),
            format!("code={code}"),
            format!("state={state}"),
            format!("code={code}&code={code}&state={state}"),
            format!("code={code}&state={state}&iss=https://planted.example.com"),
            format!("state={state}&error={code}&error_description={code}&code={code}"),
            format!("state={state}&error={state}&error_description=it+was+{state}"),
            format!("state={state}&error=access_denied&error_description={state}"),
            format!("state={state}&error=planted&iss=planted"),
            format!(
                "state={state}&code={code}&error=server_error&error_description={}",
                form(&code)
            ),
        ] {
            for whole in [
                wrong.clone(),
                format!("https://app.example.com/callback?{wrong}"),
            ] {
                watch.print_error(&request.read(&whole).unwrap_err());
            }
        }
        let response = request.read(&format!("/callback?code={code}&state={state}"))?;
        watch.print(&response);
        let finished = login.finish(request, response).await;
        for verifier in echo.verifiers() {
            watch.look_for(&verifier);
        }
        finished
    })
    .await;
}

#[cfg(feature = "authorization-code")]
fn param(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(of, _)| of == name);
    found.unwrap().1.into_owned()
}

#[cfg(feature = "authorization-code")]
fn form(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn a_resource_that_echoes_its_token_in_a_challenge_does_not_show_it() {
    drive(async |_, echo| {
        let transport = echo.clone();
        ProtectedResource::with_transport(
            "https://api.example.com",
            ["https://id.example.com"],
            move |protection| {
                let endpoint = protection.endpoint();
                let client =
                    Client::with_transport(endpoint.clone(), "client", SECRET, echo.clone())?;
                let client = client.revoke_at(endpoint)?;
                Ok(ClientCredentials::with_client(client).scope(protection.scope()))
            },
            transport,
        )
    })
    .await;
}

#[tokio::test]
async fn a_step_up_shows_no_secret() {
    drive(async |_, echo| {
        let build = move |wanted: &tower_auth::oauth2::StepUpRequest| {
            let source = ClientCredentials::with_client(client(echo.clone()));
            Ok(source.scope(wanted.scope()))
        };
        Ok(StepUp::new(build).scope("read").allow("write"))
    })
    .await;
}

#[cfg(feature = "dpop")]
#[tokio::test]
async fn a_token_that_is_bound_to_a_key_shows_neither_itself_nor_its_proofs() {
    use tower_auth::oauth2::DpopKey;

    let key = DpopKey::generate().unwrap();
    drive(async |watch, echo| {
        watch.print(&key);
        let client = client(echo).dpop(key.clone());
        watch.print(&client);
        Ok(ClientCredentials::with_client(client))
    })
    .await;
    let watch = Watch::start();
    for wrong in [
        "planted",
        "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----",
    ] {
        watch.print_error(&DpopKey::from_pem(wrong).unwrap_err());
    }
    watch.end();
}

#[tokio::test]
async fn a_login_in_json_shows_no_password_and_no_field() {
    drive(async |_, echo| {
        let url = "https://api.example.com/login?key=planted-key";
        let login = JsonLogin::with_transport(url, "me", SECRET, echo)?;
        let login = login.refresh_at("https://api.example.com/refresh?key=planted-key")?;
        login.field("/device/pin", "planted \"pin\"")
    })
    .await;
}

#[cfg(feature = "cookies")]
#[tokio::test]
async fn a_session_shows_no_password_and_no_cookie() {
    use tower_auth::login::Session;

    drive(async |_, echo| {
        let url = "https://api.example.com/login?key=planted-key";
        let session = Session::with_transport(url, "me", SECRET, echo)?;
        let session = session.log_out_at("https://api.example.com/logout?key=planted-key")?;
        session.field("/pin", "planted \"pin\"")
    })
    .await;
}

#[tokio::test]
async fn an_api_key_does_not_show() {
    use std::io::Write as _;

    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"planted-in-a-file\n").unwrap();
    let path = file.path().to_owned();
    let sources: [&dyn Fn() -> SecretSource; 5] = [
        &|| SecretSource::from(TOKEN),
        &|| SecretSource::from("planted\nline"),
        &|| SecretSource::file(&path),
        &|| SecretSource::from_fn(|| async { Ok(SecretString::from(TOKEN)) }),
        &|| SecretSource::from_fn(|| async { Ok(SecretString::from("planted\0")) }),
    ];
    for source in sources {
        drive(async |watch, _| {
            watch.print(&source());
            watch.text(&source().to_string());
            Ok(source())
        })
        .await;
        drive(async |_, _| Ok(ApiKey::new(source()))).await;
        drive(async |_, _| ApiKey::new(source()).header("x-other-key")).await;
        drive(async |_, _| ApiKey::new(source()).query("key")).await;
    }
    drive(async |watch, _| {
        let (source, rotation) = ApiKey::rotating(TOKEN);
        rotation.offer("planted-next");
        watch.print(&rotation);
        Ok(source)
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_not_quoted() {
    let watch = Watch::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let long = "planted".repeat(64 * 1024 / 7 + 1);
    for content in [long.as_bytes(), b"planted \xff planted".as_slice()] {
        std::fs::write(&path, content).unwrap();
        let error = SecretSource::file(&path).read().await.unwrap_err();
        watch.print_error(&error);
    }
    watch.end();
}

/// Documents that are asked for without a credential may have seen one elsewhere.
#[tokio::test]
async fn metadata_with_a_secret_in_an_odd_place_is_not_quoted_there() {
    use crate::support::web::{Page, Web};
    use serde_json::json;

    let watch = Watch::start();
    let issuer = "https://id.example.com";
    let resource = "https://api.example.com";
    for odd in [
        json!({ "issuer": issuer, "planted": "planted" }),
        json!({ "issuer": issuer, "token_endpoint": "planted" }),
        json!({ "issuer": issuer, "token_endpoint": ["planted"] }),
        json!({ "issuer": issuer, "token_endpoint": "https://id:planted@id.example.com/token" }),
        json!({ "issuer": issuer, "token_endpoint": "https://id.example.com/token#planted" }),
        json!({ "issuer": issuer, "token_endpoint": "http://id.example.com/token?key=planted" }),
        json!({ "issuer": issuer, "token_endpoint": "http://id:planted@id.example.com/token" }),
        json!({ "issuer": { "planted": "planted" } }),
        json!({ "issuer": "https://id:planted@id.example.com" }),
        json!({ "issuer": "https://id.example.com?key=planted" }),
        json!({ "issuer": "https://id.example.com/#planted" }),
        json!(["planted"]),
        json!("planted"),
        json!({ "resource": "https://api:planted@api.example.com" }),
        json!({ "resource": "https://api.example.com/?key=planted" }),
        json!({ "resource": ["planted"] }),
        json!({ "resource": resource, "authorization_servers": "planted" }),
        json!({ "resource": resource, "authorization_servers": ["https://id:planted@a.example.com"] }),
        json!({ "resource": resource, "authorization_servers": ["https://a.example.com/?planted"] }),
    ] {
        let web = Web::default();
        let page = Page::json(&odd);
        web.put(
            "https://id.example.com/.well-known/oauth-authorization-server",
            page.clone(),
        );
        web.put(
            "https://api.example.com/.well-known/oauth-protected-resource",
            page,
        );
        let url = EndpointUrl::from_issuer(issuer).unwrap();
        let client = Client::with_transport(url, "client", SECRET, web.transport()).unwrap();
        let source = ClientCredentials::with_client(client);
        watch.print_error(&source.fetch(Reason::First).await.unwrap_err());
        watch.print(&source);

        let build = |_| Ok(|_| async { Token::bearer("planted") });
        let of = ProtectedResource::with_transport(resource, [issuer], build, web.transport());
        let source = of.unwrap();
        watch.print_error(&source.fetch(Reason::First).await.unwrap_err());
        watch.print(&source);
    }
    watch.end();
}
