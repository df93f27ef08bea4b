//! Identities that the platform gives to a program.
//!
//! | the program runs | source | feature |
//! | --- | --- | --- |
//! | beside a program that prints a credential | [`Command`] | `command` |
//! | on Google Cloud, with the identity of its machine, service or pod | [`gcp::Metadata`] | `gcp` |
//! | anywhere, with an identity of Google that Google's own clients would find | [`gcp::ApplicationDefault`] | `gcp` |
//! | on Azure | [`azure::ManagedIdentity`] | `azure` |
//! | in Kubernetes with Microsoft Entra Workload ID | [`azure::WorkloadIdentity`] | `azure` |
//! | as a GitHub App | [`github::App`] | `github` |
//! | in a job of GitHub Actions | [`github::ActionsIdToken`] | `github` |
//! | in a Kubernetes pod, and calls the cluster's API | [`kubernetes::ServiceAccount`] | `kubernetes` |
//! | with access to a cluster's API, and needs a token for another audience | [`kubernetes::TokenRequest`] | `kubernetes` |
//! | with a role in HashiCorp Vault or OpenBao | [`vault::Login`] | `vault` |

#[cfg(any(
    feature = "command",
    feature = "azure",
    feature = "github",
    feature = "kubernetes"
))]
pub(crate) mod timestamp;

#[cfg(any(feature = "gcp", feature = "github", feature = "kubernetes"))]
pub(crate) mod expiry_field;

#[cfg(any(
    feature = "azure",
    feature = "gcp",
    feature = "github",
    feature = "kubernetes",
    feature = "vault"
))]
pub(crate) mod environment;

#[cfg(any(feature = "azure", feature = "gcp"))]
pub(crate) mod metadata_host;

#[cfg(any(feature = "kubernetes", feature = "vault"))]
pub(crate) mod pod_files;

#[cfg(feature = "command")]
pub(crate) mod command;

#[cfg(feature = "gcp")]
pub mod gcp;

#[cfg(feature = "azure")]
pub mod azure;

#[cfg(feature = "github")]
pub mod github;

#[cfg(feature = "kubernetes")]
pub mod kubernetes;

#[cfg(feature = "vault")]
pub mod vault;

#[cfg(feature = "command")]
pub use command::command_format::CommandFormat;
#[cfg(feature = "command")]
pub use command::command_source::Command;
