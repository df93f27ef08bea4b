//! The tokens that a process has used, so that the process doesn't take them from a store again.

use std::collections::VecDeque;

use super::issued_token::Token;

/// The maximum number of remembered refused tokens. A store can contain only a recently refused
/// token.
const MOST_REFUSED: usize = 4;

/// The last token that this process used, and the tokens that servers refused.
#[derive(Debug, Default)]
pub(crate) struct KnownTokens {
    latest: Option<Token>,
    /// Oldest first.
    refused: VecDeque<Token>,
}

impl KnownTokens {
    pub(crate) fn record_latest(&mut self, token: &Token) {
        self.latest = Some(token.clone());
    }

    /// Remembers the latest token as refused.
    pub(crate) fn record_refusal(&mut self) {
        let Some(token) = self.latest.take() else {
            return;
        };
        if self.refused.len() == MOST_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(token);
    }

    pub(crate) fn is_latest(&self, token: &Token) -> bool {
        let latest = self.latest.as_ref();
        latest.is_some_and(|latest| latest.is_same_credential(token))
    }

    pub(crate) fn is_refused(&self, token: &Token) -> bool {
        let mut refused = self.refused.iter();
        refused.any(|refused| refused.is_same_credential(token))
    }
}
