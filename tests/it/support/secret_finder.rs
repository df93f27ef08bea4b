//! Looks for secrets in what is printed and logged. Each that a test plants has [`PLANTED`] in it.

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

/// Whether the word shows, as it is, in a list of its bytes, or in base64.
pub(crate) fn shows_a_secret(text: &str) -> bool {
    /// The list, and the word at each of the three places that it can have within the groups of
    /// base64; what its neighbours have a part in is left out.
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

/// Looks at what is printed while it lives, and at its end at what was logged.
pub(crate) struct SecretFinder {
    log: Log,
    /// Secrets that nobody could plant the word in: they were drawn at random.
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

    /// From now on this is a secret too.
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

    /// Between two rounds of a test: what was drawn in the last isn't met again.
    #[track_caller]
    pub(crate) fn end_round(&self) {
        for line in self.log.all() {
            self.text(&line.to_string());
        }
        self.drawn.borrow_mut().clear();
    }

    /// What was logged.
    #[track_caller]
    pub(crate) fn end(self) -> String {
        let lines = self.log.all().into_iter();
        let log: String = lines.map(|line| format!("{line}\n")).collect();
        self.text(&log);
        log
    }
}
