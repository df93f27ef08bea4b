//! An authorization server and an API that identify a client by its certificate (RFC 8705). They
//! use TLS with a certificate authority that exists only in this process.
#![allow(unreachable_pub, reason = "an example and a test share it")]

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Extension, Form, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use tower_auth::BoxError;

/// A certificate authority for clients and servers.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Result<Self, BoxError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // The authority's name differs from the names in the certificates that it issues. With the
        // same name, OpenSSL would treat those certificates as self-signed.
        let name = "an authority for as long as this runs";
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Returns the authority's own certificate, in PEM.
    pub fn root(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for this name. Returns the certificate and its private key, in PEM.
    pub fn issue(&self, name: &str) -> Result<String, BoxError> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(certificate.pem() + &key.serialize_pem())
    }

    /// Serves clients that have a certificate of this authority, and returns the base URL.
    async fn serve(&self, router: Router) -> Result<String, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}", listener.local_addr()?.port());
        let acceptor = TlsAcceptor::from(Arc::new(self.config()?));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(acceptor.clone(), stream, router.clone()));
            }
        });
        Ok(url)
    }

    fn config(&self) -> Result<ServerConfig, BoxError> {
        // The provider is named explicitly, because a process with several providers has no
        // default.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone())?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()?;
        let own = self.issue("localhost")?;
        let certificate = CertificateDer::from_pem_slice(own.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(own.as_bytes())?;
        Ok(ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key)?)
    }
}

/// The certificate of a connection's client.
#[derive(Clone)]
struct Shown(CertificateDer<'static>);

impl Shown {
    /// Returns the certificate's thumbprint (RFC 8705 §3.1).
    fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.0))
    }

    fn is_for(&self, name: &str) -> bool {
        let (Ok(certificate), Ok(name)) = (
            ParsedCertificate::try_from(&self.0),
            ServerName::try_from(name),
        ) else {
            return false;
        };
        rustls::client::verify_server_name(&certificate, &name).is_ok()
    }
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream, router: Router) -> io::Result<()> {
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut stream)) => {
            // The server reads everything before it closes the connection. Otherwise the system
            // resets the connection, and the client doesn't get the reason for the failure.
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            return Ok(());
        }
    };
    let (_, connection) = stream.get_ref();
    let Some([shown, ..]) = connection.peer_certificates() else {
        return Ok(());
    };
    let router = router.layer(Extension(Shown(shown.clone().into_owned())));
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        router.clone().oneshot(request)
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    served.await.map_err(io::Error::other)
}

/// The only registered client, and the name in its certificate (`tls_client_auth_san_dns`, RFC 8705
/// §2.1.2).
pub const CLIENT_ID: &str = "reports";
pub const CLIENT_NAME: &str = "reports.clients.example.com";

/// Only this process accepts tokens that are signed with this key.
const KEY: &[u8] = b"known to everyone, trusted by no one";

/// Both servers, which run as long as the runtime.
pub struct Servers {
    pub token_url: String,
    pub api_url: String,
    asked: Asked,
}

/// The forms that the token endpoint received.
type Asked = Arc<Mutex<Vec<Vec<(String, String)>>>>;

impl Servers {
    pub async fn start(authority: &Authority) -> Result<Self, BoxError> {
        let asked = Asked::default();
        let authorization = Router::new().route("/token", post(token));
        let authorization = authorization.with_state(Arc::clone(&asked));
        let api = Router::new().route("/reports", get(reports));
        Ok(Self {
            token_url: authority.serve(authorization).await? + "/token",
            api_url: authority.serve(api).await? + "/reports",
            asked,
        })
    }

    /// Returns the forms that the token endpoint received.
    pub fn asked(&self) -> Vec<Vec<(String, String)>> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The claims of a token that is bound to a certificate (RFC 8705 §3.1).
#[derive(Serialize, Deserialize)]
struct Claims {
    exp: u64,
    cnf: Confirmation,
}

#[derive(Serialize, Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

async fn token(
    State(asked): State<Asked>,
    Extension(shown): Extension<Shown>,
    Form(form): Form<Vec<(String, String)>>,
) -> (StatusCode, Json<Value>) {
    let is_known = form.contains(&("client_id".into(), CLIENT_ID.into()));
    let mut all = asked.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(form);
    let claims = Claims {
        exp: jsonwebtoken::get_current_timestamp() + 3600,
        cnf: Confirmation {
            thumbprint: shown.thumbprint(),
        },
    };
    let key = EncodingKey::from_secret(KEY);
    match jsonwebtoken::encode(&Header::default(), &claims, &key) {
        Ok(token) if is_known && shown.is_for(CLIENT_NAME) => {
            let reply = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
            (StatusCode::OK, Json(reply))
        }
        _ => {
            let refusal = json!({"error": "invalid_client"});
            (StatusCode::UNAUTHORIZED, Json(refusal))
        }
    }
}

/// Rejects tokens bound to another certificate (RFC 8705 §3).
async fn reports(
    Extension(shown): Extension<Shown>,
    headers: HeaderMap,
) -> Result<&'static str, StatusCode> {
    let value = headers.get(AUTHORIZATION);
    let token = value
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or(StatusCode::UNAUTHORIZED)?;
    let key = DecodingKey::from_secret(KEY);
    let decoded = jsonwebtoken::decode::<Claims>(token, &key, &Validation::default());
    match decoded {
        Ok(data) if data.claims.cnf.thumbprint == shown.thumbprint() => Ok("12 reports"),
        _ => Err(StatusCode::UNAUTHORIZED),
    }
}
