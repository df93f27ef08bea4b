//! The origins that get the tenants' credentials. A response may choose the next request's tenant,
//! so each tenant's layer has to name its origins.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use tower::Layer;
use tower_auth::tenants::Tenants;
use tower_auth::{AuthLayer, Error, Origin, Reason, Token, TokenSource};
use tower_auth_test::{Api, ScriptedSource, controlled_source};

use super::{Tenant, own};
use crate::support::{call, credentials};

fn get(uri: &str, tenant: &'static str) -> Request<Full<Bytes>> {
    let request = Request::get(uri).extension(Tenant(tenant));
    request.body(Full::default()).unwrap()
}

/// A source that names the API's origin.
#[derive(Default)]
struct Naming(ScriptedSource);

impl TokenSource for Naming {
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.0.fetch(reason)
    }

    fn origins(&self) -> Vec<Origin> {
        vec!["https://api.example.com".parse().unwrap()]
    }
}

#[tokio::test]
async fn a_tenant_whose_layer_names_no_origins_is_an_error_when_it_is_made_and_nothing_is_sent() {
    let (source, mut fetches) = controlled_source();
    let (source, made) = (Arc::new(source), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&made);
    let tenants = Tenants::new(move |tenant: &Tenant| {
        count.fetch_add(1, Ordering::SeqCst);
        let layer = AuthLayer::new(Arc::clone(&source));
        Ok(match tenant.0 {
            // `pass_elsewhere` names no origin.
            "passing" => layer.pass_elsewhere(),
            _ => layer,
        })
    });
    let (api, mut expected) = (Api::default(), 0);
    let mut client = tenants.by_extension().layer(api.clone());
    for tenant in ["acme", "passing"] {
        // Each attempt fails. Nothing remains of a tenant whose layer couldn't be built.
        for uri in ["https://api.example.com", "http://localhost", "/path"] {
            let sent = call(&mut client, get(uri, tenant)).await;
            let direct = tenants.get(&Tenant(tenant)).map(drop);
            for error in [own(sent.unwrap_err()), direct.unwrap_err()] {
                assert!(error.is_config(), "{error}");
                let error = error.to_string();
                for way in [
                    "AuthLayer::only_to",
                    "AuthLayer::any_https",
                    "TokenSource::origins",
                ] {
                    assert!(error.contains(way), "{error}");
                }
            }
            expected += 2;
        }
    }
    assert_eq!(made.load(Ordering::SeqCst), expected);
    assert_eq!((api.requests().len(), tenants.len()), (0, 0));
    fetches.assert_none().await;
}

#[tokio::test]
async fn it_evicts_nobody() {
    let tenants = Tenants::builder(|tenant: &Tenant| {
        let layer = AuthLayer::new(ScriptedSource::default());
        match tenant.0 {
            "unnamed" => Ok(layer),
            _ => Ok(layer.any_https()),
        }
    });
    let tenants = tenants.capacity(1).build();
    let cache = |tenant: &AuthLayer| tenant.cache().clone();
    let before = cache(&tenants.get(&Tenant("acme")).unwrap());
    before.token().await.unwrap();
    assert!(tenants.get(&Tenant("unnamed")).unwrap_err().is_config());
    let after = cache(&tenants.get(&Tenant("acme")).unwrap());
    assert!(after.status().is_ready(), "it was evicted");
}

#[tokio::test]
async fn a_tenants_layer_may_name_them_in_each_of_the_ways() {
    let tenants = Tenants::new(|tenant: &Tenant| match tenant.0 {
        "source" => Ok(AuthLayer::new(Naming::default())),
        "only-to" => AuthLayer::new(ScriptedSource::default()).only_to(["https://api.example.com"]),
        _ => Ok(AuthLayer::new(ScriptedSource::default()).any_https()),
    });
    let api = Api::accepting(["token-1"]);
    let mut client = tenants.by_extension().layer(api.clone());
    for tenant in ["source", "only-to", "any-https"] {
        let response = call(&mut client, get("https://api.example.com/v1", tenant)).await;
        assert_eq!(response.unwrap().status(), StatusCode::OK, "{tenant}");
    }
    assert_eq!(credentials(&api), ["Bearer token-1"; 3]);
    for (tenant, is_sent) in [("source", false), ("only-to", false), ("any-https", true)] {
        let result = call(&mut client, get("https://evil.example/", tenant)).await;
        match result {
            Ok(_) => assert!(is_sent, "{tenant}"),
            Err(error) => assert!(own(error).is_origin() && !is_sent, "{tenant}"),
        }
    }
}

/// A redirect to another host chooses that host's tenant. The request then gets that tenant's
/// credential.
#[tokio::test]
async fn with_a_tenant_for_each_host_none_gets_anothers_credential() {
    use tower::ServiceExt;

    let seen = Arc::new(Mutex::new(Vec::new()));
    let tenants = Tenants::new(|origin: &Origin| {
        let secret = format!("for-{origin}");
        let source = move |_| std::future::ready(Token::bearer(secret.clone()));
        match origin.to_string().as_str() {
            "https://api.example.com:443" | "https://files.example.com:443" => {
                AuthLayer::new(source).only_to([origin.to_string()])
            }
            _ => Err(Error::other("an unknown host")),
        }
    });
    let client = tenants.by(Origin::of::<Request<Full<Bytes>>>);
    let recorded = Arc::clone(&seen);
    let client = client.layer(tower::service_fn(move |request: Request<Full<Bytes>>| {
        let credential = request.headers()["authorization"].to_str().unwrap();
        let line = format!("{}: {credential}", request.uri());
        recorded.lock().unwrap().push(line);
        std::future::ready(Ok::<_, std::convert::Infallible>(http::Response::new(())))
    }));
    for (uri, is_sent) in [
        ("https://api.example.com/", true),
        ("https://FILES.example.com:443/", true),
        ("https://evil.example/", false),
        ("/path", false),
    ] {
        let request = Request::get(uri).body(Full::default()).unwrap();
        assert_eq!(
            client.clone().oneshot(request).await.is_ok(),
            is_sent,
            "{uri}"
        );
    }
    let expected = [
        "https://api.example.com/: Bearer for-https://api.example.com:443",
        "https://FILES.example.com:443/: Bearer for-https://files.example.com:443",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// A source that names an origin which contains the source's number.
struct Numbered(usize);

impl TokenSource for Numbered {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        Token::bearer(format!("of-{}", self.0))
    }

    fn origins(&self) -> Vec<Origin> {
        vec![
            format!("https://host-{}.example.com", self.0)
                .parse()
                .unwrap(),
        ]
    }
}

#[tokio::test]
async fn an_evicted_cache_that_is_used_again_goes_where_its_own_source_says() {
    let made = AtomicUsize::new(0);
    let make = move |_: &u32| {
        let number = made.fetch_add(1, Ordering::SeqCst);
        Ok(AuthLayer::new(Numbered(number)))
    };
    let tenants = Tenants::builder(make).capacity(1).build();
    let first = tenants.get(&1).unwrap();
    let in_use = first.cache().clone();
    assert_eq!(in_use.token().await.unwrap().secret(), "of-0");
    for other in 2..6 {
        drop(tenants.get(&other).unwrap());
        tenants.len();
    }
    let again = tenants.get(&1).unwrap();
    assert_eq!(again.cache().token().await.unwrap().secret(), "of-0");
    let api = Api::default();
    for number in 0..8 {
        let uri = format!("https://host-{number}.example.com");
        let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
        let sent = call(&mut again.layer(api.clone()), request).await;
        assert_eq!(sent.is_ok(), number == 0, "{number}");
    }
}
