//! A Kubernetes API server that was written from the API reference. Kubernetes' own client gets
//! its tokens first, and then this crate does.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use reqwest::{Certificate, Client};
use tempfile::TempDir;

use crate::process::{Program, Server};
use crate::servers::{AUTHORITY, text};

/// The API server.
pub(crate) static KUBERNETES: LazyLock<Server> = LazyLock::new(|| {
    let program = Program::python("kubernetes_api/serve.py");
    let certificate = AUTHORITY.issue("localhost").unwrap();
    fs::write(program.folder().join("server.pem"), certificate).unwrap();
    Server::start(program)
});

/// A client that trusts only the certificate authority of the cluster.
pub(crate) static IN_CLUSTER: LazyLock<Client> = LazyLock::new(|| {
    let root = Certificate::from_pem(AUTHORITY.root().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]);
    client.pool_max_idle_per_host(0).build().unwrap()
});

pub(crate) fn url(path: &str) -> String {
    format!("https://localhost:{}{path}", KUBERNETES.port())
}

/// Returns a token of the API server, as the kubelet mounts it into a pod.
pub(crate) async fn mounted_token(account: &str) -> String {
    text(IN_CLUSTER.get(url(&format!("/interop/token/{account}")))).await
}

/// The files and the variables of a pod with this service account.
pub(crate) struct Pod {
    folder: TempDir,
}

impl Pod {
    pub(crate) async fn of(account: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), AUTHORITY.root()).unwrap();
        let pod = Self { folder };
        pod.mount(&mounted_token(account).await);
        pod
    }

    pub(crate) fn mount(&self, token: &str) {
        fs::write(self.token_file(), token).unwrap();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn token_file(&self) -> std::path::PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn variables() -> [(&'static str, String); 2] {
        [
            ("KUBERNETES_SERVICE_HOST", String::from("localhost")),
            ("KUBERNETES_SERVICE_PORT", KUBERNETES.port().to_string()),
        ]
    }
}
