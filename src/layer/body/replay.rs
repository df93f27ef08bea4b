//! The trait for bodies that can be sent twice.

/// Records a body so that the body can be sent again.
///
/// The layer calls [`record`](Replay::record) on the body of each request that it may have to
/// replay. The layer sends the body and keeps the [`Copy`](Replay::Copy). If the server refuses the
/// token, [`replay`](Replay::replay) rebuilds the body for the second try. Otherwise the layer
/// drops the copy.
///
/// | body | recorded part |
/// | --- | --- |
/// | `()`, `Empty`, `Full`, `Bytes`, `&'static str`, `&'static [u8]` | whole, at any size: a clone of [`Bytes`](bytes::Bytes) or static data copies nothing |
/// | `String`, `Vec<u8>` | whole, if the body fits in the limit |
/// | `reqwest::Body` in memory | whole, at any size; both tries send a body in memory |
/// | `axum::body::Body`, `tonic::body::Body`, `reqwest::Body`, `BoxBody`, `UnsyncBoxBody` | the part that the first try read, if that part fits in the limit |
/// | `hyper::body::Incoming` | never; to have the body recorded, box it with [`BodyExt::boxed`](http_body_util::BodyExt::boxed) |
///
/// # How a stream is recorded
///
/// The layer doesn't read ahead. When the first try reads a frame, the layer records that frame,
/// including trailers. When the first try has read more than the
/// [limit](crate::AuthLayer::body_limit), the layer drops the recording and can't replay the body.
///
/// The second try sends the recorded frames, then the rest of the same stream. Even a body far
/// larger than the limit can therefore be replayed, if the server refuses the request early. Both
/// tries have the same bytes, trailers and [`size_hint`](http_body::Body::size_hint); frame
/// boundaries may differ.
///
/// A recorded frame is a clone of [`Bytes`](bytes::Bytes) and keeps its whole buffer alive. To save
/// memory, frames below 256 bytes are copied instead.
///
/// The server may refuse a request before it has read the whole body. The first try may therefore
/// still run when the second try starts. From then on, the stream belongs to the second try. The
/// first body fails with an error, so that the body doesn't look complete.
///
/// For a `BoxBody<Bytes, E>`, the layer can't create such an error of type `E`. Such a body is
/// therefore replayed only after the first try has dropped it or read it completely.
///
/// A stream that failed or panicked during the first try can't be replayed.
///
/// # Example
///
/// This is a body type of your own, which is recorded by cloning:
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
#[diagnostic::on_unimplemented(
    message = "the layer can't send the body `{Self}` again: the body doesn't implement `Replay`",
    label = "this body doesn't implement `Replay`",
    note = "the bodies of reqwest 0.13, hyper 1, axum 0.8 and tonic 0.14 implement it with tower-auth's feature `reqwest`, `hyper`, `axum` or `tonic`",
    note = "box any other body with `http_body_util::BodyExt::boxed`, or implement `tower_auth::layer::Replay` for it"
)]
#[doc(alias = "retry")]
pub trait Replay: Sized {
    /// The recording of a body while the first try is sent.
    type Copy;

    /// Records this body before it is sent, so that the layer can send it again.
    ///
    /// `limit` is the maximum number of bytes to record; the layer's default is 64 KiB. Returns
    /// `None` if the body can't be sent twice. The layer then sends the unchanged body once.
    ///
    /// The layer calls this method once for each request that it may replay. If a body is cheap to
    /// clone, the method should not allocate.
    fn record(&mut self, limit: usize) -> Option<Self::Copy>;

    /// Rebuilds the body from its start.
    ///
    /// Returns `None` if the recording is incomplete: a second try must not send an empty or
    /// partial body.
    fn replay(copy: Self::Copy) -> Option<Self>;
}
