//! Responses whose body has a content coding, such as gzip (RFC 9110 §8.4).

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use serde_json::json;
use tower::ServiceBuilder;
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::{
    Client, ClientCredentials, DeviceAuthorization, EndpointUrl, ProtectedResource, RefreshToken,
    TokenResponseFormat,
};
use tower_auth::{Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{ScriptedResponse, ScriptedServer};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::SizeAbove;
use tower_http::decompression::DecompressionLayer;

use crate::support::refresh_store::Store;
use crate::support::token_server::{ID, SECRET, URL, all_text_of};
use crate::support::web::{Page, Web};

#[cfg(feature = "gzip")]
mod gzip;

/// The value of `Accept-Encoding` in each request.
const ACCEPTED: &str = if cfg!(feature = "gzip") {
    "gzip"
} else {
    "identity"
};

const ISSUED: &str = r#"{"access_token":"issued","token_type":"Bearer","expires_in":3600}"#;
const DEVICE: &str = "https://id.example.com/device";
const LOGIN: &str = "https://api.example.com/v1/auth/login";
const REFRESH: &str = "https://api.example.com/v1/auth/refresh";

/// Makes a response whose body has these content codings, one header line each.
fn coded(status: u16, lines: &[&[u8]], body: impl Into<Bytes>) -> ScriptedResponse {
    let response = ScriptedResponse::new(status)
        .header("content-type", "application/json")
        .body(body);
    let add = |response: ScriptedResponse, line: &&[u8]| response.header("content-encoding", line);
    lines.iter().fold(response, add)
}

fn br(status: u16, body: &'static str) -> ScriptedResponse {
    coded(status, &[b"br"], body)
}

fn responding(response: ScriptedResponse) -> ScriptedServer {
    ScriptedServer::new(move |_| response.clone())
}

fn client(server: &ScriptedServer) -> Client {
    let client = Client::new(URL, ID, SECRET).unwrap();
    client.transport(server.clone())
}

async fn fetch(response: ScriptedResponse) -> Result<Token, Error> {
    let source = ClientCredentials::with_client(client(&responding(response)));
    source.fetch(Reason::First).await
}

fn device_login(server: &ScriptedServer) -> DeviceAuthorization {
    let client = Client::public(URL, ID).unwrap();
    DeviceAuthorization::new(client.transport(server.clone()), DEVICE).unwrap()
}

fn json_login(server: &ScriptedServer) -> JsonLogin {
    let login = JsonLogin::new(LOGIN, "me@example.com", "p4ssword").unwrap();
    let login = login.refresh_at(REFRESH).unwrap();
    login.transport(server.clone())
}

const ISSUER: &str = "https://id.example.com";
const ISSUER_METADATA: &str = "https://id.example.com/.well-known/oauth-authorization-server";
const API: &str = "https://mcp.example.com/mcp";
const API_METADATA: &str = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";

/// Serves the metadata of an API and its authorization server. `page` makes a page from JSON.
fn web(page: impl Fn(String) -> Page) -> Web {
    let web = Web::default();
    let token = format!("{ISSUER}/token");
    let issuer = json!({"issuer": ISSUER, "token_endpoint": token});
    let api = json!({"resource": API, "authorization_servers": [ISSUER]});
    web.put(ISSUER_METADATA, page(issuer.to_string()));
    web.put(API_METADATA, page(api.to_string()));
    web.put(&token, page(ISSUED.to_owned()));
    web
}

fn protected_resource(web: &Web) -> ProtectedResource {
    let transport = web.transport();
    let source = ProtectedResource::new(API, [ISSUER], move |protection| {
        let client = Client::new(protection.endpoint(), ID, SECRET)?;
        let client = client.transport(transport.clone());
        Ok(ClientCredentials::with_client(client))
    });
    source.unwrap().transport(web.transport())
}

/// Returns the value of `Accept-Encoding` in each request.
fn accepted(server: &ScriptedServer) -> Vec<String> {
    let requests = server.requests().into_iter();
    let values = requests.map(|request| {
        let values = request.headers().get_all("accept-encoding").iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap()).collect();
        values.join(", ")
    });
    values.collect()
}

