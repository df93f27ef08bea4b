//! The grants of OAuth, with each kind of client.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use secrecy::{ExposeSecret, SecretString};
use tower_auth::fleet::{Keyring, MemoryStore, StoreKey};
use tower_auth::oauth2::{
    AuthorizationCode, AuthorizationRequest, Client, ClientCredentials, DeviceAuthorization,
    DpopKey, JwsAlgorithm, JwtBearer, ProtectedResource, RefreshToken, RefreshTokenFile,
    SharedLogin, SignedJwt, SigningKey, StepUp, TokenExchange, TokenResponseFormat,
};
use tower_auth::{Error, Token};
use tower_auth_freed::{look_for, unwatched};

use crate::keys::{EC_PKCS8, ED_JWK};
use crate::planted::{EC_KEY_PART, ED_KEY_PART, look_for_key, secret, text};
use crate::server::Server;
use crate::watched::drive;

const URL: &str = "https://id.example.com/token";
const REVOKE: &str = "https://id.example.com/revoke";

fn client(server: Server) -> Client {
    let client = Client::new(URL, "client", secret("client")).unwrap();
    client.transport(server).revoke_at(REVOKE).unwrap()
}

fn public(server: Server) -> Client {
    let client = Client::public(URL, "client").unwrap().transport(server);
    client.revoke_at(REVOKE).unwrap()
}

#[test]
fn client_credentials_leave_no_secret() {
    let ways: [fn(Client) -> Client; 4] = [
        |client| client,
        Client::basic_auth,
        Client::json,
        |client| client.client_assertion(secret("assertion")),
    ];
    for way in ways {
        drive(async |server| {
            ClientCredentials::with_client(way(client(server))).param("key", secret("param"))
        });
    }
}

#[test]
fn form_encoded_responses_leave_no_secret() {
    drive(async |server| {
        let format = TokenResponseFormat::new().form_encoded();
        let client = client(server).response_format(format);
        Ok(ClientCredentials::with_client(client))
    });
}

#[test]
fn a_client_that_signs_leaves_neither_its_key_nor_its_assertions() {
    // Text around a key is ignored. So it can contain the secret.
    let pem = || {
        look_for_key(EC_KEY_PART);
        unwatched(|| SecretString::from(format!("{}\n{EC_PKCS8}", text("pem"))))
    };
    let jwk = || {
        look_for_key(ED_KEY_PART);
        unwatched(|| {
            let begin = format!("{{\"note\":\"{}\",", text("jwk"));
            SecretString::from(ED_JWK.replacen('{', &begin, 1))
        })
    };
    let keys: [&dyn Fn() -> Result<SigningKey, Error>; 3] = [
        &|| SigningKey::pem(JwsAlgorithm::ES256, pem()),
        &|| SigningKey::jwk(jwk()),
        &|| SigningKey::hmac(secret("hmac-key-of-32-bytes")),
    ];
    for key in keys {
        drive(async |server| {
            let client = public(server).private_key_jwt(key()?)?;
            Ok(ClientCredentials::with_client(client))
        });
    }
    drive(async |server| {
        let claim = unwatched(|| text("claim"));
        let jwt = SignedJwt::new(keys[1]()?).claim("note", claim)?;
        let client = public(server).client_assertion(jwt.clone());
        Ok(JwtBearer::new(client, jwt))
    });
    drive(async |server| Ok(ClientCredentials::with_client(client(server).secret_jwt()?)));
}

#[test]
fn a_token_that_is_bound_to_a_key_is_left_nowhere() {
    drive(async |server| {
        let key = DpopKey::generate()?;
        let key = DpopKey::from_pem(key.to_pem()?)?;
        Ok(ClientCredentials::with_client(client(server).dpop(key)))
    });
}

#[test]
fn a_refresh_token_is_left_nowhere() {
    drive(async |server| Ok(RefreshToken::new(client(server), secret("first"))));
    drive(async |server| RefreshToken::new(client(server), secret("first")).log_out_on_close());
}

#[test]
fn a_refresh_token_in_a_file_is_left_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("login");
    drive(async |server| {
        unwatched(|| {
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(true).mode(0o600);
            let mut file = options.open(&path).unwrap();
            file.write_all(text("first").as_bytes()).unwrap();
        });
        let source = RefreshToken::stored(client(server), RefreshTokenFile::new(&path));
        source.param("key", secret("param"))
    });
}

#[test]
fn a_shared_login_is_left_nowhere() {
    drive(async |server| {
        let keys = keyring();
        let login = StoreKey::new("login");
        let store = SharedLogin::new(MemoryStore::new(), keys, &login);
        let device = "https://id.example.com/device";
        let login = DeviceAuthorization::new(client(server), device)?.store(store);
        let prompt = login.begin().await?;
        login.finish(prompt).await
    });
}

fn keyring() -> Keyring {
    Keyring::new("2026-11", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap()
}

#[test]
fn an_exchange_leaves_neither_the_subject_nor_the_actor() {
    drive(async |server| {
        let own = ClientCredentials::with_client(client(server.clone()));
        let actor = |_| async { Token::bearer(secret("actor")) };
        Ok(TokenExchange::new(client(server), own).actor(actor))
    });
    drive(async |server| {
        let own = ClientCredentials::with_client(client(server.clone()));
        Ok(TokenExchange::new(client(server), own).subject_id_token())
    });
}

#[test]
fn an_assertion_is_left_nowhere() {
    drive(async |server| Ok(JwtBearer::new(client(server), secret("assertion"))));
}

#[test]
fn a_login_on_another_device_leaves_no_code() {
    drive(async |server| {
        let login = DeviceAuthorization::new(client(server), "https://id.example.com/device")?;
        let prompt = login.begin().await?;
        login.finish(prompt).await
    });
}

#[test]
fn a_login_with_a_browser_leaves_no_code() {
    drive(async |server| {
        let login = AuthorizationCode::new(client(server), "https://id.example.com/authorize")?;
        let request = login.begin("https://app.example.com/callback").await?;
        // The state is random.
        let redirect = unwatched(|| {
            let (_, query) = request.url().split_once('?').unwrap();
            let mut params = form_urlencoded::parse(query.as_bytes());
            let (_, state) = params.find(|(name, _)| name == "state").unwrap();
            look_for(state.as_bytes());
            let mut redirect = form_urlencoded::Serializer::new(String::from("/callback?"));
            redirect
                .append_pair("code", &text("code"))
                .append_pair("state", &state);
            SecretString::from(redirect.finish())
        });
        let keys = keyring();
        let request = AuthorizationRequest::open(&keys, &request.seal(&keys)?)?;
        let response = request.read(redirect.expose_secret())?;
        login.finish(request, response).await
    });
}

#[test]
fn sources_that_choose_their_scope_leave_no_secret() {
    drive(async |server| {
        let build = move |wanted: &tower_auth::oauth2::StepUpRequest| {
            let source = ClientCredentials::with_client(client(server.clone()));
            Ok(source.scope(wanted.scope()))
        };
        Ok(StepUp::new(build).scope("read").allow("write"))
    });
    drive(async |server| {
        let of_metadata = server.clone();
        let source = ProtectedResource::new(
            "https://api.example.com",
            ["https://id.example.com"],
            move |protection| {
                let endpoint = protection.endpoint();
                let client = Client::new(endpoint, "client", secret("client"))?;
                Ok(ClientCredentials::with_client(
                    client.transport(server.clone()),
                ))
            },
        )?;
        Ok(source.transport(of_metadata))
    });
}
