//! Whether a body can be sent twice.

/// A body that can be sent again, or says that it can't.
///
/// The layer calls [`record`](Replay::record) on the body of each request that it may have to
/// replay, sends the body, and keeps the [`Copy`](Replay::Copy). If the server
/// refuses the token, [`replay`](Replay::replay) makes the body of the second try; if it
/// doesn't, the copy is dropped, and no more is kept.
///
/// | body | is kept |
/// | --- | --- |
/// | `()`, `Empty`, `Full`, `Bytes`, `&'static str`, `&'static [u8]` | whole, whatever its size: a clone copies no bytes when the data is [`Bytes`](bytes::Bytes) or static |
/// | `String`, `Vec<u8>` | whole, if its bytes fit in the limit |
/// | `reqwest::Body` in memory | whole, whatever its size, and both tries stay in memory |
/// | `axum::body::Body`, `tonic::body::Body`, `reqwest::Body`, `BoxBody`, `UnsyncBoxBody` | as far as the first try read it, if that fits in the limit |
/// | `hyper::body::Incoming` | never; box it ([`BodyExt::boxed`](http_body_util::BodyExt::boxed)) to have it kept |
///
/// # What is kept of a stream
///
/// Nothing is read ahead: a frame is kept when the first try takes it, trailers included. Once
/// more than the limit was taken (64 KiB, unless the layer is told otherwise) all of it is let go
/// and the body can't be replayed. The second try sends what was kept and then goes on with the
/// same stream, so a body far over the limit is replayed if it was refused early. Its bytes,
/// trailers and [`size_hint`](http_body::Body::size_hint) are those of the first; where one frame
/// ends and the next begins may differ.
///
/// A kept frame is a clone, not a copy, of [`Bytes`](bytes::Bytes): it holds on to the buffer that
/// it is a slice of. Only frames of a few bytes are copied, so that a great many of them stay
/// small.
///
/// The first try may still be in the air when the second starts: a server can refuse a request
/// before it has read it. The stream then belongs to the second try, and the first one fails with
/// an error rather than look complete. No such error can be made for the `E` of a
/// `BoxBody<Bytes, E>`, so that one can't be replayed before it was read to its end or dropped.
///
/// A stream that failed or panicked during the first try can't be replayed.
///
/// # A body of your own
///
/// By clone:
///
/// ```
/// use tower_auth::Replay;
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
    /// What is kept of a body while its first copy is being sent.
    type Copy;

    /// Makes this body, which is sent now, one that can be sent again, and returns what that takes.
    ///
    /// `limit` is the most bytes to hold; the layer's default is 64 KiB. `None`: this body can't
    /// be sent twice, and is sent once as it is.
    ///
    /// Called once for each request that may be replayed, so a body that is cheap to clone should
    /// not allocate here.
    fn record(&mut self, limit: usize) -> Option<Self::Copy>;

    /// The body again, from its start.
    ///
    /// `None` if what was kept doesn't suffice: better no second try than one with an empty body
    /// or a part of it.
    fn replay(copy: Self::Copy) -> Option<Self>;
}
