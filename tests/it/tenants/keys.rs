//! Tenant keys other than names: origins, audiences, sets of scopes.

use std::convert::Infallible;

use http::{Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::tenants::Tenants;
use tower_auth::{Origin, Token};
use tower_service::Service;

use super::{Servers, cache_of, own};

/// A client whose response repeats the credential and the destination.
fn echo()
-> impl Service<Request<String>, Response = Response<(String, String)>, Error = Infallible, Future: Send>
+ Clone {
    service_fn(|request: Request<String>| async move {
        let sent = request.headers()["authorization"].to_str().unwrap();
        let sent = (request.uri().to_string(), sent.to_owned());
        Ok::<_, Infallible>(Response::new(sent))
    })
}

#[tokio::test]
async fn the_credential_of_one_origin_goes_to_no_other() {
    let tenants = Tenants::new(|origin: &Origin| {
        let secret = format!("for-{origin}");
        crate::support::layer(move |_| std::future::ready(Token::bearer(secret.clone())))
            .only_to([origin.to_string()])
    });
    let client = tenants.by(Origin::of::<Request<String>>).layer(echo());
    let send = |to: &str| {
        let request = Request::get(to).body(String::new()).unwrap();
        client.clone().oneshot(request)
    };
    for (to, credential) in [
        ("https://a.example/x", "Bearer for-https://a.example:443"),
        ("https://b.example/x", "Bearer for-https://b.example:443"),
        (
            "https://a.example:8443/",
            "Bearer for-https://a.example:8443",
        ),
        (
            "https://a.example.b.example/",
            "Bearer for-https://a.example.b.example:443",
        ),
        (
            "https://b.example@a.example/",
            "Bearer for-https://a.example:443",
        ),
        ("HTTPS://A.Example:443/", "Bearer for-https://a.example:443"),
        ("https://[::1]/", "Bearer for-https://[::1]:443"),
    ] {
        let response = send(to).await.unwrap().into_body();
        assert_eq!(response.1, credential, "{to}");
    }
    assert_eq!(tenants.len(), 5);
    // These requests have no origin, so no tenant can be chosen.
    for to in ["/only/a/path", "custom://a.example/"] {
        assert!(own(send(to).await.unwrap_err()).is_config(), "{to}");
    }
    // Used directly, the layer for `a.example` refuses `b.example` too.
    let a = tenants.get(&"https://a.example".parse().unwrap()).unwrap();
    let to_b = Request::get("https://b.example/").body(String::new());
    let error = a.layer(echo()).oneshot(to_b.unwrap()).await.unwrap_err();
    assert!(own(error).is_origin());
}

#[tokio::test]
async fn a_key_may_be_an_audience_and_a_set_of_scopes() {
    type Wanted = (&'static str, std::collections::BTreeSet<&'static str>);
    let tenants = Tenants::new(|(audience, scopes): &Wanted| {
        let scopes: Vec<_> = scopes.iter().copied().collect();
        let secret = format!("{audience}+{}", scopes.join("+"));
        Ok(crate::support::layer(move |_| {
            std::future::ready(Token::bearer(secret.clone()))
        }))
    });
    let by = tenants.by(|request: &Request<String>| {
        let audience = match request.uri().path() {
            "/notes" => "notes",
            "/files" => "files",
            _ => return None,
        };
        let write: &[_] = if request.method().is_safe() {
            &[]
        } else {
            &["write"]
        };
        let scopes = write.iter().copied().chain(["read"]);
        Some((audience, scopes.collect()))
    });
    let client = by.layer(echo());
    for (method, path, credential) in [
        ("GET", "/notes", "Bearer notes+read"),
        ("POST", "/notes", "Bearer notes+read+write"),
        ("HEAD", "/notes", "Bearer notes+read"),
        ("PUT", "/files", "Bearer files+read+write"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://a.example{path}"));
        let request = request.body(String::new()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        assert_eq!(response.into_body().1, credential);
    }
    assert_eq!(tenants.len(), 3);
}

#[test]
fn what_debug_shows_of_tenants_names_none_of_them() {
    let tenants = Servers::default().tenants().build();
    cache_of(&tenants, "acme");
    let layer = tenants.by_extension();
    let text = format!("{tenants:?} {layer:?} {:?}", layer.layer(()));
    assert!(!text.contains("acme"), "{text}");
}
