//! The credential as one clone of the service keeps it.
//!
//! A reference count that two threads share bounces between their cores: cloning a shared
//! `HeaderValue` costs three times what a private one does. So each clone of the service makes
//! itself a copy of the header, and compares one number to know whether it is still the token in
//! use. It is made when a clone is used for the *second* time: clients that clone the service for
//! every request use each clone once, and never pay for a copy.

use std::ops::Deref;
use std::sync::Arc;

use http::header::HeaderValue;

use super::attach::Attached;
use super::auth_request::AuthRequest;
use super::settings::LayerSettings;
use crate::cache::expiry::CachedToken;
use crate::token::issued_token::{Credential, Token};

/// What a service clone knows of the token in use.
#[derive(Debug, Default)]
pub(crate) enum LocalCredential {
    /// Not used yet.
    #[default]
    Unused,
    /// Used once.
    Used,
    /// Used again: a copy is worth its price.
    Private(Arc<PrivateCopy>),
}

#[derive(Debug)]
pub(crate) struct PrivateCopy {
    /// Here so that a request in the air holds on to nothing that other clones hold on to.
    settings: Arc<LayerSettings>,
    cached: Arc<CachedToken>,
    /// `None` of a token that doesn't go in a header.
    value: Option<HeaderValue>,
}

/// What a request was stamped with, and by what policy: by way of whatever is cheapest to share.
#[derive(Clone, Debug)]
pub(crate) enum SentToken {
    Shared(Arc<LayerSettings>, Arc<CachedToken>),
    Private(Arc<PrivateCopy>),
}

impl LocalCredential {
    /// The token in hand, if it can be served with nothing else to do; by the private copy if
    /// that is of it. Takes no lock.
    #[inline]
    pub(crate) fn servable(&mut self, settings: &Arc<LayerSettings>) -> Option<SentToken> {
        match self {
            Self::Private(copy)
                // Not by the generation: the same token may have been issued again, for less.
                if settings.cache.is_current(&copy.cached)
                    && copy.cached.is_servable_by(settings.cache.clock()) =>
            {
                Some(SentToken::Private(Arc::clone(copy)))
            }
            Self::Private(_) | Self::Used | Self::Unused => self.renew(settings),
        }
    }

    fn renew(&mut self, settings: &Arc<LayerSettings>) -> Option<SentToken> {
        let cached = settings.cache.servable()?;
        let settings = Arc::clone(settings);
        if let Self::Unused = self {
            *self = Self::Used;
            return Some(SentToken::Shared(settings, cached));
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
    /// Puts the credential on a request that is sent for the first time.
    #[inline(always)]
    pub(crate) fn attach<Req>(&self, request: &mut Req) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        self.attach_credential(request, self.token().place(), self.credential(), self.retry)
    }

    /// The same when it is sent again: with one that is made for each request it may have to be sent
    /// once more.
    pub(crate) fn attach_again<Req>(&self, request: &mut Req) -> Attached<Req::Copy>
    where
        Req: AuthRequest,
    {
        let credential = self.credential();
        let keeps = matches!(credential, Credential::PerRequest(_));
        self.attach_credential(request, self.token().place(), credential, keeps)
    }

    #[inline]
    pub(crate) fn credential(&self) -> Credential<'_> {
        match self {
            Self::Shared(_, cached) => cached.token().credential(None),
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
            Self::Shared(_, cached) => cached,
            Self::Private(copy) => &copy.cached,
        }
    }

    pub(crate) fn settings(&self) -> &Arc<LayerSettings> {
        match self {
            Self::Shared(settings, _) => settings,
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
