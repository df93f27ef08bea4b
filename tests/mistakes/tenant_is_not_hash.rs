//! A tenant's key that doesn't implement `Hash`. The compiler chooses the text.
//!
//! ```text
//! error[E0277]: the trait bound `Tenant: Hash` is not satisfied
//! ```

use tower_auth::tenants::Tenants;

#[derive(Clone, PartialEq, Eq)]
struct Tenant(u32);

pub(crate) fn mistake() {
    Tenants::new(|_: &Tenant| Ok(crate::layer()));
}
