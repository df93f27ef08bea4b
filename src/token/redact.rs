//! Removes secrets from a server's text before the text is shown. Servers may echo what a client
//! sent.

use http::{HeaderMap, Uri, header};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::form::parse;
use super::spelling;
use crate::sanitize::{ServerText, sanitize};

/// The minimum length of a hidden secret in bytes. Hiding shorter strings would make the server's
/// text hard to read.
const SHORTEST: usize = 4;

/// The text that replaces a secret.
const HIDDEN: &str = "[redacted]";

/// The secrets to hide, however a server spells them.
#[derive(Default)]
pub(crate) struct Redactor {
    secrets: Vec<Zeroizing<String>>,
}

impl Redactor {
    pub(crate) fn hide(&mut self, secret: &str) {
        let is_known = self.secrets.iter().any(|known| **known == secret);
        if secret.len() >= SHORTEST && !is_known {
            self.secrets.push(Zeroizing::new(secret.to_owned()));
        }
    }

    /// Makes a redactor for the values in the query of an address. Such a value may be a key.
    pub(crate) fn of_address(address: &Uri) -> Self {
        let mut redactor = Self::default();
        let query = address.query().unwrap_or_default();
        for (_, value) in parse(query.as_bytes()) {
            redactor.hide(value.expose_secret());
        }
        redactor
    }

    /// Hides the values of the cookies that a response sets.
    pub(crate) fn hide_cookies(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE) {
            let pair = line.to_str().unwrap_or_default().split(';').next();
            let value = pair.and_then(|pair| pair.split_once('='));
            self.hide(value.map_or("", |(_, value)| value.trim()));
        }
    }

    pub(crate) fn hide_all_of(&mut self, other: &Self) {
        for secret in &other.secrets {
            self.hide(secret);
        }
    }

    pub(crate) fn redact(&self, text: &str) -> ServerText {
        ServerText::new(&Zeroizing::new(self.redact_whole(text)))
    }

    /// Does the same as [`redact`](Self::redact), but doesn't shorten the text.
    pub(crate) fn redact_whole(&self, text: &str) -> String {
        let text = Zeroizing::new(sanitize(text));
        let parts = self.visible_parts(&text);
        let separators = HIDDEN.len() * parts.len().saturating_sub(1);
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // The buffer doesn't grow. A buffer that grows frees memory without zeroizing it.
        let mut redacted = String::with_capacity(length + separators);
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                redacted.push_str(HIDDEN);
            }
            redacted.push_str(part);
        }
        redacted
    }

    /// Does the same as [`redact_whole`](Self::redact_whole), and also hides each part of a secret
    /// that has at least `shortest` characters and no space. Use this method for a text that may be
    /// cut within a secret, or whose lines may be broken within a secret.
    #[cfg(feature = "command")]
    pub(crate) fn redact_parts(&self, text: &str, shortest: usize) -> Zeroizing<String> {
        let text = Zeroizing::new(self.redact_whole(text));
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        // The buffer never grows, because a hidden part has at least one character.
        let mut shown = Zeroizing::new(String::with_capacity(HIDDEN.len() * text.len()));
        // The end of the last hidden part.
        let mut hidden_until = 0;
        for (index, (at, c)) in text.char_indices().enumerate() {
            let end = starts.get(index + shortest).copied().unwrap_or(text.len());
            let part = text.get(at..end).unwrap_or_default();
            let is_long_enough = index + shortest <= starts.len();
            let mut secrets = self.secrets.iter();
            if is_long_enough && !part.contains(' ') && secrets.any(|it| it.contains(part)) {
                if at >= hidden_until {
                    shown.push_str(HIDDEN);
                }
                hidden_until = end;
            } else if at >= hidden_until {
                shown.push(c);
            }
        }
        shown
    }

    /// Returns whether the text contains a secret.
    pub(crate) fn finds_in(&self, text: &str) -> bool {
        self.visible_parts(text).len() > 1
    }

    /// Returns the parts of the text before, between and after the secrets.
    fn visible_parts<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let (mut parts, mut from) = (Vec::new(), 0);
        for (at, _) in text.char_indices() {
            if at < from {
                continue;
            }
            // A longer secret may contain a shorter secret.
            let ends = self.secrets.iter();
            let ends = ends.filter_map(|secret| spelling::end(text, at, secret));
            if let Some(end) = ends.max() {
                parts.push(&text[from..at]);
                from = end;
            }
        }
        parts.push(&text[from..]);
        parts
    }
}
