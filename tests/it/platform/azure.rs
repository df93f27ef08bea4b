//! Identities on Azure.

mod arc;
mod environment;
mod expires_on;
mod managed_identity;
mod metadata_retries;
mod workload_identity;