#[tokio::test(start_paused = true)]
async fn each_request_says_which_codings_it_accepts() {
    let server = ScriptedServer::new(|request| match request.path() {
        "/device" => ScriptedResponse::json(
            200,
            r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example/x","expires_in":60}"#,
        ),
        "/oauth/token" | "/v1/auth/refresh" => ScriptedResponse::json(200, ISSUED),
        "/v1/auth/login" => {
            ScriptedResponse::json(200, r#"{"access_token":"issued","refresh_token":"r"}"#)
        }
        _ => ScriptedResponse::new(200),
    });
    let client = client(&server).revoke_at("https://id.example.com/revoke");
    let source = ClientCredentials::with_client(client.unwrap());
    let token = source.fetch(Reason::First).await.unwrap();
    source.close(Some(token)).await.unwrap();
    let login = device_login(&server);
    let prompt = login.begin().await.unwrap();
    login.finish(prompt).await.unwrap();
    let login = json_login(&server);
    login.fetch(Reason::First).await.unwrap();
    login.fetch(Reason::Expired).await.unwrap();
    assert_eq!(accepted(&server), [ACCEPTED; 6]);

    let web = web(|text| Page::json(200, text));
    let token = protected_resource(&web).fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "issued");
    let asked = web.asked();
    // The API, its metadata, the authorization server's metadata, and the token endpoint.
    assert_eq!(asked.len(), 4);
    for request in asked {
        assert_eq!(request.header("accept-encoding"), Some(ACCEPTED));
    }
}

#[cfg(feature = "cookies")]
#[tokio::test]
async fn a_session_ignores_the_coding_of_a_body_that_it_does_not_read() {
    use tower_auth::login::Session;

    let server = ScriptedServer::new(|request| match request.path() {
        "/login" => br(200, "a page").header("set-cookie", "sid=1; Path=/"),
        _ => br(200, "a page"),
    });
    let session = Session::new(
        "https://api.example.com/login",
        "me@example.com",
        "p4ssword",
    )
    .unwrap()
    .transport(server.clone())
    .log_out_at("https://api.example.com/logout")
    .unwrap();
    let token = session.fetch(Reason::First).await.unwrap();
    session.close(Some(token)).await.unwrap();
    assert_eq!(accepted(&server), [ACCEPTED; 2]);

    let server = responding(br(401, "a page"));
    let session = Session::new(
        "https://api.example.com/login",
        "me@example.com",
        "p4ssword",
    );
    let session = session.unwrap().transport(server);
    let error = session.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_denied() && error.status().unwrap() == 401);
    assert!(error.to_string().contains("`br`"), "{error}");
}

#[tokio::test]
async fn a_revocation_ignores_the_coding_of_a_body_that_it_does_not_read() {
    let server = responding(br(200, "revoked"));
    let client = client(&server).revoke_at("https://id.example.com/revoke");
    let source = ClientCredentials::with_client(client.unwrap());
    let token = || Some(Token::bearer("t").unwrap());
    source.close(token()).await.unwrap();
    server.respond_next(br(503, "a page"));
    let error = source.close(token()).await.unwrap_err();
    assert!(error.is_denied() && error.is_transient());
    assert!(error.to_string().contains("`br`"), "{error}");
}

#[tokio::test]
async fn an_unsupported_coding_is_an_error_that_names_it() {
    let deep = ["gzip"; 6].join(",");
    for (lines, named) in [
        (&[b"br".as_slice()] as &[&[u8]], "`br`"),
        (&[b"zstd"], "`zstd`"),
        (&[b"deflate"], "`deflate`"),
        (&[b"compress"], "`compress`"),
        (&[b"BR"], "`BR`"),
        (&[b"identity, br"], "`identity, br`"),
        (&[b"gzip, br"], "`gzip, br`"),
        (&[b"br,gzip"], "`br,gzip`"),
        (&[b"gzip", b"br"], "`gzip, br`"),
        (&[b"", b"br", b"identity"], "br"),
        (&[b"utf-8, br"], "`utf-8, br`"),
        (&[deep.as_bytes()], "gzip"),
    ] {
        let error = fetch(coded(200, lines, ISSUED)).await.unwrap_err();
        assert_names(&error, named);
    }
}

