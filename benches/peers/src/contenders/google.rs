//! Google Cloud's credentials of a user account. Each credential has a task that refreshes the
//! token from a token endpoint. The crate doesn't cache the tokens of a custom source. So the
//! endpoint is a server on loopback. Figures that involve a fetch include that HTTP call.
//!
//! A refresh begins 4 min before the expiry in the response. The library counts in whole seconds. A
//! token that lives for less than 4 min is refreshed every 10 s. Users can change neither the 4 min
//! nor the 10 s. So the response names an expiry that is 4 min too late. A background refresh keeps
//! up only with tokens that live for more than 1 s.

use std::sync::Arc;
use std::time::Duration;

use google_cloud_auth::credentials::user_account::Builder;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderValue};
use serde_json::json;
use tower::BoxError;

use super::Contender;
use super::stamping::{Credential, Stamping};
use crate::client::{Call, Inner};
use crate::issuer::{Issuer, Terms};
use crate::token_server::{Form, Reply, TokenServer};

#[derive(Clone)]
pub struct Google {
    credentials: Credentials,
    _server: Arc<TokenServer>,
}

impl Credential for Google {
    #[inline]
    async fn header(&self) -> Result<HeaderValue, BoxError> {
        // An `EntityTag` from an earlier call would avoid a copy of the headers. Google's own
        // clients pass no `EntityTag` either.
        match self.credentials.headers(Extensions::new()).await? {
            CacheableResource::New { mut data, .. } => {
                Ok(data.remove(AUTHORIZATION).ok_or("no header")?)
            }
            CacheableResource::NotModified => Err("nothing to compare with was sent".into()),
        }
    }
}

impl Contender for Google {
    const NAME: &str = "google-cloud-auth";
    const PACKAGE: &str = "google-cloud-auth";
    const NOTE: Option<&str> = Some(
        "fetches over HTTP on loopback, because its cache takes no other source; always refreshes 4 minutes before \
         expiry, in whole seconds, so its short-lived tokens live for 1.2 s and claim 4 minutes more",
    );

    async fn new(issuer: &Issuer) -> Self {
        let reply = Reply {
            beyond: Duration::from_secs(240),
            form: Form::OAuth,
        };
        let server = TokenServer::start(issuer.clone(), reply);
        let account = json!({
            "type": "authorized_user",
            "client_id": "id",
            "client_secret": "secret",
            "refresh_token": "refresh",
        });
        let credentials =
            Builder::new(account).with_token_uri(format!("http://{}", server.address));
        Self {
            credentials: credentials.build().expect("a user account"),
            _server: Arc::new(server),
        }
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Stamping(self.clone(), inner)
    }

    fn short_lived() -> Terms {
        Terms {
            takes: Duration::from_millis(50),
            lives: Duration::from_millis(1_200),
            fails: false,
        }
    }
}
