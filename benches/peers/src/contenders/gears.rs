//! The bearer layers of Constructor Fabric's toolkit: the plain layer, and the layer that replays a
//! request after a 401. A task of the toolkit keeps the token fresh. The task accepts no custom
//! source: it calls a token endpoint over HTTP. So the endpoint is a server on loopback. Figures
//! that involve a fetch include that HTTP call.
//!
//! The toolkit counts the expiry and the refresh window in whole seconds. The window is at least 1
//! s. So the response names an expiry that is 0.8 s too late. A background refresh keeps up only
//! with tokens that live for more than 1 s.
//!
//! The layers accept only clients with the error type of the toolkit's own client. So errors are
//! translated above and below the layers. The run without the credential translates them too.

use std::sync::Arc;
use std::time::Duration;

use toolkit_auth::{
    BearerAuthAutoRefreshLayer, BearerAuthLayer, OAuthClientConfig, SecretString, TokenProvider,
};
use toolkit_http::HttpError;
use tower::util::MapErr;
use tower::{BoxError, Layer};

use super::Contender;
use crate::client::{Call, Inner, Sending};
use crate::issuer::{Issuer, Terms};
use crate::token_server::{Form, Holding, Reply, TokenServer};

const PACKAGE: &str = "cf-gears-toolkit-auth";

/// The stated lifetime of a token minus its real lifetime.
const BEYOND: Duration = Duration::from_millis(800);

const SHORT_LIVED: Terms = Terms {
    takes: Duration::from_millis(50),
    lives: Duration::from_millis(1_200),
    fails: false,
};

pub struct Gears {
    layer: BearerAuthLayer,
    server: Arc<TokenServer>,
}

impl Contender for Gears {
    const NAME: &str = "cf-gears-toolkit-auth";
    const PACKAGE: &str = PACKAGE;
    const NOTE: Option<&str> = Some(
        "fetches over HTTP on loopback, because it takes no other source; refreshes in whole seconds, so its \
         short-lived tokens live for 1.2 s and claim 0.8 s more",
    );

    async fn new(issuer: &Issuer) -> Self {
        let (provider, server) = provider(issuer);
        let layer = BearerAuthLayer::new(provider);
        Self { layer, server }
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        let service = above(self.layer.layer(below(inner)));
        Holding(Sending(service), Arc::clone(&self.server))
    }

    fn below<S: Inner>(inner: S) -> impl Call {
        Sending(above(below(inner)))
    }

    fn short_lived() -> Terms {
        SHORT_LIVED
    }
}

pub struct WithReplay {
    layer: BearerAuthAutoRefreshLayer,
    server: Arc<TokenServer>,
}

impl Contender for WithReplay {
    const NAME: &str = "cf-gears-toolkit-auth, replay";
    const PACKAGE: &str = PACKAGE;
    const NOTE: Option<&str> =
        Some("the same, and keeps a copy of each request to send it again on a 401");

    async fn new(issuer: &Issuer) -> Self {
        let (provider, server) = provider(issuer);
        let layer = BearerAuthAutoRefreshLayer::new(provider);
        Self { layer, server }
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        let service = above(self.layer.layer(below(inner)));
        Holding(Sending(service), Arc::clone(&self.server))
    }

    fn below<S: Inner>(inner: S) -> impl Call {
        Sending(above(below(inner)))
    }

    fn short_lived() -> Terms {
        SHORT_LIVED
    }
}

fn provider(issuer: &Issuer) -> (TokenProvider, Arc<TokenServer>) {
    let reply = Reply {
        beyond: BEYOND,
        form: Form::OAuth,
    };
    let server = TokenServer::start(issuer.clone(), reply);
    let endpoint = format!("http://{}/token", server.address);
    let mut config = OAuthClientConfig {
        token_endpoint: Some(endpoint.parse().expect("an address")),
        client_id: "id".into(),
        client_secret: SecretString::new("secret"),
        ..OAuthClientConfig::default()
    };
    // The toolkit's defaults are for lifetimes of 1 h and more.
    if issuer.terms().lives == SHORT_LIVED.lives {
        config.refresh_offset = Duration::from_secs(1);
        config.jitter_max = Duration::ZERO;
    }
    let provider = TokenProvider::new(config).expect("a client and an endpoint");
    (provider, Arc::new(server))
}

fn below<S: Inner>(inner: S) -> MapErr<S, fn(BoxError) -> HttpError> {
    MapErr::new(inner, HttpError::Transport)
}

fn above<S>(service: S) -> MapErr<S, fn(HttpError) -> BoxError> {
    MapErr::new(service, BoxError::from)
}
