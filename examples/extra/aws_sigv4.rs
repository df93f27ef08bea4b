//! Signs requests with temporary credentials (AWS Signature Version 4). Run it with
//! `cargo run -p tower-auth-examples --example aws_sigv4`.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION};
use tower::{Layer, ServiceExt, service_fn};
use tower_auth::token::{Applied, PerRequestCredential, RequestHead};
use tower_auth::{AuthLayer, BoxError, Place, Token};

/// The keys, and the clock for the signatures' dates.
pub(crate) struct Signer(pub(crate) Credentials, pub(crate) fn() -> SystemTime);

impl PerRequestCredential for Signer {
    /// Signs the method, the URI, `host` and `x-amz-*`. The caller puts the body's hash, or
    /// `UNSIGNED-PAYLOAD`, in `x-amz-content-sha256`. Without this header, the signature is for an empty body.
    fn apply(&self, head: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        let url = head.url().ok_or("the signature needs the URI's origin")?;
        let hash = headers.get("x-amz-content-sha256").map(HeaderValue::to_str);
        let hash = hash.transpose()?.map(str::to_owned);
        let body = hash.map_or(SignableBody::empty(), SignableBody::Precomputed);
        let fields = headers.iter().map(|(name, value)| (name.as_str(), value));
        let fields = fields.filter(|(name, _)| *name == "host" || name.starts_with("x-amz-"));
        let fields = fields.filter_map(|(name, value)| Some((name, value.to_str().ok()?)));
        let request = SignableRequest::new(head.method().as_str(), url, fields, body)?;
        let identity = self.0.clone().into();
        let params = SigningParams::builder().identity(&identity);
        let params = params.region("us-east-1").name("service").time((self.1)());
        let params = params.settings(SigningSettings::default()).build()?;
        let (signature, _) = sign(request, &params.into())?.into_parts();
        let mut signed = Request::new(());
        signature.apply_to_request_http1x(&mut signed);
        headers.extend(signed.into_parts().0.headers);
        Ok(Applied::Done)
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let source = |_| async {
        let end = SystemTime::now() + Duration::from_secs(3600);
        let keys = Credentials::new("AKID", "secret", Some("session".into()), Some(end), "sts");
        let signer = Arc::new(Signer(keys, SystemTime::now));
        Ok(Token::per_request(Place::Header(AUTHORIZATION), "AKID", signer).expires_at(end))
    };
    let api = service_fn(async |request| Ok::<_, BoxError>(Response::new(request)));
    let layer = AuthLayer::new(source).only_to(["https://api.example.com"])?;
    let request = Request::get("https://api.example.com/things?b=2&a=1").body("")?;
    let sent = layer.layer(api).oneshot(request).await?.into_body();
    let signature = sent.headers()[AUTHORIZATION].to_str()?;
    println!("{:?}", signature.split(", ").nth(1));
    Ok(())
}
