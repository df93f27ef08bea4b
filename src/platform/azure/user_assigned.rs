//! The user-assigned identity that the caller chose.

use crate::error::{Error, Kind};
use crate::http_client::body_value::BodyValue;

/// A user-assigned identity, by one of its three ids.
#[derive(Clone, Debug)]
pub(crate) enum UserAssigned {
    Client(String),
    Object(String),
    /// The id of the identity as an Azure resource: `/subscriptions/…`.
    Resource(String),
}

impl UserAssigned {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Client(id) | Self::Object(id) | Self::Resource(id) => id,
        }
    }

    /// Returns the name of the setter.
    pub(crate) fn setter(&self) -> &'static str {
        match self {
            Self::Client(_) => "client_id",
            Self::Object(_) => "object_id",
            Self::Resource(_) => "resource_id",
        }
    }

    /// Fails unless the response names this identity.
    ///
    /// An older agent of Azure Arc ignores the parameter, and issues a token of the machine's own
    /// identity. A newer agent repeats the id in its response.
    pub(crate) fn confirm(&self, body: &BodyValue) -> Result<(), Error> {
        let fields: &[&str] = match self {
            Self::Client(_) => &["/client_id"],
            Self::Object(_) => &["/object_id"],
            Self::Resource(_) => &["/msi_res_id", "/mi_res_id"],
        };
        let mut named = fields.iter().flat_map(|field| body.at(field));
        // The ids of Azure are case-insensitive.
        let is_same = |value: &BodyValue| {
            let text = value.text();
            text.is_some_and(|text| text.eq_ignore_ascii_case(self.id()))
        };
        if named.any(is_same) {
            return Ok(());
        }
        let message = format!(
            "the agent of Azure Arc did not confirm the identity of `{}`, so the token may belong \
             to the machine's own identity; update the agent, or choose no identity",
            self.setter()
        );
        Err(Error::new(Kind::Reply, message))
    }
}
