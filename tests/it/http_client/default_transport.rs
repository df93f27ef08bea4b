//! The default transport without the feature `reqwest`.

use tower_auth::oauth2::ClientCredentials;
use tower_auth::{Reason, TokenSource};

use crate::support::token_server::{ID, SECRET, URL};

#[tokio::test]
async fn without_reqwest_the_error_says_what_to_give() {
    let source = ClientCredentials::new(URL, ID, SECRET).unwrap();
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_config(), "{error}");
    let message = error.to_string();
    assert!(message.contains(".transport(") && message.contains("`reqwest`"));
}
