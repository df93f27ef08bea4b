//! If the server would issue the same token to two sources, the sources share a token. Otherwise
//! the sources never share a token.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use tower_auth::fleet::StoreKey;
use tower_auth::login::JsonLogin;
use tower_auth::oauth2::{
    Client, ClientCredentials, EndpointUrl, JwtBearer, RefreshToken, TokenExchange,
};
use tower_auth::{TokenCache, TokenSource};
use tower_auth_test::ScriptedSource;

use crate::support::token_server::{ID, SECRET, TokenServer, URL};

/// Everything that a token of the client credentials grant depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    endpoint: String,
    issuer: bool,
    client: String,
    scope: BTreeSet<String>,
    audience: String,
    resources: BTreeSet<String>,
    extra_params: Vec<(String, String)>,
    tenant: Option<String>,
    #[cfg(feature = "dpop")]
    dpop: Option<usize>,
}

/// Returns the nth DPoP key. The nth key is the same in every case.
#[cfg(feature = "dpop")]
fn dpop_key(n: usize) -> tower_auth::oauth2::DpopKey {
    use std::sync::LazyLock;
    use tower_auth::oauth2::DpopKey;
    static KEYS: LazyLock<[DpopKey; 3]> =
        LazyLock::new(|| [(); 3].map(|()| DpopKey::generate().unwrap()));
    KEYS[n].clone()
}

