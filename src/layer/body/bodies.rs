//! Implements [`Replay`] for each type of body.

use std::mem;

use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{Either, Empty, Full};

use super::replay::Replay;
use super::tee::{MakeError, Recording, Replayed, Tee, tee};

/// Implements [`Replay`] for bodies whose clone copies no bytes. The limit doesn't apply to these
/// bodies.
macro_rules! by_clone {
    ($($body:ty),*) => {$(
        impl Replay for $body {
            type Copy = Self;

            fn record(&mut self, _limit: usize) -> Option<Self> {
                Some(self.clone())
            }

            fn replay(copy: Self) -> Option<Self> {
                Some(copy)
            }
        }
    )*};
}

by_clone!((), Bytes, &'static str, &'static [u8]);

/// Implements [`Replay`] for bodies whose clone copies all of their bytes.
macro_rules! by_copy {
    ($($body:ty),*) => {$(
        impl Replay for $body {
            type Copy = Self;

            fn record(&mut self, limit: usize) -> Option<Self> {
                (self.len() <= limit).then(|| self.clone())
            }

            fn replay(copy: Self) -> Option<Self> {
                Some(copy)
            }
        }
    )*};
}

by_copy!(String, Vec<u8>);

impl<D> Replay for Empty<D> {
    type Copy = ();

    fn record(&mut self, _limit: usize) -> Option<()> {
        Some(())
    }

    fn replay((): ()) -> Option<Self> {
        Some(Self::new())
    }
}

/// Records a body of any size, because the whole body is already in memory, usually as [`Bytes`].
impl<D: Buf + Clone> Replay for Full<D> {
    type Copy = Self;

    fn record(&mut self, _limit: usize) -> Option<Self> {
        Some(self.clone())
    }

    fn replay(copy: Self) -> Option<Self> {
        Some(copy)
    }
}

impl<L: Replay, R: Replay> Replay for Either<L, R> {
    type Copy = Either<L::Copy, R::Copy>;

    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        match self {
            Self::Left(body) => body.record(limit).map(Either::Left),
            Self::Right(body) => body.record(limit).map(Either::Right),
        }
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        match copy {
            Either::Left(copy) => L::replay(copy).map(Self::Left),
            Either::Right(copy) => R::replay(copy).map(Self::Right),
        }
    }
}

/// The recording of a body that is sent through a tee. An empty body has no recording, because it
/// needs no tee.
type StreamCopy<B> = Option<Recording<B>>;

fn record<B: Body + Default>(
    body: &mut B,
    limit: usize,
    boxed: fn(Tee<B>) -> B,
) -> Option<StreamCopy<B>> {
    if body.is_end_stream() {
        return Some(None);
    }
    let (tee, recording) = tee(mem::take(body), limit);
    *body = boxed(tee);
    Some(Some(recording))
}

fn replay<B: Body + Default>(
    copy: StreamCopy<B>,
    make_error: Option<MakeError<B::Error>>,
    boxed: fn(Replayed<B>) -> B,
) -> Option<B> {
    match copy {
        None => Some(B::default()),
        Some(recording) => recording.replay(make_error).map(boxed),
    }
}

/// Replays a body that fits in the limit, after the first try has dropped the body or read it
/// completely. A replay during the first try would have to fail the first body with an error of
/// type `E`.
impl<E: Send + 'static> Replay for BoxBody<Bytes, E> {
    type Copy = StreamCopy<Self>;

    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        record(self, limit, Self::new)
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        replay(copy, None, Self::new)
    }
}

/// Replays the body under the same conditions as a [`BoxBody`].
impl<E: Send + 'static> Replay for UnsyncBoxBody<Bytes, E> {
    type Copy = StreamCopy<Self>;

    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        record(self, limit, Self::new)
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        replay(copy, None, Self::new)
    }
}

#[cfg(feature = "axum")]
impl Replay for axum_core::body::Body {
    type Copy = StreamCopy<Self>;

    // The body is a box of axum's own type, because `Body::new` takes such a box unchanged. It
    // would wrap the errors of any other body in another axum error.
    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        record(self, limit, |tee| Self::new(UnsyncBoxBody::new(tee)))
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        replay(copy, Some(axum_core::Error::new), |body| {
            Self::new(UnsyncBoxBody::new(body))
        })
    }
}

#[cfg(feature = "tonic")]
impl Replay for tonic::body::Body {
    type Copy = StreamCopy<Self>;

    // The body is a box of tonic's own type, because `Body::new` takes such a box unchanged.
    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        record(self, limit, |tee| Self::new(UnsyncBoxBody::new(tee)))
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        let make_error: MakeError<tonic::Status> =
            |error| tonic::Status::cancelled(error.to_string());
        replay(copy, Some(make_error), |body| {
            Self::new(UnsyncBoxBody::new(body))
        })
    }
}

/// Never replays the body. An `Incoming` reads from a connection, and no tee can become an
/// `Incoming`. To make the body replayable, box it with
/// [`BodyExt::boxed`](http_body_util::BodyExt::boxed).
#[cfg(feature = "hyper")]
impl Replay for hyper::body::Incoming {
    type Copy = std::convert::Infallible;

    fn record(&mut self, _limit: usize) -> Option<Self::Copy> {
        None
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        match copy {}
    }
}
