//! The sessions that a source has opened: the current session, and replaced sessions that the
//! server may still have.
//!
//! The source logs out of a replaced session when no request uses the session anymore.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cookie_jar::{CookieJar, TokenLifetime, TokenParts};
use crate::source::token_source::Reason;
use crate::token::issued_token::Token;
use crate::token::place::Place;

#[derive(Default)]
pub(super) struct OpenSessions {
    current: Option<OpenSession>,
    replaced: Vec<ReplacedSession>,
}

struct OpenSession {
    jar: Arc<CookieJar>,
    /// All tokens of the session are clones of this token. So the cache takes a refusal of any of
    /// these tokens as a refusal of the session.
    token: Token,
}

struct ReplacedSession {
    jar: Arc<CookieJar>,
    since: Instant,
}

/// The maximum number of replaced sessions. If there are more, the source logs out of the oldest,
/// even if a request still uses that session.
const MAX_REPLACED: usize = 16;

/// The time after which a replaced session counts as unused. Copies of its token may exist for
/// longer, because an idle clone of a client keeps a copy until the next request.
const LONGEST_USE: Duration = Duration::from_secs(60);

impl OpenSessions {
    /// Returns another token for the current session if responses have renewed the session. After a
    /// refusal, the session is never used again.
    pub(super) fn renewed(&mut self, reason: Reason) -> Option<Token> {
        match reason {
            Reason::Stale | Reason::Expired => {
                let OpenSession { jar, token } = self.current.as_ref()?;
                let TokenParts { secret, lifetime } = jar.renewed_token()?;
                Some(lasting(token.clone().with_secret(secret), lifetime))
            }
            Reason::Refused => {
                // The server has ended the session, so a logout isn't needed.
                self.current = None;
                None
            }
            Reason::First | Reason::Forced => None,
        }
    }

    /// Makes a session current, and returns its first token.
    pub(super) fn opened(&mut self, jar: CookieJar) -> Token {
        let (jar, since) = (Arc::new(jar), Instant::now());
        let TokenParts { secret, lifetime } = jar.first_token();
        let token = Token::per_request(Place::Cookie, secret, Arc::clone(&jar));
        let next = OpenSession {
            jar,
            token: token.clone(),
        };
        let before = self.current.replace(next).map(|session| session.jar);
        // A session that was deleted or has expired needs no logout.
        if let Some(jar) = before.filter(|jar| jar.is_alive()) {
            self.replaced.push(ReplacedSession { jar, since });
        }
        lasting(token, lifetime)
    }

    /// Removes the replaced sessions that no request uses anymore, and returns those that must be
    /// logged out. The result includes sessions whose cookies have expired since the replacement,
    /// because the server may keep them for longer.
    pub(super) fn take_unused(&mut self) -> Vec<Arc<CookieJar>> {
        let surplus = self.replaced.len().saturating_sub(MAX_REPLACED);
        let mut at = 0;
        let is_unused = |session: &mut ReplacedSession| {
            at += 1;
            let is_shared = Arc::strong_count(&session.jar) > 1;
            !is_shared || session.since.elapsed() >= LONGEST_USE || at <= surplus
        };
        let unused: Vec<_> = self.replaced.extract_if(.., is_unused).collect();
        let jars = unused.into_iter().map(|session| session.jar);
        jars.filter(|jar| !self.is_current(jar)).collect()
    }

    pub(super) fn forget_replaced(&mut self) {
        self.replaced.clear();
    }

    /// Forgets all sessions, and returns those that must be logged out.
    pub(super) fn close(&mut self) -> Vec<Arc<CookieJar>> {
        let replaced = std::mem::take(&mut self.replaced).into_iter();
        let replaced = replaced.map(|session| session.jar);
        let mut jars: Vec<_> = replaced.filter(|jar| !self.is_current(jar)).collect();
        let current = self.current.take().map(|session| session.jar);
        jars.extend(current.filter(|jar| jar.is_alive()));
        jars
    }

    /// Returns whether the current login continues this replaced session. A logout would then end
    /// the current session.
    fn is_current(&self, replaced: &CookieJar) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|current| current.jar.is_same_session(replaced))
    }
}

/// Returns the token with the lifetime of its session.
fn lasting(token: Token, lifetime: Option<TokenLifetime>) -> Token {
    match lifetime {
        Some(TokenLifetime { left, last_part }) => {
            token.expires_in(left).refresh_within_last(last_part)
        }
        None => token,
    }
}
