//! The type and the audience of the assertions that a client signs
//! (draft-ietf-oauth-rfc7523bis).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tower_auth::oauth2::{
    Client, ClientCredentials, DeviceAuthorization, EndpointUrl, JwsAlgorithm, JwtBearer,
    ProtectedResource, SignedJwt, SigningKey,
};
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_auth_test::RecordedRequest;

use crate::support::keys::{EC_PKCS8, HMAC_SECRET};
use crate::support::web::{Page, Web};

const TYP: &str = "client-authentication+jwt";

/// The issuer as the metadata contains it, and as the caller writes it.
const ISSUER: &str = "https://id.example.com/";
const WRITTEN: &str = "https://id.example.com";

const METADATA: &str = "https://id.example.com/.well-known/oauth-authorization-server";
const TOKEN: &str = "https://id.example.com/oauth/token";
const REVOKE: &str = "https://id.example.com/oauth/revoke";
const DEVICE: &str = "https://id.example.com/oauth/device";

fn key() -> SigningKey {
    SigningKey::pem(JwsAlgorithm::ES256, EC_PKCS8).unwrap()
}

fn web() -> Web {
    let web = Web::default();
    let metadata = json!({
        "issuer": ISSUER,
        "token_endpoint": TOKEN,
        "revocation_endpoint": REVOKE,
        "device_authorization_endpoint": DEVICE,
    });
    web.put(METADATA, Page::json(200, metadata));
    let token = json!({"access_token": "issued", "token_type": "Bearer", "expires_in": 3600});
    web.put(TOKEN, Page::json(200, token));
    web.put(REVOKE, Page::new(200));
    let prompt = json!({
        "device_code": "d",
        "user_code": "u",
        "verification_uri": "https://id.example.com/activate",
        "expires_in": 60,
    });
    web.put(DEVICE, Page::json(200, prompt));
    web
}

fn issuer() -> EndpointUrl {
    let issuer = EndpointUrl::from_issuer(WRITTEN).unwrap();
    issuer.ignore_issuer_slash()
}

fn client<U>(web: &Web, url: U) -> Client
where
    U: TryInto<EndpointUrl>,
    Error: From<U::Error>,
{
    let client = Client::public(url, "job").unwrap();
    client.transport(web.transport())
}

fn signing<U>(web: &Web, url: U) -> Client
where
    U: TryInto<EndpointUrl>,
    Error: From<U::Error>,
{
    client(web, url).private_key_jwt(key()).unwrap()
}

async fn fetch(client: Client) -> Result<Token, Error> {
    let source = ClientCredentials::with_client(client);
    source.fetch(Reason::First).await
}

async fn revoke(client: Client) -> Result<(), Error> {
    let source = ClientCredentials::with_client(client);
    source.close(Some(Token::bearer("t").unwrap())).await
}

