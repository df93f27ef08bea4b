//! The contenders, one file each. The benchmarks use each contender as its users do: through the
//! public API, with the settings that suit the contender best.

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

/// A way to get a credential and attach it to requests.
pub trait Contender: Send + Sync + Sized + 'static {
    /// The name in tables.
    const NAME: &str;
    /// The package whose version is printed below the tables.
    const PACKAGE: &str;
    /// Whether the contender fetches tokens.
    const FETCHES: bool = true;
    /// A footnote that explains the figures.
    const NOTE: Option<&str> = None;

    fn new(issuer: &Issuer) -> impl Future<Output = Self> + Send;

    /// Sends requests with the credential.
    fn over<S: Inner>(&self, inner: S) -> impl Call + use<Self, S>;

    /// Sends the same requests as `over`, without the credential. The figures show the difference.
    fn below<S: Inner>(inner: S) -> impl Call {
        Sending(inner)
    }

    /// Sends requests with the credential to a client that responds at once.
    fn lean(&self) -> impl Call + use<Self> {
        self.over(Bare)
    }

    /// Sends the same requests as `lean`, without the credential.
    fn lean_below() -> impl Call {
        Self::below(Bare)
    }

    /// Returns the terms for the question `expiry`: the duration of a fetch, and the lifetime of
    /// its token.
    fn short_lived() -> Terms {
        Terms {
            takes: std::time::Duration::from_millis(50),
            lives: std::time::Duration::from_millis(200),
            fails: false,
        }
    }
}

/// Visits each contender.
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

/// Returns whether this is the name of one of this crate's contenders. Tables and pictures
/// highlight these names.
pub fn is_ours(name: &str) -> bool {
    name.starts_with("tower-auth")
}
