//! Identities in Kubernetes.

mod service_account;
mod token_request;
