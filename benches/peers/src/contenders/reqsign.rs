//! reqsign's signer, over a custom provider and a custom request signer. reqsign's crates for
//! single services contain a provider and a request signer. The credential contains the finished
//! header value.
//!
//! The signer knows two expiry times. The provider chooses the first time, with the same margin as
//! for the other contenders. The second time is the real expiry: a request may be signed until
//! then.

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderValue, Request};
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, Error, ProvideCredential, SignRequest, Signer, SigningCredential};
use tower::BoxError;

use super::Contender;
use crate::client::{Call, Inner, ready, request};
use crate::issuer::Issuer;

pub struct Reqsign(Signer<Bearer>);

/// The next token is fetched this long before the current token expires.
const MARGIN: Duration = Duration::from_millis(10);

#[derive(Clone)]
struct Bearer {
    header: HeaderValue,
    end: Timestamp,
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer")
    }
}

impl SigningCredential for Bearer {
    fn is_valid(&self) -> bool {
        self.is_valid_at(Timestamp::now() + MARGIN)
    }

    fn is_valid_at(&self, at: Timestamp) -> bool {
        at < self.end
    }
}

#[derive(Debug)]
struct Provider(Issuer);

impl ProvideCredential for Provider {
    type Credential = Bearer;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Bearer>> {
        let issued = self.0.fetch().await;
        let issued = issued.map_err(|error| {
            Error::unexpected("the provider has no credential").with_source(error)
        })?;
        Ok(Some(Bearer {
            header: issued.header(),
            end: Timestamp::now() + issued.lives,
        }))
    }
}

#[derive(Debug)]
struct Header;

impl SignRequest for Header {
    type Credential = Bearer;

    async fn sign_request(
        &self,
        _: &Context,
        head: &mut Parts,
        credential: Option<&Bearer>,
        _: Option<Duration>,
    ) -> reqsign_core::Result<()> {
        let Some(credential) = credential else {
            return Err(Error::credential_invalid("a bearer token is needed"));
        };
        head.headers
            .insert(AUTHORIZATION, credential.header.clone());
        Ok(())
    }
}

impl Contender for Reqsign {
    const NAME: &str = "reqsign-core, signer";
    const PACKAGE: &str = "reqsign-core";
    const NOTE: Option<&str> = Some(
        "signs a copy of the request's head, so that a request that can't be signed stays unchanged",
    );

    async fn new(issuer: &Issuer) -> Self {
        Self(Signer::new(
            Context::new(),
            Provider(issuer.clone()),
            Header,
        ))
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Signing(self.0.clone(), inner)
    }
}

/// The signer in front of a client, as a user would write it.
#[derive(Clone)]
struct Signing<S>(Signer<Bearer>, S);

impl<S: Inner> Call for Signing<S> {
    #[inline]
    async fn call(&mut self) -> Result<(), BoxError> {
        let (mut head, body) = request().into_parts();
        self.0.sign(&mut head, None).await?;
        ready(&mut self.1).await?;
        black_box(self.1.call(Request::from_parts(head, body)).await?);
        Ok(())
    }
}
