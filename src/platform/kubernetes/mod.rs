//! Identities in Kubernetes.
//!
//! - [`ServiceAccount`] reads the token that Kubernetes mounts into a pod.
//! - [`TokenRequest`] asks the cluster's API for a token with another audience.
//! - A credential plugin (`exec` in a kubeconfig) is a `platform::Command` (feature `command`) with
//!   `CommandFormat::exec_credential_v1`.
//! - `vault::Login::kubernetes` (feature `vault`) logs in to Vault with the pod's token.

mod api_server;

mod service_account;

mod token_request;

pub use service_account::ServiceAccount;
pub use token_request::TokenRequest;
