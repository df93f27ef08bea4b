//! Identities on Azure: managed identities, and workload identities of Kubernetes.
//!
//! | the program runs on | source |
//! | --- | --- |
//! | a virtual machine, App Service, Functions, Container Apps, Machine Learning, a server with Azure Arc | [`ManagedIdentity`] |
//! | Kubernetes with Microsoft Entra Workload ID | [`WorkloadIdentity`] |

pub(crate) mod resource;

pub(crate) mod user_assigned;

pub(crate) mod identity_service;

pub(crate) mod arc_key;

pub(crate) mod expires_on;

pub(crate) mod metadata_retries;

pub(crate) mod managed_identity;

pub(crate) mod workload_identity;

pub use managed_identity::ManagedIdentity;
pub use workload_identity::WorkloadIdentity;