impl Asked {
    /// Returns the store key. `shuffle` permutes everything whose order doesn't matter.
    fn key(&self, shuffle: bool) -> String {
        let url = match self.issuer {
            true => EndpointUrl::from_issuer(&self.endpoint).unwrap(),
            false => EndpointUrl::try_from(self.endpoint.as_str()).unwrap(),
        };
        let transport = TokenServer::issuing().transport();
        let client = Client::new(url, self.client.as_str(), "secret")
            .unwrap()
            .transport(transport);
        #[cfg(feature = "dpop")]
        let client = match self.dpop {
            Some(n) => client.dpop(dpop_key(n)),
            None => client,
        };
        let mut source = ClientCredentials::with_client(client).audience(&self.audience);
        let (scope, resources, extra_params): (Vec<_>, Vec<_>, Vec<_>) = match shuffle {
            true => (
                self.scope.iter().rev().collect(),
                self.resources.iter().rev().collect(),
                self.extra_params.iter().rev().collect(),
            ),
            false => (
                self.scope.iter().collect(),
                self.resources.iter().collect(),
                self.extra_params.iter().collect(),
            ),
        };
        source = source.scopes(scope);
        for resource in resources {
            source = source.resource(resource);
        }
        for (name, value) in extra_params {
            source = source.param(name, value.as_str()).unwrap();
        }
        let key = source.store_key().unwrap();
        let key = match &self.tenant {
            Some(tenant) => key.with("tenant", tenant),
            None => key,
        };
        key.to_text()
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let word = "[a-c]{1,2}";
    let extra_params = vec((word, word), 0..3).prop_map(|mut extra_params| {
        // RFC 6749 §3.2 allows each parameter once.
        let mut seen = BTreeSet::new();
        extra_params.retain(|(name, _)| seen.insert(name.clone()));
        extra_params
    });
    let endpoint = prop_oneof![
        "https://[a-b]{1,2}\\.example/[a-b]{0,1}",
        "https://[a-b]:8443/[a-b]{0,1}"
    ];
    let scope = vec(word, 0..3);
    let base = (
        endpoint,
        any::<bool>(),
        word,
        scope,
        "[a-c]{0,2}",
        vec(word, 0..3),
        extra_params,
        proptest::option::of(word),
        proptest::option::of(0..3_usize),
    );
    base.prop_map(
        |(endpoint, issuer, client, scope, audience, resources, extra_params, tenant, _dpop)| {
            Asked {
                endpoint,
                issuer,
                client,
                scope: scope.into_iter().collect(),
                audience,
                resources: resources.into_iter().collect(),
                extra_params,
                tenant,
                #[cfg(feature = "dpop")]
                dpop: _dpop,
            }
        },
    )
}

/// Changes one of the request's values.
fn changed(asked: &Asked, what: usize, to: &str) -> Asked {
    let mut other = asked.clone();
    match what {
        0 => other.endpoint.push_str(to),
        1 => other.issuer = !other.issuer,
        2 => other.client.push_str(to),
        3 => drop(other.scope.insert(format!("{to}{to}"))),
        4 => other.audience.push_str(to),
        5 => drop(other.resources.insert(format!("{to}{to}"))),
        6 => other
            .extra_params
            .push((format!("{to}{to}"), String::from("value"))),
        7 => match other.extra_params.first_mut() {
            Some((_, value)) => value.push_str(to),
            None => other.extra_params.push((String::from("z"), to.to_owned())),
        },
        8 => other.tenant = Some(other.tenant.unwrap_or_default() + to),
        #[cfg(feature = "dpop")]
        9 => other.dpop = other.dpop.map_or(Some(0), |n| n.checked_sub(1)),
        _ => drop(other.scope.pop_first()),
    }
    other
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_change_in_any_one_thing_changes_the_key_and_order_does_not(asked in asked(), what in 0_usize..11, to in "[x-z]{1,2}") {
        prop_assert_eq!(asked.key(false), asked.key(true));
        let other = changed(&asked, what, &to);
        prop_assert_eq!(asked == other, asked.key(false) == other.key(false), "{:?} {:?}", asked, other);
    }

    #[test]
    fn two_sources_have_the_same_key_only_if_they_ask_the_same(one in asked(), other in asked()) {
        prop_assert_eq!(one == other, one.key(false) == other.key(false));
    }

    #[test]
    fn no_names_and_values_run_into_each_other(one in vec(("[ab:= ]{0,3}", "[ab:= ]{0,3}"), 0..4), other in vec(("[ab:= ]{0,3}", "[ab:= ]{0,3}"), 0..4)) {
        let key = |parts: &[(String, String)]| parts.iter().fold(StoreKey::new("k"), |key, (name, value)| key.with(name, value));
        let set = |parts: &[(String, String)]| parts.iter().cloned().collect::<BTreeSet<_>>();
        prop_assert_eq!(set(&one) == set(&other), key(&one) == key(&other));
    }
}

#[test]
fn a_key_is_43_letters_that_any_place_takes() {
    let key = StoreKey::new("kind").with("name", "value").to_text();
    assert_eq!(key.len(), 43);
    assert!(
        key.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
        "{key}"
    );
    assert_eq!(key, StoreKey::new("kind").with("name", "value").to_text());
    assert_ne!(key, StoreKey::new("dnik").with("name", "value").to_text());
}

#[test]
fn what_the_client_proves_itself_with_and_how_it_asks_is_no_part_of_the_key() {
    let server = TokenServer::issuing();
    let plain = server.client();
    let other = server
        .client()
        .basic_auth()
        .json()
        .assume_lifetime(std::time::Duration::ZERO);
    assert_eq!(plain.store_key(), other.store_key());
}

fn client() -> Client {
    Client::new(URL, ID, SECRET)
        .unwrap()
        .transport(TokenServer::issuing().transport())
}

#[test]
fn an_exchange_depends_on_those_who_are_shown() {
    let of = |audience: &str| ClientCredentials::with_client(client()).audience(audience);
    let subject = |audience: &str| {
        TokenExchange::new(client(), of(audience))
            .store_key()
            .unwrap()
    };
    assert_eq!(subject("a"), subject("a"));
    assert_ne!(subject("a"), subject("b"));
    assert_ne!(Some(subject("a")), of("a").store_key());
    let acting = |audience: &str| {
        TokenExchange::new(client(), of("a"))
            .actor(of(audience))
            .store_key()
            .unwrap()
    };
    assert_ne!(acting("a"), subject("a"));
    assert_ne!(acting("a"), acting("b"));
    let narrowed = TokenExchange::new(client(), of("a"))
        .audience("x")
        .store_key()
        .unwrap();
    assert_ne!(narrowed, subject("a"));
    // A cache around the subject's source doesn't change the key.
    let cached = TokenExchange::new(client(), TokenCache::new(of("a")))
        .store_key()
        .unwrap();
    assert_eq!(cached, subject("a"));
}

#[test]
fn a_login_depends_on_whose_it_is_and_on_what_goes_along() {
    let server = TokenServer::issuing();
    let of = |user: &str| {
        JsonLogin::new("https://api.example.com/login", user, "password")
            .unwrap()
            .transport(server.transport())
    };
    let me = of("me").store_key().unwrap();
    assert_eq!(me, of("me").store_key().unwrap());
    assert_ne!(me, of("you").store_key().unwrap());
    assert_ne!(
        me,
        of("me")
            .field("/tenant", "acme")
            .unwrap()
            .store_key()
            .unwrap()
    );
    assert_ne!(
        me,
        of("me")
            .access_token_field("/id_token")
            .unwrap()
            .store_key()
            .unwrap()
    );
    let elsewhere = JsonLogin::new("https://api.example.com/v2/login", "me", "password")
        .unwrap()
        .transport(server.transport());
    assert_ne!(me, elsewhere.store_key().unwrap());
}

#[test]
fn sources_that_do_not_know_whose_token_it_is_have_no_key() {
    assert_eq!(RefreshToken::new(client(), "refresh").store_key(), None);
    assert_eq!(JwtBearer::new(client(), "assertion").store_key(), None);
    assert_eq!(
        TokenExchange::new(client(), ScriptedSource::default()).store_key(),
        None
    );
    assert_eq!(TokenCache::new(ScriptedSource::default()).store_key(), None);
}
