//! A source whose future holds a value across an `.await`, although the value can't leave its
//! thread. The compiler names the value and the place.
//!
//! ```text
//! error: future cannot be sent between threads safely
//! await occurs here, with `secret` maybe used later
//! ```

use std::rc::Rc;

use tower_auth::{AuthLayer, Token};

pub(crate) fn mistake() -> AuthLayer {
    AuthLayer::new(|_| async {
        let secret = Rc::new("secret");
        tokio::task::yield_now().await;
        Token::bearer(*secret)
    })
}
