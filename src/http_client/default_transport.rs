//! The default HTTP client of a source. The first request creates the client, and later requests
//! use the same client.

use std::error::Error as StdError;
use std::fmt;
use std::future;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

#[cfg(feature = "reqwest")]
use super::reqwest_transport::{make, make_without_proxy, needs_no_proxy};
use super::transport::{DynTransport, ResponseFuture, SealedTransport};
use crate::error::{BoxError, Error, Kind};

struct MadeOnFirstUse {
    make: fn() -> Result<DynTransport, Error>,
    made: Mutex<Option<DynTransport>>,
}

/// Clones of a default transport share its clients.
impl Default for DynTransport {
    #[cfg(feature = "reqwest")]
    fn default() -> Self {
        Self::new(ByHost {
            direct: Self::made_by(make_without_proxy),
            proxied: Self::made_by(make),
        })
    }

    #[cfg(not(feature = "reqwest"))]
    fn default() -> Self {
        Self::made_by(make)
    }
}

/// Chooses a client by the host of each request. There are two clients, because reqwest can't
/// exempt hosts from the proxies of the environment.
#[cfg(feature = "reqwest")]
struct ByHost {
    /// The client that uses no proxy.
    direct: DynTransport,
    /// The client that uses the proxies of the environment.
    proxied: DynTransport,
}

#[cfg(feature = "reqwest")]
impl SealedTransport for ByHost {
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match needs_no_proxy(request.uri()) {
            true => self.direct.send(request),
            false => self.proxied.send(request),
        }
    }

    #[cfg(feature = "authorization-code")]
    fn prepare(&self) -> Result<(), Error> {
        self.direct.prepare()?;
        self.proxied.prepare()
    }
}

impl DynTransport {
    pub(crate) fn made_by(make: fn() -> Result<Self, Error>) -> Self {
        let made = Mutex::default();
        Self::new(MadeOnFirstUse { make, made })
    }
}

#[cfg(not(feature = "reqwest"))]
fn make() -> Result<DynTransport, Error> {
    let message = "there is no HTTP client to fetch a token with; set one with \
                   `.transport(…)`, or enable the feature `reqwest`";
    Err(Error::new(Kind::Config, message))
}

impl MadeOnFirstUse {
    /// Creates the client under the lock, so that concurrent first requests create only one client.
    /// After an error, the next request tries again.
    fn get(&self) -> Result<DynTransport, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(transport) => Ok(transport.clone()),
            None => Ok(made.insert((self.make)()?).clone()),
        }
    }
}

impl SealedTransport for MadeOnFirstUse {
    fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        match self.get() {
            Ok(transport) => transport.send(request),
            Err(error) => Box::pin(future::ready(Err(NoHttpClient(error).into()))),
        }
    }

    fn prepare(&self) -> Result<(), Error> {
        self.get().map(drop)
    }
}

/// The error of a client that could not be created. This error isn't a transport error, unlike the
/// error of a failed request.
#[derive(Debug)]
struct NoHttpClient(Error);

impl fmt::Display for NoHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for NoHttpClient {}

/// Returns the error of a request that got no response.
pub(crate) fn no_response(message: String, error: BoxError) -> Error {
    match error.downcast() {
        Ok(no_client) => {
            let NoHttpClient(error) = *no_client;
            error
        }
        Err(error) => Error::new(Kind::Transport, message).with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::Response;

    use super::*;

    async fn send(transport: &DynTransport) -> Result<(), Error> {
        let response = transport.send(Request::new(Full::default())).await;
        response
            .map(drop)
            .map_err(|error| no_response(String::from("broken"), error))
    }

    #[tokio::test]
    async fn a_client_is_made_once_for_all_clones_and_a_failure_is_tried_again() {
        static TRIES: AtomicUsize = AtomicUsize::new(0);
        fn make() -> Result<DynTransport, Error> {
            if TRIES.fetch_add(1, Ordering::Relaxed) == 0 {
                return Err(Error::new(Kind::Config, "no root certificates"));
            }
            Ok(DynTransport::new(tower::service_fn(
                |_: Request<Full<Bytes>>| async {
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                },
            )))
        }
        let transport = DynTransport::made_by(make);
        let clone = transport.clone();
        let failed = send(&transport).await;
        assert!(failed.is_err_and(|error| error.is_config() && error.to_string().contains("root")));
        assert!(send(&clone).await.is_ok());
        assert!(send(&transport).await.is_ok());
        assert_eq!(TRIES.load(Ordering::Relaxed), 2);
    }

    /// Otherwise, a login could fail after the user has logged in.
    #[cfg(all(feature = "reqwest", feature = "authorization-code"))]
    #[test]
    fn both_clients_are_made_before_a_login() {
        fn make() -> Result<DynTransport, Error> {
            Ok(DynTransport::default())
        }
        fn fail() -> Result<DynTransport, Error> {
            Err(Error::new(Kind::Config, "no root certificates"))
        }
        let is_ready = |direct, proxied| {
            let (direct, proxied) = (
                DynTransport::made_by(direct),
                DynTransport::made_by(proxied),
            );
            ByHost { direct, proxied }.prepare().is_ok()
        };
        assert!(is_ready(make, make) && !is_ready(fail, make) && !is_ready(make, fail));
    }

    #[test]
    fn first_requests_at_once_make_one_client() {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        fn make() -> Result<DynTransport, Error> {
            MADE.fetch_add(1, Ordering::Relaxed);
            // Gives the other threads time to reach this point.
            (0..10_000).for_each(|_| std::thread::yield_now());
            Ok(DynTransport::default())
        }
        let made = Mutex::default();
        let first_use = MadeOnFirstUse { make, made };
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    first_use.get().is_ok()
                });
            }
        });
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
    }
}
