//! Clients that trust a private authority, and nobody else.

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

/// To be built as it is, or with a certificate of its own, or for one version of HTTP.
pub(crate) fn of_reqwest(authority: &Authority) -> ClientBuilder {
    let root = Certificate::from_pem(authority.root().as_bytes()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([root])
        .redirect(Policy::none())
}

/// HTTP/2 where the server has it.
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
    // Named, for a process may have several and then none by default.
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
