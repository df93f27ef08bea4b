//! Removes secrets from a server's text before the text is shown. Servers may echo what a client
//! sent.

use http::{HeaderMap, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::form::parse;
use super::secret_json;
use crate::sanitize::{ServerText, sanitize};

/// The minimum length of a hidden secret in bytes. Hiding shorter strings would make the server's
/// text hard to read.
const SHORTEST: usize = 4;

/// The text in place of a secret.
const HIDDEN: &str = "[redacted]";

/// The secrets to hide, in every encoding that a server may send back. The secrets are sanitized in
/// the same way as the server's texts, so that they match the sanitized texts.
#[derive(Default)]
pub(crate) struct Redactor {
    secrets: Vec<Zeroizing<String>>,
}

impl Redactor {
    pub(crate) fn hide(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        for encoded in [form(secret), percent(secret)] {
            self.add(lower_escapes(&encoded));
            self.add(encoded);
        }
        self.add_sanitized(secret);
        self.add_sanitized(&html(secret));
        let json = secret_json::encode(&secret).unwrap_or_default();
        let json = str::from_utf8(&json).unwrap_or_default();
        let unquoted = json.get(1..json.len().saturating_sub(1));
        if let Some(unquoted) = unquoted {
            self.add_sanitized(unquoted);
            // Some servers also escape the slash, as RFC 8259 §7 allows.
            self.add_sanitized(&replace(unquoted, "/", "\\/"));
        }
        self.sort();
    }

    fn add_sanitized(&mut self, spelling: &str) {
        self.add(Zeroizing::new(sanitize(spelling)));
    }

    fn add(&mut self, spelling: Zeroizing<String>) {
        if !self.secrets.contains(&spelling) {
            self.secrets.push(spelling);
        }
    }

    /// Longer secrets are replaced first, because a longer secret may contain a shorter one.
    fn sort(&mut self) {
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
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
        for spelling in &other.secrets {
            self.add(spelling.clone());
        }
        self.sort();
    }

    pub(crate) fn redact(&self, text: &str) -> ServerText {
        ServerText::new(&Zeroizing::new(self.redact_whole(text)))
    }

    /// Does the same as [`redact`](Self::redact), but doesn't shorten the text.
    pub(crate) fn redact_whole(&self, text: &str) -> String {
        let mut text = Zeroizing::new(sanitize(text));
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = replace(&text, secret, HIDDEN);
            }
        }
        std::mem::take(&mut text)
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
        let text = Zeroizing::new(sanitize(text));
        let mut secrets = self.secrets.iter();
        secrets.any(|secret| text.contains(secret.as_str()))
    }
}

// No buffer of the following functions grows, because a buffer that grows frees memory without
// zeroizing it.

/// Replaces a part of the text wherever it occurs.
fn replace(text: &str, part: &str, by: &str) -> Zeroizing<String> {
    let times = text.matches(part).count();
    let mut replaced = Zeroizing::new(String::with_capacity(text.len() + times * by.len()));
    for (at, rest) in text.split(part).enumerate() {
        if at > 0 {
            replaced.push_str(by);
        }
        replaced.push_str(rest);
    }
    replaced
}

/// Encodes text as a value of a form.
fn form(text: &str) -> Zeroizing<String> {
    let mut form = Zeroizing::new(String::with_capacity(3 * text.len()));
    form.extend(form_urlencoded::byte_serialize(text.as_bytes()));
    form
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.1 and §2.3).
fn percent(text: &str) -> Zeroizing<String> {
    const RESERVED: AsciiSet = NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    let mut percent = Zeroizing::new(String::with_capacity(3 * text.len()));
    percent.extend(utf8_percent_encode(text, &RESERVED));
    percent
}

/// Converts escapes to lower case (`%2F` to `%2f`), because some servers use lower case.
fn lower_escapes(escaped: &str) -> Zeroizing<String> {
    let mut digits = 0;
    let lower = escaped.chars().map(|c| {
        digits = if c == '%' {
            2
        } else {
            i32::max(digits - 1, -1)
        };
        let is_digit = digits >= 0;
        if is_digit { c.to_ascii_lowercase() } else { c }
    });
    let mut text = Zeroizing::new(String::with_capacity(escaped.len()));
    text.extend(lower);
    text
}

/// Escapes text as in an HTML error page.
fn html(text: &str) -> Zeroizing<String> {
    let mut html = Zeroizing::new(String::with_capacity(6 * text.len()));
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}
