//! A `Location` that a client follows, or any other address of a request: two lines, the base and
//! the location. The credential goes only to the named origins, whichever parser reads the address.
#![no_main]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response, Uri};
use http_body_util::Full;
use libfuzzer_sys::{Corpus, fuzz_target};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::{AuthLayer, Error, Origin, Token};
use tower_auth_fuzz::{assert_harmless, run};
use url::Url;

const NAMED: [&str; 3] = [
    "https://api.example.com",
    "http://127.0.0.1:8080",
    "https://[2001:db8::1]:8443",
];

fuzz_target!(|data: &str| -> Corpus {
    let Some((base, location)) = data.split_once('\n') else {
        return Corpus::Reject;
    };
    parse_origin(location);
    if let Ok(uri) = location.parse() {
        check(&uri);
        is_no_refusal(&uri);
    }
    // As clients do that follow redirects.
    let joined = Url::parse(base).and_then(|base| base.join(location));
    if let Ok(uri) = joined.map_or(Ok(Uri::default()), |url| url.as_str().parse()) {
        check(&uri);
    }
    Corpus::Keep
});

fn parse_origin(text: &str) {
    match text.parse::<Origin>() {
        Ok(origin) => {
            let written = origin.to_string();
            assert_eq!(written.parse::<Origin>().unwrap(), origin);
            if NAMED
                .iter()
                .any(|named| named.parse().ok().as_ref() == Some(&origin))
            {
                let url = Url::parse(text).unwrap();
                assert_eq!(of_url(&url), Some(origin), "{text}");
            }
        }
        Err(error) => assert!(error.is_config()),
    }
}

/// Returns the origin of a web address, as the WHATWG's parser reads it.
fn of_url(url: &Url) -> Option<Origin> {
    let port = url.port_or_known_default()?;
    format!("{}://{}:{port}", url.scheme(), url.host_str()?)
        .parse()
        .ok()
}

/// Checks which requests get the credential.
fn check(uri: &Uri) {
    let sent = send(uri, |layer| layer.only_to(NAMED)).0;
    let named: Vec<Origin> = NAMED.iter().map(|it| it.parse().unwrap()).collect();
    let Some(has_credential) = sent else { return };
    if uri.scheme().is_none() {
        // The client below the layer chooses the origin.
        let base = Url::parse("https://client.example.com").unwrap();
        let joined = base.join(&uri.to_string()).unwrap();
        assert_eq!(joined.host_str(), Some("client.example.com"), "{uri}");
        return;
    }
    let url = Url::parse(&uri.to_string());
    let is_named = url
        .ok()
        .and_then(|url| of_url(&url))
        .is_some_and(|it| named.contains(&it));
    assert!(!has_credential || is_named, "{uri}");
}

/// Checks that a refusal from this address says nothing about a token that was sent elsewhere.
fn is_no_refusal(uri: &Uri) {
    let Ok(url) = Url::parse(&uri.to_string()) else {
        return;
    };
    let answered = uri.clone();
    let (_, fetches) = send(&Uri::from_static(NAMED[0]), |layer| {
        Ok(layer
            .any_https()
            .answered_by(move |_| Some(answered.clone())))
    });
    let is_own = of_url(&url) == Some(NAMED[0].parse().unwrap());
    if uri.scheme().is_some() && uri.host().is_some() && !is_own {
        assert_eq!(fetches, 1, "{uri}");
    }
}

/// Sends a request, which is refused. Returns whether a request with this address had the
/// credential, or `None` if no request was sent, and the number of fetches.
fn send(
    uri: &Uri,
    settings: impl FnOnce(AuthLayer) -> Result<AuthLayer, Error>,
) -> (Option<bool>, usize) {
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = fetches.clone();
    let layer = AuthLayer::new(move |_| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move { Token::bearer(format!("planted-{number}")) }
    });
    let layer = settings(layer).unwrap();
    let api = service_fn(|request: Request<Full<Bytes>>| async move {
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = http::StatusCode::UNAUTHORIZED;
        let has_credential = request.headers().contains_key(AUTHORIZATION);
        response.extensions_mut().insert(has_credential);
        Ok::<_, Infallible>(response)
    });
    let mut request = Request::new(Full::<Bytes>::default());
    *request.uri_mut() = uri.clone();
    let response = run(layer.layer(api).oneshot(request));
    let sent = match response {
        Ok(response) => response.extensions().get::<bool>().copied(),
        Err(error) => {
            let error: Box<Error> = error.downcast().unwrap();
            // Otherwise, the error shows the token as a part of the address.
            if !uri.to_string().contains("planted-0") {
                assert_harmless(&error, &["planted-0"]);
            }
            None
        }
    };
    (sent, fetches.load(Ordering::SeqCst))
}
