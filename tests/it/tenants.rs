//! Many tenants behind one layer. The tests check which tenant a request selects, and when a tenant
//! is built or evicted. The tests also check that tenants don't affect each other.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower_auth::tenants::{Tenants, TenantsBuilder};
use tower_auth::{BoxError, Error, Reason, Token, TokenCache, TokenSource};
use tower_auth_test::{Fetches, controlled_source};

use crate::support::request;

mod closed;
mod evicted;
mod keys;
mod origins;
mod remembered;
mod selection;

/// The key of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Tenant(&'static str);

/// Returns a request of a tenant.
fn of(tenant: &'static str) -> Request<Full<Bytes>> {
    let mut request = request("");
    request.extensions_mut().insert(Tenant(tenant));
    request
}

/// Weak references that show which sources still exist.
type Lives = Arc<Mutex<Vec<Weak<()>>>>;

/// Builds tenants, and adds a weak reference to each source to `alive`.
fn watched<K>(alive: &Lives) -> TenantsBuilder<K>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    let made = Arc::clone(alive);
    Tenants::builder(move |_: &K| {
        let life = Arc::new(());
        made.lock().unwrap().push(Arc::downgrade(&life));
        Ok(crate::support::layer(move |_| {
            let _held = &life;
            std::future::ready(Token::bearer("secret"))
        }))
    })
}

/// The authorization servers of all tenants. Each server issues `name-1`, `name-2`, …, and records
/// the token that `close` gets.
#[derive(Clone, Default)]
struct Servers {
    issued: Arc<Mutex<HashMap<&'static str, usize>>>,
    made: Arc<AtomicUsize>,
    closed_with: Arc<Mutex<Vec<String>>>,
}

struct Server {
    name: &'static str,
    servers: Servers,
}

impl Servers {
    fn tenants(&self) -> TenantsBuilder<Tenant> {
        let servers = self.clone();
        Tenants::builder(move |tenant: &Tenant| {
            servers.made.fetch_add(1, Ordering::SeqCst);
            Ok(crate::support::layer(Server {
                name: tenant.0,
                servers: servers.clone(),
            }))
        })
    }

    fn issued(&self, name: &str) -> usize {
        self.issued.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    fn close(&self, last: Option<Token>) {
        let last = last.map_or("nothing".into(), |last| last.secret().to_owned());
        self.closed_with.lock().unwrap().push(last);
    }

    fn closed_with(&self) -> Vec<String> {
        self.closed_with.lock().unwrap().clone()
    }
}

impl TokenSource for Server {
    async fn fetch(&self, _: Reason) -> Result<Token, Error> {
        let mut issued = self.servers.issued.lock().unwrap();
        let number = issued.entry(self.name).or_insert(0);
        *number += 1;
        Token::bearer(format!("{}-{number}", self.name))
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        self.servers.close(last);
        Ok(())
    }
}

/// Builds tenants with a capacity of one. The test completes the fetches of the tenant `slow`.
fn one_place(close: bool) -> (Tenants<Tenant>, Servers, Fetches) {
    let servers = Servers::default();
    let (source, fetches) = controlled_source();
    let (slow, others) = (Arc::new(Slow(source, servers.clone())), servers.clone());
    let tenants = Tenants::builder(move |tenant: &Tenant| {
        let servers = others.clone();
        let name = tenant.0;
        match name {
            "slow" => Ok(crate::support::layer(Arc::clone(&slow))),
            _ => Ok(crate::support::layer(Server { name, servers })),
        }
    });
    let tenants = tenants.capacity(1).close_on_eviction(close).build();
    (tenants, servers, fetches)
}

struct Slow<S>(S, Servers);

impl<S> TokenSource for Slow<S>
where
    S: TokenSource,
{
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.0.fetch(reason)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        self.1.close(last);
        Ok(())
    }
}

/// Evicts the current tenant by requesting another.
async fn evict(tenants: &Tenants<Tenant>) {
    let other = tenants.get(&Tenant("other")).unwrap();
    other.cache().token().await.unwrap();
    assert_eq!(tenants.len(), 1);
}

fn cache_of(tenants: &Tenants<Tenant>, name: &'static str) -> TokenCache {
    tenants.get(&Tenant(name)).unwrap().cache().clone()
}

fn own(error: BoxError) -> Error {
    *error.downcast().unwrap()
}