/// Asserts that the error is about a coding that the crate can't decode.
#[track_caller]
fn assert_names(error: &Error, named: &str) {
    let text = error.to_string();
    assert!(error.is_reply() && !error.is_permanent(), "{text}");
    assert_eq!(error.status().unwrap(), 200);
    assert!(text.contains("the token endpoint's reply has"), "{text}");
    assert!(text.contains(named), "{text}");
    assert!(text.contains("set a transport"), "{text}");
    assert!(!all_text_of(error).contains("issued"), "{error:?}");
}

/// Names that no registry knows as a coding. Some servers send a charset or a transfer encoding.
const NO_CODINGS: [(&[u8], &str); 13] = [
    (b"utf-8", "`utf-8`"),
    (b"UTF-8", "`UTF-8`"),
    (b"iso-8859-1", "`iso-8859-1`"),
    (b"binary", "`binary`"),
    (b"none", "`none`"),
    (b"8bit", "`8bit`"),
    (b"identity, utf-8", "`identity, utf-8`"),
    (b"json", "`json`"),
    (b"*", "`*`"),
    (b"gzip;q=1", "`gzip;q=1`"),
    (b"gzip gzip", "`gzip gzip`"),
    (b"\xff\xfe", "has the content coding"),
    (b"a\tb", "`a b`"),
];

#[tokio::test]
async fn a_name_that_is_no_coding_makes_no_difference_to_a_body_of_text() {
    for (name, _) in NO_CODINGS {
        let token = fetch(coded(200, &[name], format!("\r\n\t{ISSUED}\n"))).await;
        assert_eq!(token.unwrap().secret(), "issued");
        let refusal = coded(400, &[name], r#"{"error":"invalid_scope"}"#);
        let error = fetch(refusal).await.unwrap_err();
        assert_eq!(error.code(), Some("invalid_scope"));
        assert!(!error.to_string().contains("coding"), "{error}");
        // Some servers send Latin-1.
        let page = coded(503, &[name], &b"<html>\xfc</html>"[..]);
        let error = fetch(page).await.unwrap_err();
        assert!(!error.to_string().contains("coding"), "{error}");
    }
    let web = web(|text| coded(200, &[b"utf-8"], text));
    let token = protected_resource(&web).fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "issued");
}

#[tokio::test]
async fn a_name_that_is_no_coding_is_named_if_the_body_is_no_text() {
    for (name, named) in NO_CODINGS {
        let error = fetch(coded(200, &[name], &b"\x1f\x8b\x08\x00issued"[..])).await;
        assert_names(&error.unwrap_err(), named);
    }
}

#[tokio::test]
async fn a_name_that_is_no_coding_allows_no_longer_body() {
    const LIMIT: usize = 64 * 1024;
    for (length, is_read) in [(LIMIT, true), (LIMIT + 1, false)] {
        let body = format!("{ISSUED}{}", " ".repeat(length - ISSUED.len()));
        let fetched = fetch(coded(200, &[b"utf-8"], body)).await;
        assert_eq!(fetched.is_ok(), is_read, "{length}");
    }
}

/// Only a part of a form may have arrived, and the cut may be in the middle of a code.
#[tokio::test]
async fn a_refusal_whose_body_breaks_is_read_without_its_body() {
    let form = "application/x-www-form-urlencoded";
    let refusal = ScriptedResponse::new(400).header("content-type", form);
    let refusal = refusal.body("error=invalid_grant_type");
    let server = responding(refusal.reset_after("error=invalid_grant".len()));
    let format = TokenResponseFormat::new().form_encoded();
    let source = RefreshToken::new(client(&server).response_format(format), "r1");
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_denied() && !error.is_login_required(), "{error}");
    assert_eq!(error.code(), None);
}

