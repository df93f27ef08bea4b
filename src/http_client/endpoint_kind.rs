//! The kinds of endpoints of an authorization server.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointKind {
    Token,
    Revocation,
    #[cfg(feature = "authorization-code")]
    Authorization,
    DeviceAuthorization,
}

impl EndpointKind {
    /// Returns the name for error messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Token => "the token endpoint",
            Self::Revocation => "the revocation endpoint",
            #[cfg(feature = "authorization-code")]
            Self::Authorization => "the authorization endpoint",
            Self::DeviceAuthorization => "the device authorization endpoint",
        }
    }
}
