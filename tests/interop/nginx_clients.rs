//! Clients that trust only a private authority.

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqwest::redirect::Policy;
use reqwest::{Certificate, ClientBuilder};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::Authority;

/// Returns a builder, so that a test can also add a client certificate or fix the HTTP version.
pub(crate) fn of_reqwest(authority: &Authority) -> ClientBuilder {
    let root = Certificate::from_pem(authority.root().as_bytes()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .redirect(Policy::none())
}

/// Builds a client that uses HTTP/2 if the server supports it.
pub(crate) fn of_hyper(
    authority: &Authority,
) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config(authority))
        .https_only()
        .enable_all_versions()
        .build();
    Client::builder(TokioExecutor::new()).build(connector)
}

fn config(authority: &Authority) -> ClientConfig {
    // The provider is named, because rustls has no default in a process with several providers.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.root().as_bytes());
    roots.add(root.unwrap()).unwrap();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
