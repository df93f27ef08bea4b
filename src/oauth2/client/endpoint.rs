//! The token endpoint (RFC 6749 §3.2), to which each grant sends its parameters.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use secrecy::SecretString;
use tokio::time::timeout;

use super::client_auth::{ClientAuth, RequestAuth};
use super::params::{BodyFormat, Params};
use crate::error::{Error, Kind};
use crate::http_client::bounded_response::{EndpointResponse, PartialResponse};
use crate::http_client::endpoint_client::{EndpointClient, EndpointRequest};
use crate::http_client::endpoint_kind::EndpointKind;
use crate::http_client::endpoint_url::EndpointUrl;
use crate::http_client::token_response::{TokenResponse, TokenType, UnjudgedResponse, WantedToken};
#[cfg(feature = "dpop")]
use crate::oauth2::dpop::proof::{DPOP, Dpop, USE_NONCE};
use crate::token::issued_token::Token;
use crate::token::redact::Redactor;

/// The token endpoint and the revocation endpoint of one client.
#[derive(Clone, Debug)]
pub(crate) struct TokenEndpoint {
    pub(crate) http: EndpointClient,
    pub(crate) client: ClientAuth,
    pub(crate) format: BodyFormat,
    pub(crate) revocation: Option<EndpointUrl>,
    /// The key that tokens are bound to.
    #[cfg(feature = "dpop")]
    pub(crate) dpop: Option<Dpop>,
}

impl TokenEndpoint {
    pub(crate) fn new(url: EndpointUrl, client: ClientAuth) -> Self {
        Self {
            http: EndpointClient::new(url),
            client,
            format: BodyFormat::default(),
            revocation: None,
            #[cfg(feature = "dpop")]
            dpop: None,
        }
    }

    /// Requests a token. `grant` contains the grant's parameters; this method adds the client
    /// authentication. A grant that keeps a refresh token uses
    /// [`request_unjudged`](Self::request_unjudged) instead.
    pub(crate) async fn request(&self, grant: Params<'_>) -> Result<TokenResponse, Error> {
        self.request_unjudged(grant).await?.rest
    }

    /// Requests a token like [`request`](Self::request). The caller must save the response's
    /// refresh token before it returns, even if the rest of the response is unusable.
    pub(crate) async fn request_unjudged(
        &self,
        grant: Params<'_>,
    ) -> Result<UnjudgedResponse, Error> {
        self.http.within(self.send(grant, true, None)).await
    }

    /// Requests a token like [`request`](Self::request). `no_access_token` is the requested type if
    /// it isn't an access token (RFC 8693 §2.2.1).
    pub(crate) async fn request_type(
        &self,
        grant: Params<'_>,
        no_access_token: Option<&str>,
    ) -> Result<TokenResponse, Error> {
        let send = self.send(grant, true, no_access_token);
        self.http.within(send).await?.rest
    }

    /// Requests a token with a one-time grant. If the server wants a nonce
    /// ([`wants_nonce`](Error::wants_nonce)), the caller tries again with a new grant.
    pub(crate) async fn request_once(&self, grant: Params<'_>) -> Result<TokenResponse, Error> {
        self.http.within(self.send(grant, false, None)).await?.rest
    }

    #[cfg_attr(not(feature = "dpop"), expect(unused_variables))]
    async fn send(
        &self,
        grant: Params<'_>,
        may_repeat: bool,
        no_access_token: Option<&str>,
    ) -> Result<UnjudgedResponse, Error> {
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &self.dpop {
            return self.send_with_proof(dpop, grant, may_repeat).await;
        }
        let wanted = WantedToken {
            token_type: TokenType::Bearer,
            no_access_token,
        };
        let post = self.post(&self.http, grant, self.format, HeaderMap::new());
        let (partial, redactor) = post.await?;
        Ok(self.http.tokens(partial, wanted, redactor))
    }

    /// Makes a token from its secret, and binds the token to the client's key, if any.
    pub(crate) fn make_token(&self, secret: SecretString) -> Result<Token, Error> {
        #[cfg(feature = "dpop")]
        if let Some(dpop) = &self.dpop {
            return dpop.token(secret);
        }
        Token::bearer(secret)
    }

