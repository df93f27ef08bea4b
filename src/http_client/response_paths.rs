//! Where an answer has its members, as JSON pointers (RFC 6901).

/// By default where RFC 6749 §5.1 and §5.2 have them.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) access_token: String,
    pub(crate) token_type: String,
    pub(crate) expires_in: String,
    pub(crate) refresh_token: String,
    pub(crate) error: String,
    pub(crate) error_description: String,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            access_token: String::from("/access_token"),
            token_type: String::from("/token_type"),
            expires_in: String::from("/expires_in"),
            refresh_token: String::from("/refresh_token"),
            error: String::from("/error"),
            error_description: String::from("/error_description"),
        }
    }
}
