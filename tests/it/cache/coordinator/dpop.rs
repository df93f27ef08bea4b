//! Processes share key-bound tokens if they have the same key.

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::fleet::Fleet;
use tower_auth::oauth2::{Client, ClientCredentials, DpopKey};

use super::secret;
use crate::support::breakable_store::{BreakableStore, keyring};
use crate::support::log::listen;
use crate::support::request;
use crate::support::token_server::{ID, SECRET, TokenServer, URL};

fn server() -> TokenServer {
    TokenServer::new(
        200,
        r#"{"access_token":"bound","token_type":"DPoP","expires_in":3600}"#,
    )
}

fn with(server: &TokenServer, key: &DpopKey) -> ClientCredentials {
    let client = Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(server.transport());
    ClientCredentials::with_client(client.dpop(key.clone()))
}

#[tokio::test(start_paused = true)]
async fn who_has_the_key_takes_it_and_makes_proofs_of_its_own() {
    let (store, server) = (BreakableStore::default(), server());
    let key = DpopKey::generate().unwrap();
    let of_fleet = || Fleet::new(store.clone(), keyring());
    let first = store.process_of(of_fleet(), with(&server, &key));
    first.token().await.unwrap();

    let same = DpopKey::from_pem(key.to_pem().unwrap()).unwrap();
    let second = store.process_of(of_fleet(), with(&server, &same));
    let api = service_fn(|request: http::Request<Full<Bytes>>| async move {
        assert_eq!(request.headers()["authorization"], "DPoP bound");
        assert!(
            request.headers()["dpop"]
                .to_str()
                .unwrap()
                .starts_with("eyJ")
        );
        Ok::<_, std::convert::Infallible>(http::Response::new(()))
    });
    let response = crate::support::layer_from(second)
        .layer(api)
        .oneshot(request(""))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(server.times_asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_has_another_key_asks_for_its_own() {
    let (store, server) = (BreakableStore::default(), server());
    let keys = [(); 2].map(|()| DpopKey::generate().unwrap());
    let of_fleet = || Fleet::new(store.clone(), keyring());
    for key in &keys {
        secret(&store.process_of(of_fleet(), with(&server, key))).await;
    }
    assert_eq!((server.times_asked(), store.stored().len()), (2, 2));

    // With a store key set by the user, both processes share one entry. The second process ignores
    // the token in it, which is bound to another key.
    let (store, server) = (BreakableStore::default(), self::server());
    for (key, told) in keys.iter().zip([0, 1]) {
        let (log, _listening) = listen();
        secret(&store.process(with(&server, key))).await;
        let unbound = |line: &crate::support::log::Line| {
            line.fields
                .iter()
                .any(|field| field == "tower_auth.store.ignored=unbound")
        };
        assert_eq!(log.all().iter().filter(|line| unbound(line)).count(), told);
    }
    assert_eq!(server.times_asked(), 2);
}
