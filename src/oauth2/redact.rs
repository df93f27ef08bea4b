//! Keeps secrets out of what is told of a server's answer: servers do echo what they were sent.

use zeroize::Zeroizing;

use crate::error::clean;

/// Shorter texts are no secret, and hiding them would riddle what the server said with holes.
const SHORTEST: usize = 4;

/// The secrets that must not show, in every spelling they may come back in, cleaned as the texts
/// are: what cleaning makes of a text may be a secret that wasn't in it before.
#[derive(Default)]
pub(crate) struct Redactor {
    secrets: Vec<Zeroizing<String>>,
}

impl Redactor {
    pub(crate) fn hide(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        self.secrets.push(Zeroizing::new(clean(secret)));
        self.secrets.push(Zeroizing::new(form));
        if let Ok(json) = serde_json::to_string(secret).map(Zeroizing::new) {
            let unquoted = &json[1..json.len() - 1];
            self.secrets.push(Zeroizing::new(clean(unquoted)));
        }
        // The longest first: one that holds another is hidden whole, not around the other.
        self.secrets
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    pub(crate) fn redact(&self, text: &str) -> String {
        let mut text = clean(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "[redacted]");
            }
        }
        text
    }
}
