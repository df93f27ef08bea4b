//! Gives each tenant its own cache, behind one layer.

mod evicted;

mod remembered;

pub(crate) mod registry;

mod last_tenant;

pub(crate) mod service;

pub use registry::{Tenants, TenantsBuilder};
pub use service::{ByExtension, HasExtensions, TenantKey, TenantsAuth, TenantsLayer};
