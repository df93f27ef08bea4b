//! This crate's layer over a closure, without replay and with it. With replay, the layer keeps a
//! copy of each request.

use std::time::Duration;

use tower::Layer;
use tower_auth::{AuthLayer, Error, Token, TokenCache};

use super::Contender;
use crate::client::{Call, Inner, Sending};
use crate::issuer::Issuer;

pub struct Ours<const REPLAY: bool>(AuthLayer);

impl<const REPLAY: bool> Contender for Ours<REPLAY> {
    const NAME: &str = match REPLAY {
        true => "tower-auth, replay on",
        false => "tower-auth, replay off",
    };
    const PACKAGE: &str = "tower-auth";
    const NOTE: Option<&str> = match REPLAY {
        true => Some("keeps a copy of each request, to send it again on a 401"),
        false => None,
    };

    async fn new(issuer: &Issuer) -> Self {
        let lives = issuer.terms().lives;
        let issuer = issuer.clone();
        let source = move |_| {
            let issuer = issuer.clone();
            async move {
                let issued = issuer.fetch().await.map_err(Error::other)?;
                Ok(Token::bearer(issued.secret)?.expires_in(issued.lives))
            }
        };
        let mut cache = TokenCache::builder(source);
        // The defaults are for lifetimes of a few seconds and more. For a lifetime of 200 ms,
        // fetches needn't be 1 s apart. A refresh begins before the expiry by twice the time of a
        // fetch.
        if lives < Duration::from_secs(1) {
            cache = cache
                .attempt_floor(Duration::from_millis(10))
                .refresh_before(Duration::from_millis(100))
                .expiry_margin(Duration::from_millis(10))
                .jitter(0.0);
        }
        // Each benchmark chooses its server, which may be on loopback.
        Self(AuthLayer::from(cache.build()).any_https().retry(REPLAY))
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S, REPLAY> {
        Sending(self.0.layer(inner))
    }
}
