//! This crate's layer over a closure, with replay and without replay. With replay, the layer keeps
//! a copy of each request.

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
        // The cache's defaults are for lifetimes of a few seconds and more. A token that lives for
        // 200 ms needs fetches less than 1 s apart. A refresh begins 100 ms before expiry: twice
        // the duration of a fetch.
        if lives < Duration::from_secs(1) {
            cache = cache
                .attempt_floor(Duration::from_millis(10))
                .refresh_before(Duration::from_millis(100))
                .expiry_margin(Duration::from_millis(10))
                .jitter(0.0);
        }
        // Names no origin, because each benchmark chooses its own server, which may be on loopback.
        Self(AuthLayer::from(cache.build()).any_https().retry(REPLAY))
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S, REPLAY> {
        Sending(self.0.layer(inner))
    }
}
