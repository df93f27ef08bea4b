//! The trait for bodies that can be sent twice.

/// Records a body so that it can be sent again.
///
/// The layer calls [`record`](Replay::record) on the body of each request that it may have to
/// replay. It sends the body and keeps the [`Copy`](Replay::Copy). If the server refuses the token,
/// [`replay`](Replay::replay) rebuilds the body for the second try. Otherwise the layer drops the
/// copy.
///
/// | body | recorded part |
/// | --- | --- |
/// | `()`, `Empty`, `Full`, `Bytes`, `&'static str`, `&'static [u8]` | whole, at any size: a clone of [`Bytes`](bytes::Bytes) or static data copies nothing |
/// | `String`, `Vec<u8>` | whole, if it fits in the limit |
/// | `reqwest::Body` in memory | whole, at any size; both tries stay in memory |
/// | `axum::body::Body`, `tonic::body::Body`, `reqwest::Body`, `BoxBody`, `UnsyncBoxBody` | what the first try read, if that fits in the limit |
/// | `hyper::body::Incoming` | never; box it with [`BodyExt::boxed`](http_body_util::BodyExt::boxed) to have it recorded |
///
/// # How a stream is recorded
///
/// The layer doesn't read ahead. It records each frame, including trailers, when the first try
/// reads it. Once the first try has read more than the [limit](crate::AuthLayer::body_limit), the
/// recording is dropped and the body can't be replayed.
///
/// The second try sends the recorded frames, then the rest of the same stream. So even a body far
/// larger than the limit is replayed if the server refuses the request early. Bytes, trailers and
/// [`size_hint`](http_body::Body::size_hint) are the same in both tries; frame boundaries may
/// differ.
///
/// A recorded frame is a clone of [`Bytes`](bytes::Bytes), not a copy, so it keeps its whole buffer
/// alive. Only frames below 256 bytes are copied, to use less memory.
///
/// The server can refuse a request before it has read the whole body, so the first try may still be
/// running when the second starts. The stream then belongs to the second try. The first body fails
/// with an error, so that it doesn't look complete.
///
/// A `BoxBody<Bytes, E>` can't create such an error of type `E`. So it is replayed only after the
/// first try has read it to its end or dropped it.
///
/// A stream that failed or panicked during the first try can't be replayed.
///
/// # Example
///
/// A body that is cloned:
///
/// ```
/// use tower_auth::layer::Replay;
///
/// #[derive(Clone)]
/// struct MyBody {
///     message: bytes::Bytes,
/// }
///
/// impl Replay for MyBody {
///     type Copy = Self;
///
///     fn record(&mut self, _limit: usize) -> Option<Self> {
///         Some(self.clone())
///     }
///
///     fn replay(copy: Self) -> Option<Self> {
///         Some(copy)
///     }
/// }
///
/// let mut first = MyBody { message: "hello".into() };
/// let copy = first.record(64 * 1024);
/// let second = copy.and_then(MyBody::replay).map(|body| body.message);
/// assert_eq!(second, Some(first.message));
/// ```
pub trait Replay: Sized {
    /// What is recorded of a body while the first try is sent.
    type Copy;

    /// Records this body, which is sent next, so that it can be sent again.
    ///
    /// `limit` is the maximum number of bytes to record; the layer's default is 64 KiB. Returns
    /// `None` if the body can't be sent twice. The layer then sends it once, as it is.
    ///
    /// The layer calls this once for each request that it may replay, so a body that is cheap to
    /// clone should not allocate here.
    fn record(&mut self, limit: usize) -> Option<Self::Copy>;

    /// Rebuilds the body from its start.
    ///
    /// Returns `None` if the recording is incomplete, because a second try must not send an empty
    /// or partial body.
    fn replay(copy: Self::Copy) -> Option<Self>;
}
