//! Identities on Google Cloud.

mod application_default;
mod external_account;
mod files;
mod metadata;
