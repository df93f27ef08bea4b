//! The credential that requests get, and the private copy that each clone of the service keeps.
//!
//! If two threads change one reference count, the cache line of the count moves between the cores.
//! Cloning a shared `HeaderValue` therefore costs three times as much as cloning a private
//! `HeaderValue`. To avoid this cost, each clone of the service keeps a private copy of the header
//! value. One comparison shows whether the token of that copy is still the current token.
//!
//! A clone makes the copy when it is used for the *second* time. Clients that clone the service for
//! every request use each clone only once. Such clones share the copies in [`SharedCredential`].
//! Each of these copies serves a group of threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{HeaderName, HeaderValue};

use super::auth_response::AuthResponse;
use super::response_classification::is_unauthenticated;
use super::settings::LayerSettings;
use crate::cache::expiry::CachedToken;
use crate::sync::ArcSwapOption;
use crate::token::issued_token::{Credential, Token};
use crate::token::place::Place;

/// A token, with the settings and the header that a request needs.
#[derive(Debug)]
pub(crate) struct SentToken {
    /// The settings. They are stored here, so that a request in flight changes no reference count
    /// of other clones.
    pub(crate) settings: Arc<LayerSettings>,
    pub(crate) cached: Arc<CachedToken>,
    /// The header. `None` in these cases:
    ///
    /// - The layer replaces the caller's own credential.
    /// - The token doesn't go in a header.
    /// - The header value is made for each request.
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    /// Whether the layer must check every response, because the user has set a refusal rule or the
    /// response's URL may contain the key.
    has_no_usual_response: bool,
}

impl SentToken {
    /// Makes a token with the header value that all clones share.
    pub(crate) fn shared(settings: &Arc<LayerSettings>, cached: Arc<CachedToken>) -> Arc<Self> {
        let value = cached.token().header_value().cloned();
        Self::new(settings, cached, value)
    }

    /// Makes a token with a copy of the header value.
    pub(crate) fn private(settings: &Arc<LayerSettings>, cached: Arc<CachedToken>) -> Arc<Self> {
        let value = cached.token().private_header_value();
        Self::new(settings, cached, value)
    }

    fn new(
        settings: &Arc<LayerSettings>,
        cached: Arc<CachedToken>,
        value: Option<HeaderValue>,
    ) -> Arc<Self> {
        let name = match cached.token().place() {
            Place::Header(name) if !settings.replace_existing => Some(name.clone()),
            Place::Header(_) | Place::Query(_) | Place::Cookie => None,
        };
        let is_in_query = matches!(cached.token().place(), Place::Query(_));
        Arc::new(Self {
            settings: Arc::clone(settings),
            cached,
            header: name.zip(value),
            has_no_usual_response: is_in_query || settings.refusal_rules.also.is_some(),
        })
    }

    /// Returns whether this is the current token, no refresh is due, and there are no refusals.
    /// Takes no lock.
    #[inline(always)]
    pub(crate) fn is_servable(&self) -> bool {
        let cache = &self.settings.cache;
        // Compares more than the generations, because a source may return the same token again with
        // another expiry.
        cache.is_current(&self.cached) && self.cached.is_servable_by(cache.clock())
    }

    #[inline]
    pub(crate) fn token(&self) -> &Token {
        self.cached.token()
    }

    /// Returns whether the credential is made for each request.
    pub(crate) fn is_per_request(&self) -> bool {
        matches!(self.credential(), Credential::PerRequest(_))
    }

    pub(crate) fn credential(&self) -> Credential<'_> {
        let value = self.header.as_ref().map(|(_, value)| value);
        self.token().credential(value)
    }

    /// Returns whether the response is a success with a token that was accepted before. Such a
    /// response says nothing new about the token.
    #[inline]
    pub(crate) fn is_usual(&self, response: &impl AuthResponse) -> bool {
        response.status().is_success()
            && self.cached.is_accepted()
            && !self.has_no_usual_response
            && !is_unauthenticated(response)
    }
}

/// The copy of the current token that a service clone keeps.
#[derive(Debug, Default)]
pub(crate) enum LocalCredential {
    /// The clone hasn't been used yet.
    #[default]
    Unused,
    /// The clone was used once.
    Used,
    /// The clone was used at least twice, so a private copy is worth its cost.
    Private(Arc<SentToken>),
}

impl LocalCredential {
    /// Returns the current token if no refresh is due and there are no refusals. Prefers the
    /// private copy if its token is current. Takes no lock.
    #[inline]
    pub(crate) fn servable(&mut self, shared: &SharedCredential) -> Option<Arc<SentToken>> {
        match self {
            Self::Private(copy) if copy.is_servable() => Some(Arc::clone(copy)),
            Self::Private(_) | Self::Used => self.update(&shared.settings),
            Self::Unused => {
                *self = Self::Used;
                shared.servable()
            }
        }
    }

    /// Copies the current token.
    #[cold]
    #[inline(never)]
    fn update(&mut self, settings: &Arc<LayerSettings>) -> Option<Arc<SentToken>> {
        let copy = SentToken::private(settings, settings.cache.servable()?);
        *self = Self::Private(Arc::clone(&copy));
        Some(copy)
    }
}

/// The number of copies of the current token that clones share on their first use. Threads with
/// different copies don't change each other's reference counts.
const COPIES: usize = 8;

/// The settings of a layer, and the copies of the current token that clones share on their first
/// use.
#[derive(Debug)]
pub(crate) struct SharedCredential {
    pub(crate) settings: Arc<LayerSettings>,
    copies: [ArcSwapOption<SentToken>; COPIES],
}

impl SharedCredential {
    pub(crate) fn new(settings: LayerSettings) -> Arc<Self> {
        Arc::new(Self {
            settings: Arc::new(settings),
            copies: Default::default(),
        })
    }

    #[inline(never)]
    fn servable(&self) -> Option<Arc<SentToken>> {
        let copy = &self.copies[copy_of_this_thread()];
        match &*copy.load() {
            Some(copy) if copy.is_servable() => Some(Arc::clone(copy)),
            _ => self.update(copy),
        }
    }

    #[cold]
    #[inline(never)]
    fn update(&self, stored: &ArcSwapOption<SentToken>) -> Option<Arc<SentToken>> {
        let copy = SentToken::private(&self.settings, self.settings.cache.servable()?);
        stored.store(Some(Arc::clone(&copy)));
        Some(copy)
    }
}

/// Returns the index of this thread's copy. New threads get the copies in turn.
fn copy_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static COPY: usize = NEXT.fetch_add(1, Ordering::Relaxed) % COPIES;
    }
    COPY.try_with(|copy| *copy).unwrap_or_default()
}
