//! What the fake servers share: they record a request, and respond to it in memory or on loopback.

#[cfg(feature = "loopback")]
mod flushes;

mod body;
mod delegate;
#[cfg(feature = "loopback")]
mod loopback;
mod request;
mod response;
mod scripted;

pub use body::ScriptedBody;
pub(crate) use delegate::delegate_to_server;
#[cfg(feature = "loopback")]
pub use loopback::Loopback;
pub use request::RecordedRequest;
pub use response::ScriptedResponse;
pub use scripted::{ScriptedServer, ServerFuture};