    /// Requests a token that is bound to a key. Tries once more if the server wants a nonce in the
    /// proof (RFC 9449 §8). The second request also has a new client assertion, because a server
    /// may accept an assertion only once.
    #[cfg(feature = "dpop")]
    async fn send_with_proof(
        &self,
        dpop: &Dpop,
        grant: Params<'_>,
        mut may_repeat: bool,
    ) -> Result<UnjudgedResponse, Error> {
        let address = self.http.address().await?;
        let wanted = WantedToken {
            token_type: TokenType::Dpop,
            no_access_token: None,
        };
        loop {
            let headers = HeaderMap::from_iter([(DPOP, dpop.prove_to(&address)?)]);
            let post = self.post(&self.http, grant.clone(), self.format, headers);
            let (partial, redactor) = post.await?;
            let response = &partial.response;
            let has_nonce = dpop.observe(&address, &response.headers);
            if has_nonce && may_repeat && response.is_refused_with(USE_NONCE) {
                may_repeat = false;
                continue;
            }
            return Ok(self.http.tokens(partial, wanted, redactor));
        }
    }

    /// Revokes a token (RFC 7009 §2.1), if there is a revocation endpoint. Servers don't report an
    /// error for a token that is already invalid (§2.2).
    pub(crate) async fn revoke(&self, token: &str, hint: &str) -> Result<(), Error> {
        let Some(url) = &self.revocation else {
            return Ok(());
        };
        let mut params = Params::default();
        params.push_secret("token", token);
        params.push("token_type_hint", hint);
        let refused = "the revocation endpoint refused to revoke a token";
        let read = |response: &EndpointResponse, redactor| response.done(redactor, refused);
        self.request_at(url, EndpointKind::Revocation, params, read)
            .await
    }

    /// Sends a request to another endpoint of the same server and reads the response. The body is
    /// always a form, because the RFCs of these endpoints define no other format.
    pub(crate) async fn request_at<T>(
        &self,
        url: &EndpointUrl,
        kind: EndpointKind,
        params: Params<'_>,
        read: impl FnOnce(&EndpointResponse, Redactor) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let http = self.http.to(url.clone(), kind);
        let send = async {
            let post = self.post(&http, params, BodyFormat::FormUrlEncoded, HeaderMap::new());
            let (partial, redactor) = post.await?;
            read(&http.complete(partial)?, redactor)
        };
        http.within(send).await
    }

    /// Returns the audience of a client assertion (RFC 7523 §3): the issuer as the server writes it
    /// (draft-ietf-oauth-rfc7523bis §4). Prefers the issuer of `http` to the token endpoint's
    /// issuer. If there is no issuer, the audience is the token endpoint's address.
    async fn audience(&self, http: &EndpointClient) -> Result<String, Error> {
        if let Some(issuer) = http.published_issuer(&http.url).await? {
            return Ok(issuer);
        }
        // The address at `http` is known, so the request is sent even if this metadata is missing.
        let published = timeout(http.timeout / 2, http.published_issuer(&self.http.url));
        match published.await {
            Ok(Ok(Some(issuer))) => Ok(issuer),
            _ => Ok(self.http.url.address_or_issuer()),
        }
    }

    async fn post(
        &self,
        http: &EndpointClient,
        mut params: Params<'_>,
        format: BodyFormat,
        mut headers: HeaderMap,
    ) -> Result<(PartialResponse, Redactor), Error> {
        let client = self.client.for_request(self.audience(http)).await?;
        client.add_to(&mut params);
        let unwritable = || Error::new(Kind::Config, "could not encode the token request");
        headers.extend(client.header().map(|value| (AUTHORIZATION, value)));
        let request = EndpointRequest {
            method: Method::POST,
            body: params.encode(format).ok_or_else(unwritable)?,
            content_type: format.content_type(),
            headers,
        };
        let response = http.post_partial(request).await?;
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
