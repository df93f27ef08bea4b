//! Any input from servers, browsers and key files. No input causes a panic or is taken for another
//! value.
#![cfg(all(
    feature = "authorization-code",
    feature = "cookies",
    feature = "dpop",
    feature = "jwt"
))]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use tower::{Layer, Service, service_fn};
use tower_auth::login::Session;
use tower_auth::oauth2::{
    AuthorizationCode, Client, ClientCredentials, DeviceAuthorization, DpopKey, EndpointUrl,
    JwsAlgorithm, SigningKey,
};
use tower_auth::{Error, Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, TokenServer, URL, all_text_of};
use crate::support::web::{Page, Web, is_bare, line};

const ISSUER: &str = "https://id.example.com";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(future)
}

/// Any JSON value of limited depth.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,20}".prop_map(Value::from),
        select(vec![
            "https://id.example.com/x",
            "http://id.example.com/x",
            "https://",
            "S256",
            ISSUER
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            hash_map(".{0,8}", inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

/// An object with some of these fields, each with any value.
fn object(fields: &'static [&'static str]) -> impl Strategy<Value = Value> {
    hash_map(select(fields), any_json(), 0..fields.len()).prop_map(|map| {
        map.into_iter()
            .map(|(name, of)| (name.to_owned(), of))
            .collect()
    })
}

fn any_header() -> impl Strategy<Value = HeaderValue> {
    vec(any::<u8>(), 0..60).prop_filter_map("no header value", |bytes| {
        HeaderValue::from_bytes(&bytes).ok()
    })
}

/// Cookie attributes in any order and number.
fn any_cookie() -> impl Strategy<Value = HeaderValue> {
    let part = prop_oneof![
        select(vec![
            "sid=planted",
            "a=b",
            "=",
            "Secure",
            "HttpOnly",
            "Path=/",
            "Path=/v1",
            "Path",
            "Domain=example.com",
            "Domain=com",
            "Domain=.",
            "Domain=evil.com",
            "Max-Age=0",
            "Max-Age=-9223372036854775808",
            "Max-Age=99999999999999999999",
            "Max-Age=60",
            "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "Expires=Fri, 31 Dec 9999 23:59:59 GMT",
            "Expires=nonsense",
            "SameSite=None",
        ])
        .prop_map(String::from),
        "[ -~]{0,30}",
    ];
    let line = vec(part, 0..6).prop_map(|parts| parts.join("; "));
    prop_oneof![
        line.prop_filter_map("no header value", |line| HeaderValue::from_str(&line).ok()),
        any_header(),
    ]
}

/// Runs a session at a server that sets the cookies `at_login` at the login and `later` afterwards.
/// Returns the `Cookie` headers of the API requests.
fn session(at_login: Vec<HeaderValue>, later: Vec<HeaderValue>) -> Result<Vec<String>, String> {
    let set = |cookies: &[HeaderValue]| {
        let mut response = Response::new(Full::<Bytes>::default());
        for cookie in cookies {
            response.headers_mut().append(SET_COOKIE, cookie.clone());
        }
        std::future::ready(Ok::<_, Infallible>(response))
    };
    let login = service_fn(move |_: Request<Full<Bytes>>| set(&at_login));
    let source = Session::new("https://api.example.com/v1/login", "me", "pw")
        .unwrap()
        .transport(login);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let api = service_fn(move |request: Request<Full<Bytes>>| {
        let mut log = log.lock().unwrap();
        let to = request.uri().host().unwrap_or_default().to_owned();
        let sent = request.headers().get_all(COOKIE).iter();
        log.extend(sent.map(|sent| format!("{to}: {sent:?} {}", sent.is_sensitive())));
        set(&later)
    });
    let layer = crate::support::layer(source);
    let mut client = layer.layer(api);
    let mut errors = String::new();
    block_on(async {
        for address in ["https://api.example.com/v1/a", "https://evil.com/", "/v1"] {
            let request = Request::get(address).body(Full::default()).unwrap();
            if let Err(error) = client.call(request).await {
                let error: &Error = error.downcast_ref().unwrap();
                errors.push_str(&all_text_of(error));
            }
        }
    });
    let seen = seen.lock().unwrap().clone();
    match errors.contains("planted") {
        true => Err(errors),
        false => Ok(seen),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn a_browser_is_back_only_with_one_right_state_and_one_code(
        pairs in vec((select(vec!["state", "code", "iss", "error", "error_description", "x"]), 0..4usize), 0..7),
        around in [".{0,12}", ".{0,12}"],
        is_whole: bool,
    ) {
        let client = Client::public(URL, ID).unwrap().transport(TokenServer::issuing().transport());
        let login = AuthorizationCode::new(client, format!("{ISSUER}/authorize")).unwrap();
        let begin = login.issuer(ISSUER);
        let request = block_on(begin.begin("https://app.example.com/back")).unwrap();
        let state = request.url().split_once("&state=").unwrap().1;
        let state = state.split('&').next().unwrap();
        let value = |choice: usize| ["", state, ISSUER, "other"][choice];
        let pairs: Vec<_> = pairs.iter().map(|(name, choice)| (*name, value(*choice))).collect();
        let query = pairs.iter().map(|(name, value)| format!("{name}={value}"));
        let query = query.collect::<Vec<_>>().join("&");
        let text = match is_whole {
            true => format!("https://app.example.com/back?{query}"),
            false => query,
        };
        let result = request.read(&text);
        let all = |name| {
            let all = pairs.iter().filter(move |(of, value)| *of == name && !value.is_empty());
            all.map(|(_, value)| *value).collect::<Vec<_>>()
        };
        let is_right = all("state") == [state]
            && all("code").len() == 1
            && all("iss").iter().all(|iss| *iss == ISSUER)
            && all("iss").len() < 2
            && all("error").is_empty()
            && all("error_description").len() < 2;
        // A duplicate parameter is refused even if its second value is empty.
        prop_assert!(result.is_err() || is_right, "{text}");
        if is_right && pairs.iter().all(|(_, value)| !value.is_empty()) {
            prop_assert!(result.is_ok(), "{text}");
        }
        // Text around the query must not cause a panic. The text alone, without the query, is
        // refused.
        let [before, after] = around;
        let _ = request.read(&format!("{before}{text}{after}"));
        let stray = [before, after].concat();
        prop_assert!(request.read(&stray).is_err());
    }

    #[test]
    fn no_text_is_a_key_but_one_and_the_error_quotes_none(
        parts in vec(prop_oneof![
            select(vec![
                "-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----",
                "-----BEGIN EC PRIVATE KEY-----", "-----END PRIVATE KEY-----",
                "-----END RSA PRIVATE KEY-----", "-----BEGIN ", "-----END ", "-----", "\n",
                "MIIEvQIBADANBg==", "cGxhbnRlZA==", "planted",
            ]).prop_map(String::from),
            ".{0,20}",
        ], 0..8),
        jwk in object(&["kty", "crv", "d", "x", "y", "n", "e", "p", "q", "dp", "dq", "qi", "k", "alg", "kid", "use"]),
        kty in select(vec!["RSA", "EC", "OKP", "oct"]),
    ) {
        let text = parts.concat();
        for algorithm in [JwsAlgorithm::RS256, JwsAlgorithm::PS256, JwsAlgorithm::ES256, JwsAlgorithm::EdDSA] {
            let error = SigningKey::pem(algorithm, text.as_str()).unwrap_err();
            prop_assert!(error.is_config());
            prop_assert!(!all_text_of(&error).contains("planted"), "{error:?}");
        }
        let error = DpopKey::from_pem(text.as_str()).unwrap_err();
        prop_assert!(!all_text_of(&error).contains("planted"), "{error:?}");
        let mut jwk = jwk;
        let _ = SigningKey::jwk(jwk.to_string());
        jwk["kty"] = Value::from(kty);
        let _ = SigningKey::jwk(jwk.to_string());
        let _ = SigningKey::jwk(text.as_str());
    }

    #[test]
    fn a_person_is_told_of_an_address_that_they_can_go_to_or_of_nothing(
        response in object(&["device_code", "user_code", "verification_uri", "verification_url", "verification_uri_complete", "expires_in", "interval"]),
        status in select(vec![200u16, 200, 200, 201, 204, 302, 400, 500]),
    ) {
        let server = TokenServer::new(status, response.to_string());
        let client = Client::public(URL, ID).unwrap().transport(server.transport());
        let login = DeviceAuthorization::new(client, format!("{ISSUER}/device")).unwrap();
        if let Ok(prompt) = block_on(login.begin()) {
            prop_assert!((200..300).contains(&status));
            prop_assert!(prompt.verification_uri().starts_with("https://id.example.com"));
            prop_assert!(!prompt.user_code().is_empty());
            prop_assert!(!prompt.user_code().chars().any(char::is_control));
            prop_assert!(!prompt.expires_in().is_zero());
        }
    }

    #[test]
    fn the_client_is_shown_to_an_endpoint_that_the_right_metadata_names_or_to_nobody(
        metadata in object(&["issuer", "token_endpoint", "revocation_endpoint", "mtls_endpoint_aliases", "code_challenge_methods_supported"]),
        is_right: bool,
        mtls: bool,
    ) {
        let web = Web::default();
        let mut metadata = metadata;
        if is_right {
            metadata["issuer"] = Value::from(ISSUER);
        }
        let place = format!("{ISSUER}/.well-known/oauth-authorization-server");
        web.put(&place, Page::json(200, &metadata));
        let url = EndpointUrl::from_issuer(ISSUER).unwrap();
        let url = if mtls { url.mtls() } else { url };
        let source = ClientCredentials::new(url, ID, SECRET).unwrap().transport(web.transport());
        let _ = block_on(source.fetch(Reason::First));
        for asked in &web.asked() {
            if is_bare(asked) {
                continue;
            }
            let to = line(asked);
            let to = to.strip_prefix("POST ").unwrap();
            prop_assert!(to.starts_with("https://"), "{to}");
            prop_assert_eq!(&metadata["issuer"], ISSUER);
            let is_it = |named: &Value| {
                named.as_str().is_some_and(|named| to.trim_end_matches('/') == named)
            };
            let alias = &metadata["mtls_endpoint_aliases"]["token_endpoint"];
            prop_assert!(is_it(&metadata["token_endpoint"]) || (mtls && is_it(alias)), "{to}");
        }
    }

    #[test]
    fn cookies_go_nowhere_else_whatever_the_server_sets(
        at_login in vec(any_cookie(), 0..4),
        later in vec(any_cookie(), 0..4),
    ) {
        match session(at_login, later) {
            Err(errors) => prop_assert!(false, "{errors}"),
            Ok(seen) => for line in seen {
                prop_assert!(!line.starts_with("evil.com"), "{line}");
                prop_assert!(line.ends_with(" true"), "sensitive: {line}");
            }
        }
    }

    #[test]
    fn a_nonce_is_sent_back_as_it_came_or_not_at_all(nonces in vec(any_header(), 1..3)) {
        let issuer = TokenServer::new(200, r#"{"access_token":"t","token_type":"DPoP"}"#);
        let client = Client::new(URL, ID, SECRET).unwrap().transport(issuer.transport());
        let source = ClientCredentials::with_client(client.dpop(DpopKey::generate().unwrap()));
        let proofs = Arc::new(Mutex::new(Vec::new()));
        let (log, sent) = (Arc::clone(&proofs), nonces.clone());
        let api = service_fn(move |request: Request<Full<Bytes>>| {
            log.lock().unwrap().push(request.headers()["dpop"].clone());
            let mut response = Response::new(());
            for nonce in &sent {
                response.headers_mut().append("dpop-nonce", nonce.clone());
            }
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let mut client = crate::support::layer(source).layer(api);
        block_on(async {
            for _ in 0..2 {
                let request = Request::get(ISSUER).body(Full::default()).unwrap();
                client.call(request).await.unwrap();
            }
        });
        let proof = proofs.lock().unwrap()[1].clone();
        let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(proof.to_str().unwrap()).unwrap();
        if let Some(nonce) = claims.get("nonce") {
            prop_assert_eq!(nonces.len(), 1);
            prop_assert_eq!(nonce.as_str().unwrap().as_bytes(), nonces[0].as_bytes());
            prop_assert!(nonces[0].as_bytes().iter().all(u8::is_ascii_graphic));
        }
    }
}