fn json_of(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Returns the type and the audience of a JWT.
fn typ_and_audience(jwt: &str) -> (Value, Value) {
    let mut parts = jwt.split('.').map(str::to_owned);
    let header = json_of(&parts.next().unwrap());
    let claims = json_of(&parts.next().unwrap());
    (header["typ"].clone(), claims["aud"].clone())
}

/// Returns the type and the audience of the assertion in each POST request to this address.
fn sent_to(web: &Web, url: &str) -> Vec<(Value, Value)> {
    let asked = web.asked().into_iter();
    let requests = asked.filter(|request| request.uri() == url);
    let assertion = |request: RecordedRequest| request.param("client_assertion").unwrap();
    requests
        .map(|request| typ_and_audience(&assertion(request)))
        .collect()
}

fn expected(typ: &str, audience: &str) -> Vec<(Value, Value)> {
    vec![(json!(typ), json!(audience))]
}

#[tokio::test]
async fn the_type_is_jwt_unless_the_caller_sets_another() {
    let secret = |web: &Web| {
        let client = Client::new(TOKEN, "job", HMAC_SECRET).unwrap();
        client.transport(web.transport())
    };
    type Make<'a> = &'a dyn Fn(&Web) -> Client;
    for (make, typ) in [
        (&(|web: &Web| signing(web, TOKEN)) as Make<'_>, "JWT"),
        (&|web| signing(web, TOKEN).assertion_typ(TYP), TYP),
        (
            &|web| signing(web, TOKEN).assertion_typ("x").assertion_typ(TYP),
            TYP,
        ),
        (
            // The order of the setters makes no difference.
            &|web| {
                let client = client(web, TOKEN).assertion_typ(TYP).basic_auth();
                client.private_key_jwt(key()).unwrap()
            },
            TYP,
        ),
        (&|web| secret(web).secret_jwt().unwrap(), "JWT"),
        (
            &|web| secret(web).secret_jwt().unwrap().assertion_typ(TYP),
            TYP,
        ),
        (
            &|web| secret(web).assertion_typ(TYP).secret_jwt().unwrap(),
            TYP,
        ),
        (
            &|web| {
                let client = secret(web).assertion_typ(TYP).secret_jwt().unwrap();
                client.private_key_jwt(key()).unwrap().clone()
            },
            TYP,
        ),
    ] {
        let web = web();
        fetch(make(&web)).await.unwrap();
        assert_eq!(sent_to(&web, TOKEN), expected(typ, TOKEN));
    }
}

#[tokio::test]
async fn a_jwt_of_the_callers_own_has_its_own_type() {
    let jwt = || {
        SignedJwt::new(key())
            .issuer("job")
            .subject("job")
            .audience("a")
    };
    for (jwt, typ) in [
        (jwt(), "JWT"),
        (jwt().typ(TYP), TYP),
        (jwt().typ(TYP).typ("y"), "y"),
    ] {
        let web = web();
        let client = client(&web, TOKEN).client_assertion(jwt);
        // The setting has no effect, because the caller provides the assertion.
        fetch(client.assertion_typ("z")).await.unwrap();
        assert_eq!(sent_to(&web, TOKEN), expected(typ, "a"));
    }
    // The setting doesn't change the assertion of a grant either.
    let web = web();
    let grant = SignedJwt::new(key())
        .typ("authorization-grant+jwt")
        .audience("a");
    let source = JwtBearer::new(signing(&web, issuer()).assertion_typ(TYP), grant);
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(sent_to(&web, TOKEN), expected(TYP, ISSUER));
    let request = web.asked().pop().unwrap();
    let grant = request.param("assertion").unwrap();
    assert_eq!(
        typ_and_audience(&grant),
        (json!("authorization-grant+jwt"), json!("a"))
    );
}

#[tokio::test]
async fn a_type_is_shown_and_escaped() {
    let web = web();
    let odd = "\"quoted\"\n";
    let client = signing(&web, TOKEN).assertion_typ(odd);
    assert!(format!("{client:?}").contains("quoted"));
    fetch(client).await.unwrap();
    assert_eq!(sent_to(&web, TOKEN), expected(odd, TOKEN));
    let jwt = SignedJwt::new(key()).typ(TYP);
    assert!(format!("{jwt:?}").contains(TYP));
}

#[tokio::test(start_paused = true)]
async fn the_audience_is_the_issuer_as_its_metadata_writes_it_at_each_endpoint() {
    let web = web();
    let url = issuer();
    let client = signing(&web, url.clone()).assertion_typ(TYP);
    let client = client.revoke_at(url.clone()).unwrap();
    fetch(client.clone()).await.unwrap();
    revoke(client.clone()).await.unwrap();
    let login = DeviceAuthorization::new(client, url).unwrap();
    let prompt = login.begin().await.unwrap();
    login.finish(prompt).await.unwrap();
    for endpoint in [TOKEN, REVOKE, DEVICE] {
        for sent in sent_to(&web, endpoint) {
            assert_eq!(sent, (json!(TYP), json!(ISSUER)), "{endpoint}");
        }
    }
    assert_eq!(web.asked().len(), 5);
    assert_eq!(web.times(&format!("GET {METADATA}")), 1);
}

#[tokio::test]
async fn a_protected_resources_client_signs_for_the_issuer_too() {
    const API: &str = "https://mcp.example.com/mcp";
    let web = web();
    let well_known = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
    let metadata = json!({"resource": API, "authorization_servers": [ISSUER]});
    web.put(well_known, Page::json(200, metadata));
    let transport = web.transport();
    let source = ProtectedResource::new(API, [WRITTEN], move |protection| {
        let client = Client::public(protection.endpoint(), "job")?;
        let client = client.transport(transport.clone());
        Ok(ClientCredentials::with_client(
            client.private_key_jwt(key())?,
        ))
    });
    let source = source.unwrap().transport(web.transport());
    let source = source.ignore_issuer_slash();
    source.fetch(Reason::First).await.unwrap();
    assert_eq!(sent_to(&web, TOKEN), expected("JWT", ISSUER));
}

#[tokio::test]
async fn an_endpoint_with_an_issuer_gets_an_assertion_for_that_issuer() {
    let web = web();
    let client = signing(&web, TOKEN).revoke_at(issuer()).unwrap();
    // The token endpoint has an address, so this request needs no metadata.
    fetch(client.clone()).await.unwrap();
    assert_eq!(sent_to(&web, TOKEN), expected("JWT", TOKEN));
    assert_eq!(web.asked().len(), 1);
    revoke(client).await.unwrap();
    assert_eq!(sent_to(&web, REVOKE), expected("JWT", ISSUER));
}

#[tokio::test]
async fn an_endpoint_with_an_address_gets_an_assertion_for_the_clients_issuer() {
    let web = web();
    let client = signing(&web, issuer()).revoke_at(REVOKE).unwrap();
    revoke(client.clone()).await.unwrap();
    assert_eq!(sent_to(&web, REVOKE), expected("JWT", ISSUER));
    let login = DeviceAuthorization::new(client, DEVICE).unwrap();
    login.begin().await.unwrap();
    assert_eq!(sent_to(&web, DEVICE), expected("JWT", ISSUER));
    // The issuer's name is certain without `ignore_issuer_slash`, so no metadata is fetched.
    let web = self::web();
    let exact = EndpointUrl::from_issuer(ISSUER).unwrap();
    let client = signing(&web, exact).revoke_at(REVOKE).unwrap();
    revoke(client).await.unwrap();
    assert_eq!(sent_to(&web, REVOKE), expected("JWT", ISSUER));
    assert_eq!(web.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_needs_no_metadata_is_sent_without_it() {
    for page in [Page::new(503), Page::new(404), Page::stall(), Page::reset()] {
        let web = web();
        web.put(METADATA, page);
        fetch(signing(&web, TOKEN)).await.unwrap();
        assert_eq!(web.asked().len(), 1);
        let client = signing(&web, issuer()).revoke_at(REVOKE).unwrap();
        revoke(client.clone()).await.unwrap();
        assert_eq!(sent_to(&web, REVOKE), expected("JWT", WRITTEN));
        // A token request fails, because only the metadata contains the token endpoint's address.
        assert!(fetch(client).await.is_err());
        assert_eq!(sent_to(&web, TOKEN).len(), 1);
    }
}

#[tokio::test]
async fn only_an_assertion_of_the_client_waits_for_the_issuers_name() {
    let web = web();
    web.put(METADATA, Page::new(503));
    let jwt = SignedJwt::new(key()).audience("a");
    for client in [
        client(&web, issuer()).client_assertion(jwt),
        client(&web, issuer()).basic_auth(),
    ] {
        revoke(client.revoke_at(REVOKE).unwrap()).await.unwrap();
    }
    assert_eq!(web.times(&format!("GET {METADATA}")), 0);
}
