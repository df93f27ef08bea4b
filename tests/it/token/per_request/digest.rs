//! The Digest authentication example, with the vectors of RFC 7616 and against a server.

use std::future::ready;
use std::sync::Arc;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{BoxError, Error, NotReplayed, Place, Reason, Token};

use crate::support::layer;

#[allow(dead_code, reason = "it has a `main`")]
#[path = "../../../../examples/extra/digest.rs"]
mod example;

mod served;

const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

const REALM: &str = r#"Digest realm="http-auth@example.org", qop="auth, auth-int", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS", algorithm="#;

fn token(password: &str, challenges: &example::Challenges, cnonce: Option<&str>) -> Token {
    let login = (
        "Mufasa".to_owned(),
        password.to_owned(),
        cnonce.map(str::to_owned),
    );
    let digest = Arc::new(example::Digest(login, Arc::clone(challenges)));
    Token::per_request(Place::Header(AUTHORIZATION), password, digest)
}

/// Returns the credential that is sent to a server with these challenges.
async fn answer(challenges: &[String]) -> String {
    let mut wanted = HeaderMap::new();
    for challenge in challenges {
        wanted.append(WWW_AUTHENTICATE, challenge.parse().unwrap());
    }
    let api = service_fn(move |request: Request<&'static str>| {
        let sent = request.headers().get(AUTHORIZATION).cloned();
        let mut response = Response::new(sent.clone());
        if sent.is_none() {
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            *response.headers_mut() = wanted.clone();
        }
        ready(Ok::<_, BoxError>(response))
    });
    let token = token("Circle of Life", &Default::default(), Some(CNONCE));
    let layer = layer(move |_: Reason| ready(Ok::<_, Error>(token.clone())));
    let request = Request::get("https://www.example.org/dir/index.html");
    let request = request.body("").unwrap();
    let response = layer.layer(api).oneshot(request).await.unwrap();
    let sent: Option<HeaderValue> = response.into_body();
    sent.unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_answers_to_the_challenges_of_rfc_7616_are_those_of_the_rfc() {
    for (algorithm, response) in [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        (
            "SHA-256",
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
        ),
    ] {
        let answer = answer(&[format!("{REALM}{algorithm}")]).await;
        for param in [
            r#"username="Mufasa""#,
            r#"uri="/dir/index.html""#,
            "qop=auth,",
            "nc=00000001",
            &format!("algorithm={algorithm}"),
            &format!("cnonce=\"{CNONCE}\""),
            &format!("response=\"{response}\""),
        ] {
            assert!(answer.contains(param), "no {param}: {answer}");
        }
    }
}

#[tokio::test]
async fn of_several_challenges_the_first_that_is_understood_is_answered() {
    let challenges = [
        "Basic realm=\"x\"".into(),
        format!("{REALM}SHA-999"),
        format!("{REALM}SHA-256"),
        format!("{REALM}MD5"),
    ];
    let answer = answer(&challenges).await;
    assert!(answer.contains("algorithm=SHA-256"), "{answer}");
}

/// If the client can't satisfy the challenges, the caller gets the server's refusal.
#[tokio::test]
async fn a_challenge_that_is_not_understood_is_the_callers_to_see() {
    for challenge in [
        "Digest",
        "Digest nonce",
        "Digest \u{fc}=\"\u{fc}\"",
        "Negotiate YII=",
    ] {
        let value = HeaderValue::from_bytes(challenge.as_bytes()).unwrap();
        let api = service_fn(move |_: Request<&'static str>| {
            let response = Response::builder()
                .status(401)
                .header(WWW_AUTHENTICATE, &value);
            ready(response.body(()).map_err(BoxError::from))
        });
        let token = token("Circle of Life", &Default::default(), None);
        let layer = layer(move |_: Reason| ready(Ok::<_, Error>(token.clone())));
        let request = Request::get("https://www.example.org/").body("").unwrap();
        let response = layer.layer(api).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 401);
        let reason = response.extensions().get::<NotReplayed>();
        assert!(matches!(reason, Some(NotReplayed::SameToken)), "{reason:?}");
    }
}
