//! A person's login: what it is asked for with, and what its end is exchanged for.

use std::fmt;
use std::sync::Arc;

use super::initial_token::{InitialToken, RequestedAt};
use super::refresh_store::DynRefreshTokenStore;
use super::refresh_token::RefreshToken;
use super::token_params::{Reserved, TokenParams};
use crate::error::{Error, Kind};
use crate::oauth2::client::oauth2_client::Client;
use crate::oauth2::client::params::Params;

/// What the grants have in common that a person takes part in.
pub(crate) struct Login {
    pub(crate) client: Client,
    pub(crate) params: TokenParams,
    /// `None`: what a login brings is kept in memory.
    pub(crate) store: Option<Arc<dyn DynRefreshTokenStore>>,
}

impl Login {
    /// A client has to say who it is where a person is asked whether to trust it.
    pub(crate) fn new(client: Client, reserved: Reserved) -> Result<Self, Error> {
        if client.id().is_none() {
            let message = "a client without an id can't have a person log in; use a constructor \
                           of `Client` that takes the id";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            client,
            params: TokenParams::new(reserved),
            store: None,
        })
    }

    /// Asks once, and keeps what it got: the refresh token is saved before anything is returned.
    pub(crate) async fn exchange<'a>(
        &'a self,
        mut grant: Params<'a>,
    ) -> Result<RefreshToken, Error> {
        // Never later than the moment the token is issued at.
        let asked = RequestedAt::now();
        // They are named where tokens are issued, too (RFC 8707 §2.2).
        self.params.add_resources_to(&mut grant);
        let mut reply = self.client.endpoint.request(grant).await?;
        let refresh_token = reply.refresh_token.take();
        let token = self.params.token(&self.client, reply)?;
        let first = InitialToken::new(token, asked);
        let (client, store) = (self.client.clone(), self.store.clone());
        let source = RefreshToken::logged_in(client, store, first, refresh_token).await?;
        Ok(source.assume_lifetime(self.params.assumed_lifetime()))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("client", &self.client)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
