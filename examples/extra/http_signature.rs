//! Signs requests with the client's own key: HTTP message signatures (RFC 9421).
//! Run it with `cargo run -p tower-auth-examples --example http_signature`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, Request, Response};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::token::{Applied, PerRequestCredential, RequestHead};
use tower_auth::{AuthLayer, BoxError, Place, Token};

pub(crate) struct Signer {
    pub(crate) key: (&'static str, Ed25519KeyPair),
    pub(crate) covered: &'static [&'static str],
    pub(crate) now: fn() -> SystemTime,
}

impl PerRequestCredential for Signer {
    fn apply(&self, head: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        let mut base = String::new();
        for &name in self.covered {
            let value = match name {
                "@method" => head.method().as_str().to_owned(),
                "@authority" => head.authority().ok_or("the URI has no origin")?.to_owned(),
                "@path" => head.path().to_owned(),
                "@query" => format!("?{}", head.query().unwrap_or_default()),
                name => headers.get(name).ok_or(name)?.to_str()?.to_owned(),
            };
            base += &format!("\"{name}\": {value}\n");
        }
        let (covered, key_id) = (self.covered.join("\" \""), self.key.0);
        let created = (self.now)().duration_since(UNIX_EPOCH)?.as_secs();
        let params = format!("(\"{covered}\");created={created};keyid=\"{key_id}\"");
        base += &format!("\"@signature-params\": {params}");
        let signature = STANDARD.encode(self.key.1.sign(base.as_bytes()));
        headers.insert("signature-input", format!("sig={params}").parse()?);
        headers.insert("signature", format!("sig=:{signature}:").parse()?);
        Ok(Applied::Done)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let signer = Arc::new(Signer {
        key: ("my-key", Ed25519KeyPair::generate()?),
        covered: &["@method", "@authority", "@path", "@query"],
        now: SystemTime::now,
    });
    let token = Token::per_request(Place::Header("signature".parse()?), "my-key", signer);
    let source = move |_| std::future::ready(Ok(token.clone()));
    let api = service_fn(async |request| Ok::<_, BoxError>(Response::new(request)));
    let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
    let request = Request::get("https://api.example.com/things?b=2&a=1").body("")?;
    let sent = layer.layer(api).oneshot(request).await?.into_body();
    println!("{:?}", sent.headers()["signature-input"]);
    Ok(())
}
