//! The credential reaches every named origin and no other origin. This holds for all redirects and
//! for all orders of the layers.
//!
//! Each case sends one request. `FollowRedirect` is outside the layer, inside the layer, at both
//! places, or absent. The request is redirected to named origins and to others. The test records each request
//! that enters the layer, leaves it or arrives at a server. Then the test compares the record with
//! a model that applies only the rules.
//!
//! The layer doesn't control a `FollowRedirect` inside it. With the standard policy,
//! `FollowRedirect` doesn't recognize a custom header as a credential. So `FollowRedirect` sends
//! that header to any origin. The test skips those hops. With a policy that removes all headers,
//! the test checks all hops.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use proptest::prelude::*;
use proptest::sample::select;
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};
use tower_auth::{ApiKey, AuthLayer, BoxError, Error, Origin, Place, Reason, Token, TokenSource};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_http::follow_redirect::policy::{FilterCredentials, Limited, PolicyExt};
use tower_service::Service;
use url::{Host, Url};

type Sent = Request<Full<Bytes>>;
type Answer = Response<Full<Bytes>>;
type Client = BoxCloneService<Sent, Answer, BoxError>;

// ---- the cases

#[derive(Clone, Debug)]
struct Case {
    followers: Followers,
    tenants: ByWhat,
    /// The naming of two tenants. Without tenants only the first is used.
    naming: [Naming; 2],
    /// Whether another tenant evicts the first during the request. If so, the capacity is one
    /// tenant.
    #[cfg_attr(
        not(feature = "tenants"),
        expect(dead_code, reason = "there are no tenants")
    )]
    is_evicted: bool,
    place: At,
    /// Whether an inner `FollowRedirect` removes all headers when the origin changes.
    removes_all: bool,
    /// Whether the caller set a credential on the request.
    has_own: bool,
    first: First,
    hops: Vec<Hop>,
    /// The index of the response that is a refusal.
    refused: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followers {
    None,
    Outside,
    Inside,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByWhat {
    Nothing,
    Path,
    Method,
    Host,
    Extension,
}

/// Which origins a layer names, and how.
#[derive(Clone, Debug)]
struct Naming {
    by_source: Vec<&'static str>,
    by_user: ByUser,
    passes_elsewhere: bool,
}

#[derive(Clone, Debug)]
enum ByUser {
    Nothing,
    OnlyTo(Vec<&'static str>),
    AnyHttps,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Authorization,
    Header,
    Query,
}

#[derive(Clone, Debug)]
struct First {
    method: Method,
    uri: &'static str,
    tenant: usize,
}

#[derive(Clone, Debug)]
struct Hop {
    status: u16,
    location: String,
}

/// Origins as a user may write them.
const NAMES: [&str; 9] = [
    "https://api.example",
    "HTTPS://API.example:443",
    "https://files.example",
    "https://files.example:8443",
    "http://api.example",
    "http://sidecar.example:8080",
    "http://localhost:3000",
    "https://xn--bcher-kva.example",
    "wss://files.example",
];

const FIRST: [&str; 14] = [
    "https://api.example/one",
    "https://api.example/two?q=1",
    "https://API.example:443/one",
    "https://api.example:/one",
    "https://user:pw@api.example/two",
    "https://api.example./one",
    "https://files.example/one",
    "https://evil.example/two",
    "http://api.example/one",
    "http://localhost:3000/one",
    "http://localhost.evil.example/one",
    "https://api.example:99999/one",
    "/one",
    "/two?q=1",
];

/// Redirect targets, with many spellings for each place.
const LOCATIONS: [&str; 44] = [
    "",
    "two",
    "/one",
    "/two",
    "?page=2",
    "#part",
    "https://api.example/one",
    "https://api.example/two",
    "https://API.Example/two",
    "HTTPS://api.example:443/one",
    "https://api.example:8443/one",
    "https://user@api.example/one",
    "https://api.example./two",
    "https:\\\\api.example/one",
    "https://ap\ti.example/two",
    "https://%61pi.example/one",
    "http://api.example/one",
    "http://api.example:80/two",
    "wss://api.example/one",
    "https://files.example/one",
    "https://files.example/two",
    "//files.example/two",
    "https://files.example:8443/one",
    "https://user:pw@FILES.example:443/two",
    "wss://files.example/one",
    "https://evil.example/one",
    "https://evil.example/two",
    "//evil.example/one",
    "/\\evil.example/two",
    "\\\\evil.example/one",
    "/\t/evil.example/two",
    "https:evil.example",
    "https://api.example@evil.example/one",
    "https://api.example.evil.example/two",
    "http://evil.example/one",
    "http://sidecar.example:8080/one",
    "http://localhost:3000/one",
    "http://localhost.:3000/two",
    "http://localhost.evil.example:3000/one",
    "http://127.0.0.1.nip.io/one",
    "http://2130706433/two",
    "http://[::ffff:127.0.0.1]:3000/one",
    "http://[::1]/two",
    "https://b\u{fc}cher.example/one",
];

fn any_naming() -> impl Strategy<Value = Naming> {
    let names = || proptest::collection::vec(select(&NAMES[..]), 1..3);
    let by_source = prop_oneof![Just(Vec::new()), names()];
    let by_user = prop_oneof![
        2 => Just(ByUser::Nothing),
        2 => names().prop_map(ByUser::OnlyTo),
        1 => Just(ByUser::AnyHttps),
    ];
    (by_source, by_user, any::<bool>()).prop_map(|(by_source, by_user, passes_elsewhere)| Naming {
        by_source,
        by_user,
        passes_elsewhere,
    })
}

fn any_case() -> impl Strategy<Value = Case> {
    use ByWhat::{Extension, Host, Method as ByMethod, Nothing, Path};
    use Followers::{Both, Inside, None as NoFollower, Outside};
    let followers = prop_oneof![
        3 => Just(Outside), 3 => Just(Inside), 2 => Just(Both), 1 => Just(NoFollower),
    ];
    let tenants = match cfg!(feature = "tenants") {
        true => vec![
            Nothing, Nothing, Nothing, Nothing, Path, ByMethod, Host, Extension,
        ],
        false => vec![Nothing],
    };
    let tenants = select(tenants);
    let place = prop_oneof![
        2 => Just(At::Authorization), 1 => Just(At::Header), 1 => Just(At::Query),
    ];
    let method = select(vec![Method::GET, Method::POST, Method::PUT, Method::HEAD]);
    // Half of the requests start at an origin that most layers name.
    let uri = prop_oneof![Just(FIRST[0]), select(&FIRST[..])];
    let first = (method, uri, 0..2_usize).prop_map(|(method, uri, tenant)| First {
        method,
        uri,
        tenant,
    });
    let hop = (
        select(&[301, 302, 303, 307, 308][..]),
        select(&LOCATIONS[..]),
    );
    let hop = hop.prop_map(|(status, location)| Hop {
        status,
        location: location.to_owned(),
    });
    let hops = proptest::collection::vec(hop, 0..=3);
    let refused = prop_oneof![3 => Just(None), 1 => (0..4_usize).prop_map(Some)];
    let naming = [any_naming(), any_naming()];
    (
        (followers, tenants, naming, any::<bool>(), place),
        (
            any::<bool>(),
            proptest::bool::weighted(0.1),
            first,
            hops,
            refused,
        ),
    )
        .prop_map(
            |(
                (followers, tenants, naming, is_evicted, place),
                (removes_all, has_own, first, hops, refused),
            )| Case {
                followers,
                tenants,
                naming,
                is_evicted,
                place,
                removes_all,
                has_own,
                first,
                hops,
                refused,
            },
        )
}

// ---- the model

/// What the rules require for a request that enters the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Credential(usize),
    Unchanged,
    /// The request fails because of its origin or its tenant.
    Error {
        is_origin: bool,
    },
}

/// Returns the origin by the URL standard, or `None` if the URL has no origin. The crate's own code
/// doesn't use this parser.
fn origin_of(uri: &str) -> Option<String> {
    let origin = Url::parse(uri).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

fn is_secure(uri: &str) -> bool {
    let Ok(url) = Url::parse(uri) else {
        return false;
    };
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    matches!(url.scheme(), "https" | "wss") || is_loopback
}

impl Naming {
    fn names_nothing(&self) -> bool {
        self.by_source.is_empty() && matches!(self.by_user, ByUser::Nothing)
    }

    /// Returns whether the credential may go to this origin.
    fn names(&self, uri: &str) -> bool {
        let Some(origin) = origin_of(uri) else {
            return false;
        };
        let names = match &self.by_user {
            ByUser::AnyHttps => return is_secure(uri),
            ByUser::OnlyTo(names) => names,
            ByUser::Nothing => &self.by_source,
        };
        names
            .iter()
            .any(|name| origin_of(name) == Some(origin.clone()))
    }
}

impl Case {
    fn tenant_of<B>(&self, request: &Request<B>) -> Option<usize> {
        match self.tenants {
            ByWhat::Nothing => Some(0),
            ByWhat::Path => Some(usize::from(request.uri().path().contains("two"))),
            ByWhat::Method => Some(usize::from(request.method() != Method::GET)),
            ByWhat::Host => Some(usize::from(
                request
                    .uri()
                    .host()
                    .is_some_and(|host| host.contains("files")),
            )),
            ByWhat::Extension => request.extensions().get::<Tenant>().map(|tenant| tenant.0),
        }
    }

    fn expected<B>(&self, request: &Request<B>) -> Expected {
        let Some(tenant) = self.tenant_of(request) else {
            return Expected::Error { is_origin: false };
        };
        let naming = &self.naming[tenant];
        if self.tenants != ByWhat::Nothing && naming.names_nothing() {
            return Expected::Error { is_origin: false };
        }
        let uri = request.uri().to_string();
        if self.is_callers(request) {
            Expected::Unchanged
        } else if uri.starts_with('/') || naming.names(&uri) {
            Expected::Credential(tenant)
        } else if naming.passes_elsewhere && !naming.names_nothing() {
            Expected::Unchanged
        } else {
            Expected::Error { is_origin: true }
        }
    }

    /// Returns whether the caller set a credential where the layer puts its own.
    fn is_callers<B>(&self, request: &Request<B>) -> bool {
        self.has_own
            && match self.place {
                At::Authorization => request.headers().contains_key(AUTHORIZATION),
                At::Header => request.headers().contains_key("x-api-key"),
                At::Query => false,
            }
    }

    /// Returns whether an inner `FollowRedirect` sends the credential to any origin. This happens
    /// if `FollowRedirect` doesn't recognize the header as a credential.
    fn is_out_of_hands(&self) -> bool {
        self.place == At::Header && !self.removes_all
    }
}

// ---- the layers and the servers

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tenant(usize);

/// An event of a case.
#[derive(Clone, Debug)]
enum Event {
    /// A request entered the layer.
    Entered { uri: String, expected: Expected },
    /// A request left the layer.
    Left { uri: String, secrets: Vec<usize> },
    /// A request arrived at a server.
    Arrived { uri: String, secrets: Vec<usize> },
}

#[derive(Clone)]
struct Shared {
    case: Arc<Case>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Shared {
    fn push(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

/// Returns the tenants whose credentials are anywhere in the request.
fn secrets_in(request: &Sent) -> Vec<usize> {
    let mut text = request.uri().to_string();
    for (_, value) in request.headers() {
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    let is_in = |tenant: &usize| text.contains(&secret(*tenant));
    (0..2).filter(is_in).collect()
}

fn secret(tenant: usize) -> String {
    format!("secret-of-{tenant}")
}

/// Servers with any name. The case says how they redirect the request.
#[derive(Clone)]
struct Net {
    shared: Shared,
    arrived: Arc<Mutex<Arrived>>,
}

#[derive(Default)]
struct Arrived {
    requests: usize,
    hops: usize,
}

impl Service<Sent> for Net {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        self.shared.push(Event::Arrived {
            uri: request.uri().to_string(),
            secrets: secrets_in(&request),
        });
        let mut response = Response::new(Full::default());
        let mut arrived = self.arrived.lock().unwrap();
        let number = arrived.requests;
        arrived.requests += 1;
        if self.shared.case.refused == Some(number) {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        } else if let Some(hop) = self.shared.case.hops.get(arrived.hops) {
            arrived.hops += 1;
            *response.status_mut() = StatusCode::from_u16(hop.status).unwrap();
            let location = HeaderValue::from_bytes(hop.location.as_bytes()).unwrap();
            response.headers_mut().insert(LOCATION, location);
        }
        ready(Ok(response))
    }
}

/// A source that issues the tokens of one tenant and names origins.
struct Source {
    tenant: usize,
    place: At,
    origins: Vec<Origin>,
    issued: Mutex<usize>,
}

impl TokenSource for Source {
    async fn fetch(&self, reason: Reason) -> Result<Token, Error> {
        let number = {
            let mut issued = self.issued.lock().unwrap();
            *issued += 1;
            *issued
        };
        let secret = format!("{}-{number}", secret(self.tenant));
        match self.place {
            At::Authorization => Token::bearer(secret),
            At::Header => ApiKey::new(secret).header("x-api-key")?.fetch(reason).await,
            At::Query => ApiKey::new(secret).query("api_key")?.fetch(reason).await,
        }
    }

    fn place(&self) -> Place {
        let key = ApiKey::new("k3y");
        match self.place {
            At::Authorization => Place::Header(AUTHORIZATION),
            At::Header => key.header("x-api-key").unwrap().place(),
            At::Query => key.query("api_key").unwrap().place(),
        }
    }

    fn origins(&self) -> Vec<Origin> {
        self.origins.clone()
    }
}

fn layer_of(case: &Case, tenant: usize) -> AuthLayer {
    let naming = &case.naming[tenant];
    let by_source = naming.by_source.iter();
    let layer = AuthLayer::new(Source {
        tenant,
        place: case.place,
        origins: by_source.map(|name| name.parse().unwrap()).collect(),
        issued: Mutex::default(),
    });
    let layer = match &naming.by_user {
        ByUser::Nothing => layer,
        ByUser::OnlyTo(names) => layer.only_to(names).unwrap(),
        ByUser::AnyHttps => layer.any_https(),
    };
    match naming.passes_elsewhere {
        true => layer.pass_elsewhere(),
        false => layer,
    }
}

fn client_of(shared: &Shared) -> Client {
    let net = Net {
        shared: shared.clone(),
        arrived: Arc::default(),
    };
    let case = &shared.case;
    let net: Client = BoxCloneService::new(net.map_err(BoxError::from));
    let inside = matches!(case.followers, Followers::Inside | Followers::Both);
    let below: Client = match (inside, case.removes_all) {
        (false, _) => net,
        (true, false) => BoxCloneService::new(FollowRedirectLayer::new().layer(net)),
        (true, true) => {
            let policy = FilterCredentials::new().remove_all();
            let policy = Limited::default().and::<_, Full<Bytes>, BoxError>(policy);
            BoxCloneService::new(FollowRedirectLayer::with_policy(policy).layer(net))
        }
    };
    let left = shared.clone();
    let below = below.map_request(move |request: Sent| {
        left.push(Event::Left {
            uri: request.uri().to_string(),
            secrets: secrets_in(&request),
        });
        request
    });
    let client = authenticated(case, below);
    let entered = shared.clone();
    let client = client.map_request(move |request: Sent| {
        entered.push(Event::Entered {
            uri: request.uri().to_string(),
            expected: entered.case.expected(&request),
        });
        request
    });
    match case.followers {
        Followers::Outside | Followers::Both => {
            BoxCloneService::new(FollowRedirectLayer::new().layer(client))
        }
        Followers::Inside | Followers::None => BoxCloneService::new(client),
    }
}

#[cfg(not(feature = "tenants"))]
fn authenticated<S>(case: &Arc<Case>, below: S) -> Client
where
    S: Service<Sent, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    BoxCloneService::new(layer_of(case, 0).layer(below))
}

#[cfg(feature = "tenants")]
fn authenticated<S>(case: &Arc<Case>, below: S) -> Client
where
    S: Service<Sent, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    use tower_auth::tenants::Tenants;

    if case.tenants == ByWhat::Nothing {
        return BoxCloneService::new(layer_of(case, 0).layer(below));
    }
    /// Another tenant. It evicts the first tenant.
    const OTHER: Tenant = Tenant(2);
    let made = Arc::clone(case);
    // These clones keep an evicted tenant's cache in use. Otherwise only the tenant's own running
    // requests would use it.
    let in_use = Mutex::new(Vec::new());
    let tenants = Tenants::builder(move |tenant: &Tenant| {
        let layer = match *tenant {
            OTHER => crate::support::layer(tower_auth_test::ScriptedSource::default()),
            Tenant(tenant) => layer_of(&made, tenant),
        };
        in_use.lock().unwrap().push(layer.cache().clone());
        Ok(layer)
    });
    let tenants = match case.is_evicted {
        true => tenants.capacity(1).build(),
        false => tenants.build(),
    };
    let evicting = case.is_evicted.then(|| tenants.clone());
    // While the request runs, the other tenant evicts the first.
    let below = below.map_request(move |request: Sent| {
        if let Some(tenants) = &evicting {
            drop(tenants.get(&OTHER).unwrap());
            assert_eq!(tenants.len(), 1);
        }
        request
    });
    if case.tenants == ByWhat::Extension {
        return BoxCloneService::new(tenants.by_extension().layer(below));
    }
    let by = Arc::clone(case);
    let by = tenants.by(move |request: &Sent| by.tenant_of(request).map(Tenant));
    BoxCloneService::new(by.layer(below))
}

// ---- the property

fn run(case: Case) -> (Case, Vec<Event>, Result<Answer, BoxError>) {
    let shared = Shared {
        case: Arc::new(case.clone()),
        events: Arc::default(),
    };
    let request = Request::builder()
        .method(&case.first.method)
        .uri(case.first.uri)
        .extension(Tenant(case.first.tenant));
    let request = match (case.has_own, case.place) {
        (true, At::Header) => request.header("x-api-key", "own"),
        (true, _) => request.header(AUTHORIZATION, "Basic b3du"),
        (false, _) => request,
    };
    let request = request.body(Full::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    let result = runtime.block_on(client_of(&shared).oneshot(request));
    let events = std::mem::take(&mut *shared.events.lock().unwrap());
    (case, events, result)
}

fn without_query(uri: &str) -> &str {
    uri.split('?').next().unwrap_or(uri)
}

/// Checks the events. Returns two numbers: the credentials that were sent, and the requests that
/// failed because of their origin.
fn check(case: &Case, events: &[Event], result: &Result<Answer, BoxError>) -> [usize; 2] {
    let mut current = None;
    let mut is_direct = false;
    let mut counts = [0; 2];
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Entered { uri, expected } => {
                current = Some((without_query(uri), *expected));
                let left = events.get(at + 1);
                let has_left = matches!(left, Some(Event::Left { .. }));
                if let Expected::Error { is_origin } = *expected {
                    assert!(!has_left, "it was sent: {uri}");
                    let error = result.as_ref().unwrap_err();
                    let error: &Error = error.downcast_ref().unwrap();
                    assert_eq!(error.is_origin(), is_origin, "{error}");
                    assert_eq!(error.is_config(), !is_origin, "{error}");
                    counts[1] += 1;
                } else {
                    assert!(has_left, "it wasn't sent: {uri}");
                }
            }
            Event::Left { uri, secrets } => {
                is_direct = true;
                let (entered, expected) = current.unwrap();
                assert_eq!(without_query(uri), entered);
                match expected {
                    Expected::Credential(tenant) => {
                        assert_eq!(secrets, &[tenant], "{uri}");
                        counts[0] += 1;
                    }
                    Expected::Unchanged => assert!(secrets.is_empty(), "{uri}"),
                    Expected::Error { .. } => panic!("it was sent: {uri}"),
                }
            }
            Event::Arrived { uri, secrets } => {
                let is_followers = !std::mem::take(&mut is_direct);
                if is_followers && case.is_out_of_hands() {
                    continue;
                }
                for tenant in secrets {
                    let is_named = uri.starts_with('/') || case.naming[*tenant].names(uri);
                    assert!(is_named, "{} reached {uri}", secret(*tenant));
                }
            }
        }
    }
    if let Ok(response) = result {
        assert!(!response.status().is_server_error());
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn no_credential_reaches_an_origin_that_was_not_named(case in any_case()) {
        let (case, events, result) = run(case);
        check(&case, &events, &result);
    }
}
