//! The bound that the layer puts on a client.

/// A client that the layer can wrap. Every type that is [`Clone`] implements this trait.
///
/// The layer sends a refused request again with a clone of the client. This bound reports a missing
/// `Clone` where the layer wraps the client, not where the first request is sent.
#[diagnostic::on_unimplemented(
    message = "the layer needs a client that is `Clone`, and `{Self}` is not",
    label = "this client is not `Clone`",
    note = "the layer sends a refused request again with a clone of the client",
    note = "derive `Clone` for the client, or wrap it: tower's `Buffer` makes any service `Clone`"
)]
pub trait CloneService: Clone {}

impl<S> CloneService for S where S: Clone {}
