//! Clients with every kind of authentication.

use tower_auth::oauth2::{Client, ClientCredentials, EndpointUrl, ProtectedResource};
use tower_auth::{Reason, SecretSource, Token, TokenSource};

#[cfg(feature = "jwt")]
use super::{REVOKE, URL};
use super::{SECRET, TOKEN, client, drive};
#[cfg(feature = "jwt")]
use crate::support::echo::Echo;
use crate::support::secret_finder::SecretFinder;

#[cfg(feature = "jwt")]
fn public(echo: Echo) -> Client {
    let client = Client::public(URL, "client").unwrap().transport(echo);
    client.revoke_at(REVOKE).unwrap()
}

#[tokio::test(start_paused = true)]
async fn client_credentials_show_no_secret_however_they_prove_themselves() {
    let ways: [fn(Client) -> Client; 4] = [
        |client| client,
        Client::basic_auth,
        Client::json,
        |client| client.client_assertion(TOKEN),
    ];
    for way in ways {
        drive(async |finder, echo| {
            let client = way(client(echo));
            finder.print(&client);
            ClientCredentials::with_client(client).param("key", "planted & param")
        })
        .await;
    }
}

#[cfg(feature = "jwt")]
#[tokio::test(start_paused = true)]
async fn a_client_that_signs_shows_neither_its_key_nor_what_it_signed() {
    use tower_auth::Error;
    use tower_auth::oauth2::{JwsAlgorithm, JwtBearer, SignedJwt, SigningKey};

    // Text around a key is ignored. So it can contain the planted word.
    let pem = || format!("planted\n{}", crate::support::keys::EC_PKCS8);
    let jwk = || crate::support::keys::ED_JWK.replacen('{', "{\"planted\":\"planted\",", 1);
    let keys: [&dyn Fn() -> Result<SigningKey, Error>; 3] = [
        &|| SigningKey::pem(JwsAlgorithm::ES256, pem()),
        &|| SigningKey::jwk(jwk()),
        &|| SigningKey::hmac(SECRET),
    ];
    let finder = SecretFinder::start();
    for key in keys {
        finder.print(&key().unwrap());
        finder.print(&public(Echo::new(0, 0)).private_key_jwt(key().unwrap()));
    }
    finder.end();
    drive(async |_, echo| {
        let client = public(echo).private_key_jwt(keys[0]()?)?;
        Ok(ClientCredentials::with_client(client))
    })
    .await;
    drive(async |finder, echo| {
        let jwt = SignedJwt::new(keys[1]()?).claim("note", "planted-claim")?;
        finder.print(&jwt);
        finder.print(&SecretSource::from(jwt.clone()));
        Ok(JwtBearer::new(
            public(echo).client_assertion(jwt.clone()),
            jwt,
        ))
    })
    .await;
    drive(async |_, echo| Ok(ClientCredentials::with_client(client(echo).secret_jwt()?))).await;

    let finder = SecretFinder::start();
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
        finder.print_error(&wrong.unwrap_err());
    }
    finder.end();
}

#[cfg(feature = "dpop")]
#[tokio::test(start_paused = true)]
async fn a_token_that_is_bound_to_a_key_shows_neither_itself_nor_its_proofs() {
    use tower_auth::oauth2::DpopKey;

    let key = DpopKey::generate().unwrap();
    drive(async |finder, echo| {
        finder.print(&key);
        let client = client(echo).dpop(key.clone());
        finder.print(&client);
        Ok(ClientCredentials::with_client(client))
    })
    .await;
    let finder = SecretFinder::start();
    for wrong in [
        "planted",
        "-----BEGIN PRIVATE KEY-----\nplanted\n-----END PRIVATE KEY-----",
    ] {
        finder.print_error(&DpopKey::from_pem(wrong).unwrap_err());
    }
    finder.end();
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_read_is_not_quoted() {
    let finder = SecretFinder::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let long = "planted".repeat(64 * 1024 / 7 + 1);
    for content in [long.as_bytes(), b"planted \xff planted".as_slice()] {
        std::fs::write(&path, content).unwrap();
        let error = SecretSource::file(&path).read().await.unwrap_err();
        finder.print_error(&error);
    }
    finder.end();
}

/// A document may contain a secret from elsewhere, even if it was requested without a credential.
#[tokio::test(start_paused = true)]
async fn metadata_with_a_secret_in_an_odd_place_is_not_quoted_there() {
    use crate::support::web::{Page, Web};
    use serde_json::json;

    let finder = SecretFinder::start();
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
        let page = Page::json(200, &odd);
        web.put(
            "https://id.example.com/.well-known/oauth-authorization-server",
            page.clone(),
        );
        web.put(
            "https://api.example.com/.well-known/oauth-protected-resource",
            page,
        );
        let url = EndpointUrl::from_issuer(issuer).unwrap();
        let client = Client::new(url, "client", SECRET)
            .unwrap()
            .transport(web.transport());
        let source = ClientCredentials::with_client(client);
        finder.print_error(&source.fetch(Reason::First).await.unwrap_err());
        finder.print(&source);

        let build = |_| Ok(|_| async { Token::bearer("planted") });
        let source = ProtectedResource::new(resource, [issuer], build)
            .unwrap()
            .transport(web.transport());
        finder.print_error(&source.fetch(Reason::First).await.unwrap_err());
        finder.print(&source);
    }
    finder.end();
}
