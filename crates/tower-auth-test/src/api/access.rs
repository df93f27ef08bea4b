//! Which requests an API accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::header::CONTENT_TYPE;

use super::refusal::{Refusal, grpc, unauthorized};
#[cfg(feature = "dpop")]
use crate::authorization_server::dpop::{DpopState, InvalidProof};
use crate::authorization_server::{Expected, Invalid, IssuedToken, Tokens};
use crate::server::{RecordedRequest, ScriptedResponse};

pub(crate) type Respond = Arc<dyn Fn(&RecordedRequest) -> ScriptedResponse + Send + Sync>;
pub(crate) type ReadToken = Arc<dyn Fn(&RecordedRequest) -> Option<String> + Send + Sync>;

/// What decides about the requests to an API.
pub(crate) struct Access {
    /// The tokens of the authorization server, if the API has one.
    pub(crate) tokens: Option<Tokens>,
    /// Tokens that no server has issued.
    pub(crate) accepted: BTreeSet<String>,
    pub(crate) expected: Expected,
    /// What resources need beyond a token, by their paths.
    pub(crate) scopes: BTreeMap<String, String>,
    /// The resources that refuse every request, by their paths.
    pub(crate) refusing: BTreeMap<String, Refusal>,
    pub(crate) share: Option<Share>,
    pub(crate) read_token: ReadToken,
    pub(crate) respond: Respond,
    #[cfg(feature = "dpop")]
    pub(crate) dpop: DpopState,
}

/// Refuses every nth request.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) every: usize,
    pub(crate) requests: usize,
    pub(crate) refusal: Refusal,
}

impl Access {
    /// Returns the response to a request that the API refuses.
    pub(crate) fn refusal(
        &mut self,
        request: &RecordedRequest,
        secret: Option<&str>,
    ) -> Option<ScriptedResponse> {
        if let Some(share) = &mut self.share {
            share.requests += 1;
            if share.requests.is_multiple_of(share.every) {
                return Some(share.refusal.clone().into());
            }
        }
        if let Some(refusal) = self.refusing.get(request.path()) {
            return Some(refusal.clone().into());
        }
        Some(match self.check(request, secret).err()? {
            Invalid::Scope => {
                let scope = self.scope_of(request).unwrap_or_default();
                Refusal::Forbidden { scope }.into()
            }
            invalid if is_grpc(request) => grpc(invalid),
            invalid => unauthorized(invalid),
        })
    }

    fn scope_of(&self, request: &RecordedRequest) -> Option<String> {
        let of_path = self.scopes.get(request.path());
        of_path.or(self.expected.scope.as_ref()).cloned()
    }

    fn check(&mut self, request: &RecordedRequest, secret: Option<&str>) -> Result<(), Invalid> {
        let secret = secret.ok_or(Invalid::Missing)?;
        if self.accepted.contains(secret) {
            return Ok(());
        }
        let tokens = self.tokens.as_ref().ok_or(Invalid::Unknown)?;
        let expected = Expected {
            scope: self.scope_of(request),
            ..self.expected.clone()
        };
        let token = tokens.check(secret, &expected)?;
        self.check_key(request, &token)
    }

    /// Checks that the sender has the key that the token is bound to (RFC 9449 §7).
    #[cfg(feature = "dpop")]
    fn check_key(&mut self, request: &RecordedRequest, token: &IssuedToken) -> Result<(), Invalid> {
        let Some(key) = token.key() else {
            return Ok(());
        };
        if request.has_scheme("Bearer") {
            return Err(Invalid::Key("the scheme is not DPoP"));
        }
        match self.dpop.check(request, Some(token.secret())) {
            Ok(Some(proven)) if proven == key => Ok(()),
            Ok(Some(_)) => Err(Invalid::Key("the token is bound to another key")),
            Ok(None) => Err(Invalid::Key("there is no DPoP proof")),
            Err(InvalidProof::Wrong(why)) => Err(Invalid::Key(why)),
            Err(InvalidProof::Nonce) => Err(Invalid::DpopNonce),
        }
    }

    #[cfg(not(feature = "dpop"))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as with the feature"
    )]
    fn check_key(&self, _: &RecordedRequest, _: &IssuedToken) -> Result<(), Invalid> {
        Ok(())
    }
}

fn is_grpc(request: &RecordedRequest) -> bool {
    let kind = request.header(CONTENT_TYPE.as_str());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}
