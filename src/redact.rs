//! Removes secrets from a server's text before the text is shown. Servers may echo what a client
//! sent.

use http::{HeaderMap, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::sanitize::{ServerText, sanitize};

/// The minimum length of a hidden secret in bytes. Hiding shorter strings would make the server's
/// text hard to read.
const SHORTEST: usize = 4;

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
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        self.add(sanitize(secret));
        self.add(lower_escapes(&encoded));
        self.add(encoded);
        let percent = percent(secret);
        self.add(lower_escapes(&percent));
        self.add(percent);
        self.add(sanitize(&html(secret)));
        if let Ok(json) = serde_json::to_string(secret).map(Zeroizing::new) {
            let unquoted = &json[1..json.len() - 1];
            self.add(sanitize(unquoted));
            // Some servers also escape the slash, as RFC 8259 §7 allows.
            self.add(sanitize(&unquoted.replace('/', "\\/")));
        }
        // Longer secrets are replaced first, because a longer secret may contain a shorter one.
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    fn add(&mut self, spelling: String) {
        let spelling = Zeroizing::new(spelling);
        if !self.secrets.contains(&spelling) {
            self.secrets.push(spelling);
        }
    }

    /// Hides the values in the query of an address, because such a value may be a key.
    pub(crate) fn of_address(address: &Uri) -> Self {
        let mut redactor = Self::default();
        let query = address.query().unwrap_or_default();
        for (_, value) in form_urlencoded::parse(query.as_bytes()) {
            redactor.hide(&value);
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
            self.add(spelling.to_string());
        }
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    pub(crate) fn redact(&self, text: &str) -> ServerText {
        ServerText::new(&self.redact_whole(text))
    }

    /// Does the same as [`redact`](Self::redact), but doesn't shorten the text.
    pub(crate) fn redact_whole(&self, text: &str) -> String {
        let mut text = sanitize(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "[redacted]");
            }
        }
        text
    }
    /// Returns whether the text contains a secret.
    pub(crate) fn finds_in(&self, text: &str) -> bool {
        let text = sanitize(text);
        let mut secrets = self.secrets.iter();
        secrets.any(|secret| text.contains(secret.as_str()))
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.1 and §2.3).
fn percent(text: &str) -> String {
    const RESERVED: AsciiSet = NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, &RESERVED).to_string()
}

/// Converts escapes to lower case (`%2F` to `%2f`), because some servers use lower case.
fn lower_escapes(escaped: &str) -> String {
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
    // The result is as long as the input, so the buffer never grows.
    let mut text = String::with_capacity(escaped.len());
    text.extend(lower);
    text
}

/// Escapes text as in an HTML error page.
fn html(text: &str) -> String {
    let mut html = String::with_capacity(6 * text.len());
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
