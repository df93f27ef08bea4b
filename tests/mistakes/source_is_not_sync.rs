//! A source that contains a value that threads can't share.
//!
//! ```text
//! error[E0277]: `Cell<i32>` cannot be shared between threads safely
//! ```

use std::cell::Cell;

use tower_auth::{AuthLayer, Token};

pub(crate) fn mistake() -> AuthLayer {
    let fetches = Cell::new(0);
    AuthLayer::new(move |_| {
        fetches.set(fetches.get() + 1);
        async { Token::bearer("secret") }
    })
}
