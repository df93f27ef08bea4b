//! The files that Kubernetes mounts into each pod.
//!
//! Source: [Kubernetes, accessing the API from a pod][pod].
//!
//! [pod]: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/

/// The token of the pod's service account. The kubelet replaces the token before its expiry.
pub(crate) const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
