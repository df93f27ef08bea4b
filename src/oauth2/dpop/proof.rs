//! Tokens that are bound to a key (RFC 9449). Each request with such a token contains a proof that
//! the sender has the key.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::{HeaderValue, Method, StatusCode, Uri};
use secrecy::{ExposeSecret, SecretString};

use super::dpop_key::{DpopKey, ProofRequest, hash};
use crate::challenge::www_authenticate::Challenge;
use crate::error::{BoxError, Error, Kind};
use crate::origin;
use crate::token::header_value::{credential_value, too_many_headers};
use crate::token::issued_token::Token;
use crate::token::per_request::{Applied, Feedback, PerRequestCredential};
use crate::token::place::Place;
use crate::token::request_head::RequestHead;

/// The header that contains the proof (§4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header in which a server sends the nonce for the next proof (§8).
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The error code of a server that wants a nonce, or a different nonce, in the proof (§8, §9).
pub(crate) const USE_NONCE: &str = "use_dpop_nonce";

/// A key, and the nonces that servers want in proofs of this key. Clones share both.
#[derive(Clone)]
pub(crate) struct Dpop {
    key: DpopKey,
    nonces: Arc<Nonces>,
}

/// The latest nonce of each origin.
#[derive(Default)]
struct Nonces {
    by_origin: Mutex<HashMap<String, String>>,
}

/// The maximum number of origins with a stored nonce. Clients are expected to use fewer origins.
const MOST_ORIGINS: usize = 64;

/// The maximum length of a nonce in bytes. Longer nonces are ignored, because each request would
/// repeat them.
const LONGEST_NONCE: usize = 1024;

impl Dpop {
    pub(crate) fn new(key: DpopKey) -> Self {
        Self {
            key,
            nonces: Arc::default(),
        }
    }

    pub(crate) fn thumbprint(&self) -> &str {
        self.key.thumbprint()
    }

    /// Makes the proof of a token request.
    pub(crate) fn prove_to(&self, endpoint: &Uri) -> Result<HeaderValue, Error> {
        let origin = origin::serialize_uri(endpoint);
        let nonce = self.nonces.get(&origin);
        self.key.prove(&ProofRequest {
            method: &Method::POST,
            url: &format!("{origin}{}", endpoint.path()),
            token: None,
            nonce: nonce.as_deref(),
        })
    }

    /// Stores the nonce of an endpoint's response. Returns whether the response contained a nonce.
    pub(crate) fn observe(&self, endpoint: &Uri, headers: &HeaderMap) -> bool {
        let origin = origin::serialize_uri(endpoint);
        self.nonces.observe(&origin, headers)
    }

    /// Makes a token from the secret that the server issued for this key.
    pub(crate) fn token(&self, secret: SecretString) -> Result<Token, Error> {
        let value = credential_value(&AUTHORIZATION, "DPoP ", &secret)?;
        let bound = BoundToken {
            hash: hash(secret.expose_secret()),
            value,
            dpop: self.clone(),
        };
        Ok(Token::per_request(
            Place::Header(AUTHORIZATION),
            secret,
            Arc::new(bound),
        ))
    }
}

/// The credential of a bound token (§7.1).
struct BoundToken {
    value: HeaderValue,
    hash: String,
    dpop: Dpop,
}

impl PerRequestCredential for BoundToken {
    fn apply(&self, target: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        let Some(origin) = &target.origin else {
            let message = "a DPoP proof needs the whole address of a request, but this request has \
                           only a path; give the client its origin (`with_origin`, for tonic)";
            return Err(Error::new(Kind::Config, message).into());
        };
        let nonce = self.dpop.nonces.get(origin);
        let proof = self.dpop.key.prove(&ProofRequest {
            method: &target.method,
            url: &format!("{origin}{}", target.path),
            token: Some(&self.hash),
            nonce: nonce.as_deref(),
        })?;
        for (name, value) in [(AUTHORIZATION, self.value.clone()), (DPOP, proof)] {
            headers.try_insert(name, value).map_err(too_many_headers)?;
        }
        Ok(Applied::Done)
    }

    fn observe(&self, target: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback {
        let Some(origin) = &target.origin else {
            return Feedback::Nothing;
        };
        // A successful response may also contain the next nonce (§8.2).
        let has_nonce = self.dpop.nonces.observe(origin, headers);
        let wants_nonce = |challenge: &Challenge| {
            challenge.is_scheme("DPoP") && challenge.error() == Some(USE_NONCE)
        };
        if has_nonce
            && status == StatusCode::UNAUTHORIZED
            && Challenge::parse(headers).iter().any(wants_nonce)
        {
            return Feedback::OnceMore;
        }
        Feedback::Nothing
    }

    #[cfg(feature = "fleet")]
    fn bound_to(&self) -> Option<&str> {
        Some(self.dpop.key.thumbprint())
    }
}

impl Nonces {
    fn get(&self, origin: &str) -> Option<String> {
        let by_origin = self
            .by_origin
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        by_origin.get(origin).cloned()
    }

    fn observe(&self, origin: &str, headers: &HeaderMap) -> bool {
        let mut sent = headers.get_all(NONCE).iter();
        // §8.1 allows one nonce; two nonces are ambiguous.
        let (Some(nonce), None) = (sent.next(), sent.next()) else {
            return false;
        };
        let Some(nonce) = nonce.to_str().ok().filter(|nonce| is_nonce(nonce)) else {
            return false;
        };
        let mut by_origin = self
            .by_origin
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match by_origin.get_mut(origin) {
            Some(known) if known == nonce => {}
            Some(known) => nonce.clone_into(known),
            None => {
                if by_origin.len() >= MOST_ORIGINS {
                    by_origin.clear();
                }
                by_origin.insert(origin.to_owned(), nonce.to_owned());
            }
        }
        true
    }
}

/// Returns whether the text is a nonce: `1*NQCHAR` (§8.1), up to the maximum length.
fn is_nonce(text: &str) -> bool {
    let is_nqchar = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    (1..=LONGEST_NONCE).contains(&text.len()) && text.bytes().all(is_nqchar)
}

impl fmt::Debug for Dpop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.key, f)
    }
}
