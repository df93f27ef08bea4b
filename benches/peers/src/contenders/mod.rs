//! Those who are compared, each in a file, each used by its public API as its users do, with the
//! settings that suit it best.

use std::future::Future;

use crate::client::{Bare, Call, Inner, Sending};
use crate::issuer::{Issuer, Terms};

#[cfg(feature = "peers")]
mod azure;
#[cfg(feature = "peers")]
mod gears;
#[cfg(feature = "peers")]
mod google;
#[cfg(feature = "peers")]
mod huskarl;
#[cfg(feature = "peers")]
pub mod kube;
#[cfg(feature = "peers")]
mod moka;
#[cfg(feature = "peers")]
mod mutex;
pub mod ours;
#[cfg(feature = "peers")]
mod reqsign;
#[cfg(feature = "peers")]
mod smithy;
#[cfg(feature = "peers")]
mod stamping;
pub mod static_header;

/// A credential, and how it gets on a request.
pub trait Contender: Send + Sync + Sized + 'static {
    /// What it is called in tables.
    const NAME: &str;
    /// The package whose version counts.
    const PACKAGE: &str;
    /// Whether there is a fetch behind it at all.
    const FETCHES: bool = true;
    /// What has to be known of it to read the figures.
    const NOTE: Option<&str> = None;

    fn new(issuer: &Issuer) -> impl Future<Output = Self> + Send;

    /// Requests that carry it.
    fn over<S: Inner>(&self, inner: S) -> impl Call + use<Self, S>;

    /// The same without: what counts is the difference.
    fn below<S: Inner>(inner: S) -> impl Call {
        Sending(inner)
    }

    /// Requests that carry it, to a client that answers at once.
    fn lean(&self) -> impl Call + use<Self> {
        self.over(Bare)
    }

    /// The same without.
    fn lean_below() -> impl Call {
        Self::below(Bare)
    }

    /// The terms under which its tokens expire under load.
    fn short_lived() -> Terms {
        Terms {
            takes: std::time::Duration::from_millis(50),
            lives: std::time::Duration::from_millis(200),
            fails: false,
        }
    }
}

/// Somebody who has a look at each of them.
pub trait Visitor {
    fn visit<C: Contender>(&mut self);
}

#[cfg(feature = "peers")]
pub fn all(visitor: &mut impl Visitor) {
    visitor.visit::<static_header::StaticHeader>();
    visitor.visit::<static_header::WithLook>();
    visitor.visit::<ours::Ours<false>>();
    visitor.visit::<ours::Ours<true>>();
    visitor.visit::<static_header::WithRetry>();
    visitor.visit::<mutex::Handrolled>();
    visitor.visit::<moka::Moka>();
    visitor.visit::<smithy::Smithy>();
    visitor.visit::<google::Google>();
    visitor.visit::<kube::Kube>();
    visitor.visit::<azure::Azure>();
    visitor.visit::<reqsign::Reqsign>();
    visitor.visit::<huskarl::Huskarl>();
    visitor.visit::<gears::Gears>();
    visitor.visit::<gears::WithReplay>();
}

/// Whether a name is ours: it is set off in pictures and tables.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("tower-auth")
}