#[tokio::test]
async fn the_name_of_a_coding_is_short_and_contains_no_secret() {
    let long = "x".repeat(10_000);
    let error = fetch(coded(200, &[long.as_bytes()], "\0")).await;
    assert!(error.unwrap_err().to_string().len() < 600);
    let many = vec![b"br".as_slice(); 1000];
    let error = fetch(coded(200, &many, ISSUED)).await;
    assert!(error.unwrap_err().to_string().len() < 600);
    for (status, secret) in [(200, SECRET), (400, SECRET), (200, "dGhlLWNsaWVudDpzM2Ny")] {
        let line = format!("br, {secret}");
        let server = responding(coded(status, &[line.as_bytes()], "?"));
        let source = ClientCredentials::with_client(client(&server).basic_auth());
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(!all_text_of(&error).contains(SECRET), "{error:?}");
    }
}

#[tokio::test]
async fn identity_is_no_coding() {
    for lines in [
        &[b"identity".as_slice()] as &[&[u8]],
        &[b"IDENTITY"],
        &[b""],
        &[b" , ,"],
        &[b"identity, Identity", b"identity"],
    ] {
        let token = fetch(coded(200, lines, ISSUED)).await.unwrap();
        assert_eq!(token.secret(), "issued");
    }
}

#[tokio::test]
async fn without_a_body_a_coding_makes_no_difference() {
    for coding in [b"gzip".as_slice(), b"br"] {
        for status in [200, 204] {
            let error = fetch(coded(status, &[coding], "")).await.unwrap_err();
            assert!(error.to_string().contains("has no body"), "{error}");
        }
        let error = fetch(coded(503, &[coding], "")).await.unwrap_err();
        assert!(
            error.is_denied() && !error.to_string().contains("coding"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_refusal_with_an_unsupported_coding_is_still_that_refusal() {
    let response = br(503, "a page").header("retry-after", "7");
    let error = fetch(response).await.unwrap_err();
    assert!(error.is_denied() && error.is_transient(), "{error}");
    assert_eq!(error.status().unwrap(), 503);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    let text = error.to_string();
    assert!(text.contains("the body could not be read"), "{text}");
    assert!(text.contains("`br`"), "{text}");
    for status in [400, 401, 403] {
        let error = fetch(br(status, r#"{"error":"slow_down"}"#)).await;
        let error = error.unwrap_err();
        assert!(error.is_denied() && error.is_permanent(), "{error}");
        assert_eq!((error.code(), error.description()), (None, None));
        assert!(error.to_string().contains("`br`"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_with_a_compressed_page_passes_within_the_fetch() {
    let server = responding(ScriptedResponse::json(200, ISSUED));
    server.respond_next(br(503, "a page"));
    server.respond_next(br(502, "a page"));
    let source = ClientCredentials::with_client(client(&server));
    let cache = TokenCache::new(source);
    assert_eq!(cache.token().await.unwrap().secret(), "issued");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn each_endpoint_names_the_coding() {
    let check = |error: Error, start: &str| {
        assert!(error.is_reply(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(start) && text.contains("`br`"), "{text}");
    };
    let server = responding(br(200, ISSUED));
    let begun = device_login(&server).begin().await;
    check(begun.unwrap_err(), "the device authorization endpoint");
    let fetched = json_login(&server).fetch(Reason::First).await;
    check(fetched.unwrap_err(), "the token endpoint");

    let coded = |text: String| coded(200, &[b"br"], text);
    let plain = |text: String| Page::json(200, text);
    let web_of_both = web(plain);
    web_of_both.put(ISSUER_METADATA, coded("{}".into()));
    let issuer = EndpointUrl::from_issuer(ISSUER).unwrap();
    let client = Client::new(issuer, ID, SECRET).unwrap();
    let client = client.transport(web_of_both.transport());
    let source = ClientCredentials::with_client(client);
    let fetched = source.fetch(Reason::First).await;
    check(
        fetched.unwrap_err(),
        "the metadata at `https://id.example.com",
    );

    // Both locations of the API's metadata are compressed.
    let web_of_both = web(coded);
    let fetched = protected_resource(&web_of_both).fetch(Reason::First).await;
    check(
        fetched.unwrap_err(),
        "the metadata at `https://mcp.example.com",
    );
}

#[tokio::test]
async fn metadata_that_is_unavailable_is_a_transient_error_in_any_coding() {
    let web = web(|_| br(503, "a page").header("retry-after", "7"));
    let fetched = protected_resource(&web).fetch(Reason::First).await;
    let error = fetched.unwrap_err();
    assert!(error.is_denied() && error.is_transient(), "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
}

/// Some servers name a coding in `Content-Encoding`, but send plain text.
#[tokio::test]
async fn a_refresh_token_in_a_body_that_only_claims_a_coding_is_saved() {
    for coding in [b"br".as_slice(), b"gzip", b"zstd"] {
        let body = r#"{"access_token":"t2","refresh_token":"planted-2"}"#;
        let server = responding(coded(200, &[coding], body));
        let store = Store::holding("planted-1");
        let source = RefreshToken::stored(client(&server), store.clone());
        let error = source.fetch(Reason::Expired).await.unwrap_err();
        assert!(error.is_reply(), "{error}");
        assert!(!all_text_of(&error).contains("planted"), "{error:?}");
        assert_eq!(store.saves(), ["planted-2"]);
    }
}

#[tokio::test]
async fn a_transport_that_decodes_the_body_itself_works() {
    let server = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(ISSUED)))
    });
    let transport = ServiceBuilder::new()
        .layer(DecompressionLayer::new())
        // Makes the server compress the response, although the client doesn't accept this.
        .map_request(|mut request: Request<Full<Bytes>>| {
            let gzip = HeaderValue::from_static("gzip");
            request.headers_mut().insert("accept-encoding", gzip);
            request
        })
        .map_response(|response: Response<_>| {
            assert_eq!(response.headers()["content-encoding"], "gzip");
            response
        })
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(0)))
        .service(server);
    let source = ClientCredentials::new(URL, ID, SECRET).unwrap();
    let token = source.transport(transport).fetch(Reason::First).await;
    assert_eq!(token.unwrap().secret(), "issued");
}

#[cfg(not(feature = "gzip"))]
mod without_the_feature {
    use super::*;

    #[tokio::test]
    async fn the_error_for_gzip_names_the_feature() {
        for coding in [b"gzip".as_slice(), b"X-GZIP", b"gzip, gzip"] {
            for (status, is_refusal) in [(200, false), (503, true), (400, true)] {
                let error = fetch(coded(status, &[coding], "\x1f")).await.unwrap_err();
                assert_eq!(error.is_denied(), is_refusal, "{error}");
                let text = error.to_string();
                assert!(text.contains("enable the feature `gzip`"), "{text}");
                assert!(text.contains("or set a transport"), "{text}");
            }
        }
    }

    /// With the feature, these bodies couldn't be decoded either.
    #[tokio::test]
    async fn the_error_for_another_coding_names_only_the_transport() {
        for coding in [b"br".as_slice(), b"gzip, br", b"gzip, utf-8", b"utf-8"] {
            let error = fetch(coded(200, &[coding], "\x1f")).await.unwrap_err();
            let text = error.to_string();
            let remedy = "the request accepts no coding; set a transport that decodes the body";
            assert!(text.contains(remedy), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_login_ends_with_an_error_that_names_the_feature() {
        let server = ScriptedServer::new(|request| match request.path() {
            "/device" => ScriptedResponse::json(
                200,
                r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example/x","expires_in":60}"#,
            ),
            _ => coded(400, &[b"gzip"], "\x1f"),
        });
        let login = device_login(&server);
        let prompt = login.begin().await.unwrap();
        let error = login.finish(prompt).await.unwrap_err();
        assert!(error.is_denied(), "{error}");
        assert!(error.to_string().contains("feature `gzip`"), "{error}");
    }
}
