//! A person's login: what it is asked for with, and what its end is exchanged for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::initial_token::{Asked, FirstToken};
use super::refresh_store::DynRefreshTokenStore;
use super::refresh_token::RefreshToken;
use crate::error::{Error, Kind};
use crate::http_client::token_response::ASSUMED_LIFETIME;
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;

/// What the grants have in common that a person takes part in.
pub(crate) struct Login {
    pub(crate) client: Client,
    pub(crate) scope: String,
    pub(crate) audience: String,
    pub(crate) resources: Vec<String>,
    /// `None`: what a login brings is kept in memory.
    pub(crate) store: Option<Arc<dyn DynRefreshTokenStore>>,
    pub(crate) assumed_lifetime: Duration,
}

impl Login {
    /// A client has to say who it is where a person is asked whether to trust it.
    pub(crate) fn new(client: Client) -> Result<Self, Error> {
        if client.id().is_none() {
            let message = "a client without an id can't have a person log in; use a constructor \
                           of `Client` that takes the id";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            client,
            scope: String::new(),
            audience: String::new(),
            resources: Vec::new(),
            store: None,
            assumed_lifetime: ASSUMED_LIFETIME,
        })
    }

    /// What is asked for, where the person is asked.
    pub(crate) fn add_to<'a>(&'a self, params: &mut Params<'a>) {
        params.push("scope", &self.scope);
        params.push("audience", &self.audience);
        self.add_resources_to(params);
    }

    fn add_resources_to<'a>(&'a self, params: &mut Params<'a>) {
        for resource in &self.resources {
            params.push("resource", resource);
        }
    }

    /// Asks once, and keeps what it got: the refresh token is saved before anything is returned.
    pub(crate) async fn exchange<'a>(
        &'a self,
        mut grant: Params<'a>,
    ) -> Result<RefreshToken, Error> {
        // Never later than the moment the token is issued at.
        let asked = Asked::now();
        // They are named where tokens are issued, too (RFC 8707 §2.2).
        self.add_resources_to(&mut grant);
        let mut reply = self.client.endpoint.request(grant).await?;
        let refresh_token = reply.refresh_token.take();
        let token = self
            .client
            .token(reply, &self.scope, self.assumed_lifetime)?;
        let first = FirstToken::new(token, asked);
        let (client, store) = (self.client.clone(), self.store.clone());
        let source = RefreshToken::logged_in(client, store, first, refresh_token).await?;
        Ok(source.assume_lifetime(self.assumed_lifetime))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("client", &self.client)
            .field("scope", &self.scope)
            .field("audience", &self.audience)
            .field("resources", &self.resources)
            .field("assumed_lifetime", &self.assumed_lifetime)
            .finish_non_exhaustive()
    }
}
