//! Identities on Google Cloud.

pub(crate) mod metadata;

pub(crate) mod file_fields;

pub(crate) mod universe;

pub(crate) mod file_settings;

pub(crate) mod credentials_file;

pub(crate) mod command_line;

pub(crate) mod subject_token;

pub(crate) mod impersonation;

pub(crate) mod external_account;

pub(crate) mod credentials;

pub(crate) mod application_default;

pub use application_default::ApplicationDefault;
pub use metadata::Metadata;
