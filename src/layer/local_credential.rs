//! The credential that one clone of the service keeps for itself.
//!
//! Two threads that change one reference count pass its cache line between their cores. Cloning a
//! shared `HeaderValue` therefore costs three times as much as cloning a private one. So each clone
//! of the service keeps a private copy of the header value, and compares one number to know whether
//! its token is still the current one.
//!
//! A clone makes the copy when it is used for the *second* time. Clients that clone the service for
//! every request use each clone once, and never pay for a copy.

use std::ops::Deref;
use std::sync::Arc;

use http::header::HeaderValue;

use super::attach::Attached;
use super::auth_request::AuthRequest;
use super::settings::LayerSettings;
use crate::cache::expiry::CachedToken;
use crate::token::issued_token::{Credential, Token};

/// What a service clone keeps of the current token.
#[derive(Debug, Default)]
pub(crate) enum LocalCredential {
    /// Not used yet.
    #[default]
    Unused,
    /// Used once.
    Used,
    /// Used at least twice: a private copy pays off.
    Private(Arc<PrivateCopy>),
}

/// A private copy of a token's header value, with all that a request needs besides.
#[derive(Debug)]
pub(crate) struct PrivateCopy {
    /// Here so that a request in flight changes no reference count that other clones change.
    settings: Arc<LayerSettings>,
    cached: Arc<CachedToken>,
    /// `None` if the token does not go in a header.
    value: Option<HeaderValue>,
}

/// The token and the settings that a request was sent with, by the cheapest reference to both.
#[derive(Clone, Debug)]
pub(crate) enum SentToken {
    Cached(Arc<LayerSettings>, Arc<CachedToken>),
    Private(Arc<PrivateCopy>),
}

impl LocalCredential {
    /// The current token, if it is fresh and no refresh is due; from the private copy if that is
    /// current. Takes no lock.
    #[inline]
    pub(crate) fn servable(&mut self, settings: &Arc<LayerSettings>) -> Option<SentToken> {
        match self {
            Self::Private(copy)
                // Not compared by generation: a source may return the same token again with another
                // expiry.
                if settings.cache.is_current(&copy.cached)
                    && copy.cached.is_servable_by(settings.cache.clock()) =>
            {
                Some(SentToken::Private(Arc::clone(copy)))
            }
            Self::Private(_) | Self::Used | Self::Unused => self.update(settings),
        }
    }

    /// Takes the current token from the cache, and copies it if this clone was used before.
    fn update(&mut self, settings: &Arc<LayerSettings>) -> Option<SentToken> {
        let cached = settings.cache.servable()?;
        let settings = Arc::clone(settings);
        if let Self::Unused = self {
            *self = Self::Used;
            return Some(SentToken::Cached(settings, cached));
        }
        let value = cached.token().private_header_value();
        let copy = Arc::new(PrivateCopy {
            settings,
            cached,
            value,
        });
        *self = Self::Private(Arc::clone(&copy));
        Some(SentToken::Private(copy))
    }
}

impl PrivateCopy {
    #[inline]
    fn credential(&self) -> Credential<'_> {
        self.cached.token().credential(self.value.as_ref())
    }
}

impl SentToken {
    /// Attaches the credential to a request that is sent for the first time.
    #[inline(always)]
    pub(crate) fn attach<Req>(&self, request: &mut Req) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        self.attach_credential(request, self.token().place(), self.credential(), self.retry)
    }

    /// Attaches the credential to a request that is sent again. A request with a per-request
    /// credential is recorded again: the server may ask for another proof.
    pub(crate) fn attach_again<Req>(&self, request: &mut Req) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        let credential = self.credential();
        let records = matches!(credential, Credential::PerRequest(_));
        self.attach_credential(request, self.token().place(), credential, records)
    }

    #[inline]
    pub(crate) fn credential(&self) -> Credential<'_> {
        match self {
            Self::Cached(_, cached) => cached.token().credential(None),
            Self::Private(copy) => copy.credential(),
        }
    }

    #[inline]
    pub(crate) fn token(&self) -> &Token {
        self.cached().token()
    }

    #[inline]
    pub(crate) fn cached(&self) -> &Arc<CachedToken> {
        match self {
            Self::Cached(_, cached) => cached,
            Self::Private(copy) => &copy.cached,
        }
    }

    pub(crate) fn settings(&self) -> &Arc<LayerSettings> {
        match self {
            Self::Cached(settings, _) => settings,
            Self::Private(copy) => &copy.settings,
        }
    }
}

impl Deref for SentToken {
    type Target = LayerSettings;

    #[inline]
    fn deref(&self) -> &LayerSettings {
        self.settings()
    }
}
