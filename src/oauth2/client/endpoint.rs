//! The token endpoint (RFC 6749 §3.2): every grant is a set of parameters that it is asked with.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::SecretString;

use super::client_auth::{ClientAuth, RequestAuth};
use super::params::{Format, Params};
use crate::error::{Error, Kind};
use crate::http_client::bounded_response::EndpointResponse;
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::exchange::{EndpointRequest, Exchange};
use crate::http_client::redact::Redactor;
use crate::http_client::token_response::{TokenResponse, TokenType};
#[cfg(feature = "dpop")]
use crate::oauth2::dpop::proof::{DPOP, Dpop, USE_NONCE};
use crate::token::issued_token::Token;

/// Where tokens are issued, and as whom they're asked for.
#[derive(Clone, Debug)]
pub(crate) struct TokenEndpoint {
    pub(crate) exchange: Exchange,
    pub(crate) client: ClientAuth,
    pub(crate) format: Format,
    /// Where tokens are revoked.
    pub(crate) revocation: Option<EndpointUrl>,
    /// What tokens are bound to.
    #[cfg(feature = "dpop")]
    pub(crate) dpop: Option<Dpop>,
}

impl TokenEndpoint {
    pub(crate) fn new(url: EndpointUrl, client: ClientAuth) -> Self {
        Self {
            exchange: Exchange::new(url),
            client,
            format: Format::default(),
            revocation: None,
            #[cfg(feature = "dpop")]
            dpop: None,
        }
    }

    /// Asks once. `grant` holds `grant_type` and what belongs to it; the client is added here.
    pub(crate) async fn request(&self, grant: Params<'_>) -> Result<TokenResponse, Error> {
        self.exchange.within(self.ask(grant, true)).await
    }

    /// The same with a grant that no server takes twice. One who wants a nonce with it
    /// ([`wants_nonce`](Error::wants_nonce)) gets it by the next call, with the next grant.
    pub(crate) async fn request_once(&self, grant: Params<'_>) -> Result<TokenResponse, Error> {
        self.exchange.within(self.ask(grant, false)).await
    }

    #[cfg_attr(not(feature = "dpop"), expect(unused_variables))]
    async fn ask(&self, grant: Params<'_>, may_repeat: bool) -> Result<TokenResponse, Error> {
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &self.dpop {
            return self.ask_bound(dpop, grant, may_repeat).await;
        }
        let post = self.post(&self.exchange, grant, self.format, HeaderMap::new());
        let (response, redactor) = post.await?;
        response.token(response.fields(), TokenType::Bearer, redactor)
    }

    /// The token with this secret, bound to the key if there is one.
    pub(crate) fn make_token(&self, secret: SecretString) -> Result<Token, Error> {
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &self.dpop {
            return dpop.token(secret);
        }
        Token::bearer(secret)
    }

    /// Asks for a token that is bound to a key. A server that wants a nonce in the proof says so once
    /// (RFC 9449 §8): then all is made anew, an assertion of the client too, since it has seen the
    /// first.
    #[cfg(feature = "dpop")]
    async fn ask_bound(
        &self,
        dpop: &Dpop,
        grant: Params<'_>,
        mut may_repeat: bool,
    ) -> Result<TokenResponse, Error> {
        let address = self.exchange.address().await?;
        loop {
            let headers = HeaderMap::from_iter([(DPOP, dpop.prove_to(&address)?)]);
            let post = self.post(&self.exchange, grant.clone(), self.format, headers);
            let (response, redactor) = post.await?;
            let has_nonce = dpop.observe(&address, &response.headers);
            if has_nonce && may_repeat && response.is_refused_with(USE_NONCE) {
                may_repeat = false;
                continue;
            }
            return response.token(response.fields(), TokenType::Dpop, redactor);
        }
    }

    /// Takes a token back (RFC 7009 §2.1), if it is known where. One that isn't good any more is
    /// none to the server, and no error (§2.2).
    pub(crate) async fn revoke(&self, token: &str, hint: &str) -> Result<(), Error> {
        let Some(url) = &self.revocation else {
            return Ok(());
        };
        let mut params = Params::default();
        params.push_secret("token", token);
        params.push("token_type_hint", hint);
        let refused = "the revocation endpoint refused to revoke a token";
        self.ask_at(
            url,
            EndpointKind::Revocation,
            params,
            |response, redactor| response.done(redactor, refused),
        )
        .await
    }

    /// Asks another endpoint of the same server, as the same client, and reads what it answers. The
    /// parameters are always a form: no RFC of another endpoint knows anything else.
    pub(crate) async fn ask_at<T>(
        &self,
        url: &EndpointUrl,
        kind: EndpointKind,
        params: Params<'_>,
        read: impl FnOnce(&EndpointResponse, Redactor) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let exchange = self.exchange.to(url.clone(), kind);
        let ask = async {
            let post = self.post(&exchange, params, Format::Form, HeaderMap::new());
            let (response, redactor) = post.await?;
            read(&response, redactor)
        };
        exchange.within(ask).await
    }

    /// Whom an assertion of the client is for, wherever it is sent: the issuer if that is known, else
    /// the token endpoint (RFC 7523 §3).
    fn audience(&self) -> String {
        self.exchange.url.address_or_issuer()
    }

    async fn post(
        &self,
        exchange: &Exchange,
        mut params: Params<'_>,
        format: Format,
        mut headers: HeaderMap,
    ) -> Result<(EndpointResponse, Redactor), Error> {
        let client = self.client.for_request(&self.audience()).await?;
        client.add_to(&mut params);
        let unwritable = || Error::new(Kind::Config, "the token request can't be written");
        headers.extend(client.header().map(|value| (AUTHORIZATION, value)));
        let request = EndpointRequest {
            body: params.encode(format).ok_or_else(unwritable)?,
            content_type: format.content_type(),
            headers,
        };
        let response = exchange.post(request).await?;
        let redactor = redactor(&params, &client);
        Ok((response, redactor))
    }
}

fn redactor(params: &Params<'_>, client: &RequestAuth<'_>) -> Redactor {
    let mut redactor = Redactor::default();
    for secret in client.secrets() {
        redactor.hide(&secret);
    }
    for secret in params.secrets() {
        redactor.hide(secret);
    }
    redactor
}
