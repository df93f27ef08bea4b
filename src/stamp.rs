//! The credential as one clone of the service keeps it.
//!
//! A reference count that two threads share bounces between their cores: cloning a shared
//! `HeaderValue` costs three times what a private one does. So each clone of the service makes
//! itself a copy of the header, and compares one number to know whether it is still the token in
//! use. It is made when a clone is used for the *second* time: clients that clone the service for
//! every request use each clone once, and never pay for a copy.

use std::ops::Deref;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};

use crate::cache::Lookup;
use crate::clock::Moment;
use crate::freshness::Held;
use crate::policy::Policy;
use crate::token::Token;

/// What a service clone knows of the token in use.
#[derive(Debug, Default)]
pub(crate) enum Stamp {
    /// Not used yet.
    #[default]
    Unused,
    /// Used once.
    Used,
    /// Used again: a copy is worth its price. With it, when it was last found fit to be served.
    Private(Arc<PrivateCopy>, Moment),
}

#[derive(Debug)]
pub(crate) struct PrivateCopy {
    /// Here so that a request in the air holds on to nothing that other clones hold on to.
    policy: Arc<Policy>,
    held: Arc<Held>,
    value: HeaderValue,
}

/// What a request was stamped with, and by what policy: by way of whatever is cheapest to share.
#[derive(Clone, Debug)]
pub(crate) enum Handle {
    Shared(Arc<Policy>, Arc<Held>),
    Private(Arc<PrivateCopy>),
}

impl Stamp {
    /// The private copy, if there is one of the token in use and it can be served with nothing
    /// else to do.
    #[inline]
    pub(crate) fn current(&mut self, policy: &Policy) -> Option<&Arc<PrivateCopy>> {
        let Self::Private(copy, looked) = self else {
            return None;
        };
        if copy.generation() != policy.cache.generation() {
            return None;
        }
        let clock = policy.cache.clock();
        if !clock
            .glance()
            .is_some_and(|glance| looked.is_just_before(glance))
        {
            let now = clock.now();
            if !copy.held.serves(now) {
                return None;
            }
            *looked = now;
        }
        Some(copy)
    }

    /// Asks the cache, and makes a copy of what it has when it is time to.
    pub(crate) fn look_up(&mut self, policy: &Arc<Policy>) -> Lookup {
        let now = policy.cache.now();
        let lookup = policy.cache.lookup(now);
        if let Lookup::Now(held) = &lookup {
            match self {
                Self::Unused => *self = Self::Used,
                Self::Private(copy, _) if Arc::ptr_eq(&copy.held, held) => {}
                Self::Used | Self::Private(..) => {
                    let copy = PrivateCopy {
                        policy: Arc::clone(policy),
                        held: Arc::clone(held),
                        value: held.token().private_header_value(),
                    };
                    *self = Self::Private(Arc::new(copy), now);
                }
            }
        }
        lookup
    }
}

impl PrivateCopy {
    #[inline]
    pub(crate) fn header(&self) -> (&HeaderName, &HeaderValue) {
        (self.held.token().header_name(), &self.value)
    }

    #[inline]
    fn generation(&self) -> u64 {
        self.held.token().generation()
    }
}

impl Handle {
    #[inline]
    pub(crate) fn header(&self) -> (&HeaderName, &HeaderValue) {
        match self {
            Self::Shared(_, held) => (held.token().header_name(), held.token().header_value()),
            Self::Private(copy) => copy.header(),
        }
    }

    #[inline]
    pub(crate) fn token(&self) -> &Token {
        match self {
            Self::Shared(_, held) => held.token(),
            Self::Private(copy) => copy.held.token(),
        }
    }

    pub(crate) fn policy(&self) -> &Arc<Policy> {
        match self {
            Self::Shared(policy, _) => policy,
            Self::Private(copy) => &copy.policy,
        }
    }
}

impl Deref for Handle {
    type Target = Policy;

    #[inline]
    fn deref(&self) -> &Policy {
        self.policy()
    }
}
