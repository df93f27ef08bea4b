//! The token endpoint (RFC 6749 §3.2): every grant is a set of parameters that it is asked with.

use super::client_auth::{ClientAuth, Identity};
use super::exchange::{Exchange, Question};
use super::params::{Format, Params};
use super::redact::Redactor;
use super::reply::TokenReply;
use super::transport::DynTransport;
use super::url::TokenUrl;
use crate::error::{Error, Kind};

/// Where tokens are issued, and as whom they're asked for.
#[derive(Debug)]
pub(crate) struct TokenEndpoint {
    pub(crate) exchange: Exchange,
    pub(crate) client: ClientAuth,
    pub(crate) format: Format,
}

impl TokenEndpoint {
    pub(crate) fn new(url: TokenUrl, client: ClientAuth, transport: DynTransport) -> Self {
        Self {
            exchange: Exchange::new(url, transport),
            client,
            format: Format::default(),
        }
    }

    /// Asks once. `grant` holds `grant_type` and what belongs to it; the client is added here.
    pub(crate) async fn request(&self, grant: Params<'_>) -> Result<TokenReply, Error> {
        self.exchange.within(self.ask(grant)).await
    }

    async fn ask(&self, grant: Params<'_>) -> Result<TokenReply, Error> {
        let client = self.client.identify().await?;
        let mut params = grant;
        client.add_to(&mut params);
        let unwritable = || Error::new(Kind::Config, "the token request can't be written");
        let question = Question {
            body: params.encode(self.format).ok_or_else(unwritable)?,
            content_type: self.format.content_type(),
            authorization: client.header(),
        };
        let answer = self.exchange.post(question).await?;
        answer.read(redactor(&params, &client))
    }
}

fn redactor(params: &Params<'_>, client: &Identity<'_>) -> Redactor {
    let mut redactor = Redactor::default();
    for secret in client.secrets() {
        redactor.hide(&secret);
    }
    for secret in params.secrets() {
        redactor.hide(secret);
    }
    redactor
}
