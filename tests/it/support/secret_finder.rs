//! Finds secrets in printed and logged text. Every secret that a test plants contains [`PLANTED`].

use std::cell::RefCell;
use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::HeaderValue;
use tower_auth::Error;
use tracing::subscriber::DefaultGuard;

use crate::support::log::{Log, all_text_of, listen};

/// The word that is in every secret.
pub(crate) const PLANTED: &str = "planted";

/// Returns whether the text contains the word: in clear, as a list of bytes, or in base64.
pub(crate) fn shows_a_secret(text: &str) -> bool {
    /// The list of bytes, and the word at each of the three offsets within base64 groups.
    /// Characters that also encode neighbouring bytes are left out.
    static SPELLED: LazyLock<[String; 4]> = LazyLock::new(|| {
        let bytes: Vec<String> = PLANTED.bytes().map(|byte| byte.to_string()).collect();
        let in_base64 = |before: &str| {
            let encoded = STANDARD.encode(format!("{before}{PLANTED}"));
            let start = [0, 2, 3][before.len()];
            let end = (before.len() + PLANTED.len()) * 8 / 6;
            encoded[start..end].to_owned()
        };
        [
            bytes.join(","),
            in_base64(""),
            in_base64("-"),
            in_base64("--"),
        ]
    });
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    text.to_lowercase().contains(PLANTED) || SPELLED.iter().any(|it| text.contains(it))
}

#[test]
fn the_search_finds_a_secret_however_it_is_spelled() {
    let secret = "a-planted-secret";
    assert!(shows_a_secret(secret));
    assert!(shows_a_secret(&format!("{secret:#?}")));
    assert!(shows_a_secret(&format!("{:#?}", secret.as_bytes())));
    assert!(shows_a_secret(&format!("{:?}", Bytes::from(secret))));
    let value = HeaderValue::from_static(secret);
    assert!(shows_a_secret(&format!("{value:?}")));
    for before in ["", "i", "id", "id:", "an id:"] {
        assert!(shows_a_secret(
            &STANDARD.encode(format!("{before}{secret}"))
        ));
    }
    assert!(!shows_a_secret(
        "Error { kind: Panic, message: \"nothing\" }"
    ));
}

/// Checks each printed text at once, and the log at the end of a round or test.
pub(crate) struct SecretFinder {
    log: Log,
    /// Random secrets, which can't contain the word.
    drawn: RefCell<Vec<String>>,
    _listening: DefaultGuard,
}

impl SecretFinder {
    pub(crate) fn start() -> Self {
        let (log, _listening) = listen();
        Self {
            log,
            drawn: RefCell::default(),
            _listening,
        }
    }

    /// Treats this text as a secret from now on.
    #[cfg(feature = "authorization-code")]
    pub(crate) fn look_for(&self, secret: &str) {
        self.drawn.borrow_mut().push(secret.to_owned());
    }

    #[track_caller]
    pub(crate) fn print(&self, what: &impl fmt::Debug) {
        for text in [format!("{what:?}"), format!("{what:#?}")] {
            self.text(&text);
        }
    }

    #[track_caller]
    pub(crate) fn print_error(&self, error: &Error) {
        self.text(&all_text_of(error));
        self.print(&(error.code(), error.description()));
    }

    #[track_caller]
    pub(crate) fn text(&self, text: &str) {
        let shows = shows_a_secret(text) || self.drawn.borrow().iter().any(|it| text.contains(it));
        assert!(!shows, "a secret shows: {text}");
    }

    /// Checks the log and forgets the random secrets. The next round draws new ones.
    #[track_caller]
    pub(crate) fn end_round(&self) {
        for line in self.log.all() {
            self.text(&line.to_string());
        }
        self.drawn.borrow_mut().clear();
    }

    /// Checks the log and returns it.
    #[track_caller]
    pub(crate) fn end(self) -> String {
        let lines = self.log.all().into_iter();
        let log: String = lines.map(|line| format!("{line}\n")).collect();
        self.text(&log);
        log
    }
}
