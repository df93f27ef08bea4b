//! Which body is kept how.

use std::mem;

use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{Either, Empty, Full};

use super::replay::Replay;
use super::tee::{Fail, Replayed, Tape, Tee, tee};

/// Bodies whose clone copies no bytes, so the limit is no matter.
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

/// Bodies whose clone copies all of their bytes.
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

/// Kept whatever its size: it is in memory already, and most often as [`Bytes`].
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

/// The copy of a body that is teed. `None`: it was empty, which needs no tee.
type Taped<B> = Option<Tape<B>>;

fn record<B: Body + Default>(
    body: &mut B,
    limit: usize,
    boxed: fn(Tee<B>) -> B,
) -> Option<Taped<B>> {
    if body.is_end_stream() {
        return Some(None);
    }
    let (tee, tape) = tee(mem::take(body), limit);
    *body = boxed(tee);
    Some(Some(tape))
}

fn replay<B: Body + Default>(
    copy: Taped<B>,
    fail: Option<Fail<B::Error>>,
    boxed: fn(Replayed<B>) -> B,
) -> Option<B> {
    match copy {
        None => Some(B::default()),
        Some(tape) => tape.replay(fail).map(boxed),
    }
}

/// Replayed once it was read to its end or dropped, if it fits in the limit; not while it is still
/// being sent, for which an `E` would have to be made.
impl<E: Send + 'static> Replay for BoxBody<Bytes, E> {
    type Copy = Taped<Self>;

    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        record(self, limit, Self::new)
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        replay(copy, None, Self::new)
    }
}

/// Like [`BoxBody`].
impl<E: Send + 'static> Replay for UnsyncBoxBody<Bytes, E> {
    type Copy = Taped<Self>;

    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        record(self, limit, Self::new)
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        replay(copy, None, Self::new)
    }
}

#[cfg(feature = "axum")]
impl Replay for axum_core::body::Body {
    type Copy = Taped<Self>;

    // Boxed here as axum boxes: `Body::new` takes such a box as it is, and would put the errors
    // of anything else, which are axum's already, into another of its errors.
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
    type Copy = Taped<Self>;

    // Boxed here as tonic boxes, for the reason that axum's body is.
    fn record(&mut self, limit: usize) -> Option<Self::Copy> {
        record(self, limit, |tee| Self::new(UnsyncBoxBody::new(tee)))
    }

    fn replay(copy: Self::Copy) -> Option<Self> {
        let fail: Fail<tonic::Status> = |gone| tonic::Status::cancelled(gone.to_string());
        replay(copy, Some(fail), |body| Self::new(UnsyncBoxBody::new(body)))
    }
}

/// Never replayed: it comes from a connection and can't be made again, nor can a tee be put into
/// it. Box it ([`BodyExt::boxed`](http_body_util::BodyExt::boxed)) to have it replayed.
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
