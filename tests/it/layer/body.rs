//! A body is sent again whole, or not at all.
// The enabled features decide which bodies are tested, so some helpers may be unused.
#![cfg_attr(not(feature = "full"), allow(dead_code))]

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use tokio_test::task;
use tower_auth::layer::Replay;

mod limits;
mod overtaken;
mod whole;

/// A scripted body that panics if it is polled incorrectly.
#[derive(Clone, Debug)]
struct Script {
    steps: VecDeque<Step>,
    /// Whether the length is known from the start.
    is_sized: bool,
    /// Whether `is_end_stream` is true as soon as no step remains.
    is_eager: bool,
    is_over: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Pending,
    /// Returns pending and never wakes the task.
    Silence,
    Error,
    Panic,
    /// Blocks inside the poll until the test has passed the barrier twice. The test acts between
    /// the first and the second pass.
    Meet(Arc<Barrier>),
}

fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    Script {
        steps: steps.into_iter().collect(),
        is_sized: false,
        is_eager: false,
        is_over: false,
    }
}

fn data(data: &'static str) -> Step {
    Step::Data(Bytes::from_static(data.as_bytes()))
}

fn trailers() -> Step {
    let checksum = (HeaderName::from_static("sum"), HeaderValue::from(7));
    Step::Trailers(HeaderMap::from_iter([checksum]))
}

impl Body for Script {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        assert!(!self.is_over, "polled after its end");
        let step = self.steps.pop_front();
        self.is_over = self.is_end_stream();
        Poll::Ready(match step {
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Step::Silence) => return Poll::Pending,
            Some(Step::Error) => {
                self.is_over = true;
                Some(Err(io::Error::other("scripted")))
            }
            Some(Step::Panic) => panic!("scripted"),
            Some(Step::Meet(barrier)) => {
                barrier.wait();
                barrier.wait();
                return self.poll_frame(cx);
            }
            None => {
                self.is_over = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_eager && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.is_sized {
            return SizeHint::new();
        }
        let sizes = self.steps.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        SizeHint::with_exact(sizes.sum())
    }
}

/// A body type that is recorded while it is sent.
trait Teed: Replay + Body<Data = Bytes, Error: Debug> + Unpin + Sized {
    /// Whether the start of the second try stops a first try that is still being sent.
    const GIVES_WAY: bool;

    fn of(body: Script) -> Self;
}

impl Teed for BoxBody<Bytes, io::Error> {
    const GIVES_WAY: bool = false;

    fn of(body: Script) -> Self {
        Self::new(body)
    }
}

impl Teed for UnsyncBoxBody<Bytes, io::Error> {
    const GIVES_WAY: bool = false;

    fn of(body: Script) -> Self {
        Self::new(body)
    }
}

#[cfg(feature = "axum")]
impl Teed for axum::body::Body {
    const GIVES_WAY: bool = true;

    fn of(body: Script) -> Self {
        Self::new(body)
    }
}

#[cfg(feature = "tonic")]
impl Teed for tonic::body::Body {
    const GIVES_WAY: bool = true;

    fn of(body: Script) -> Self {
        Self::new(body)
    }
}

#[cfg(feature = "reqwest")]
impl Teed for reqwest::Body {
    const GIVES_WAY: bool = true;

    fn of(body: Script) -> Self {
        Self::wrap(body)
    }
}

/// Everything that a body produced.
#[derive(Debug, Default, PartialEq)]
struct Told {
    bytes: Vec<u8>,
    trailers: HeaderMap,
    failed: bool,
}

impl Told {
    /// Returns everything that a script produces.
    fn by(script: &Script) -> Self {
        let mut told = Self::default();
        for step in &script.steps {
            match step {
                Step::Data(data) => told.bytes.extend_from_slice(data),
                Step::Trailers(trailers) => told.trailers.extend(trailers.clone()),
                Step::Error => told.failed = true,
                Step::Pending | Step::Silence | Step::Panic | Step::Meet(_) => {}
            }
        }
        told
    }

    /// Returns how many bytes a copy of this output takes.
    fn size(&self) -> usize {
        let trailers = self.trailers.iter();
        let trailers = trailers.map(|(name, value)| name.as_str().len() + value.len());
        self.bytes.len() + trailers.sum::<usize>()
    }

    /// Polls the body at most `polls` times. Returns whether the body is known to have ended.
    fn read<B>(&mut self, body: &mut B, polls: usize) -> bool
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut body = task::spawn(body);
        for _ in 0..polls {
            let hint = body.size_hint();
            let was_at_end = body.is_end_stream();
            let polled = body.enter(|cx, body| Pin::new(&mut **body.get_mut()).poll_frame(cx));
            let Poll::Ready(frame) = polled else {
                assert!(body.is_woken(), "nobody wakes it");
                continue;
            };
            assert!(!was_at_end || frame.is_none(), "not at its end");
            match frame {
                None => return true,
                Some(Err(_)) => {
                    self.failed = true;
                    return true;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        self.bytes.extend_from_slice(&data);
                        let left = hint.exact().map(|bytes| bytes - data.len() as u64);
                        assert_eq!(body.size_hint().exact(), left);
                    }
                    Err(frame) => self.trailers.extend(frame.into_trailers().unwrap()),
                },
            }
        }
        body.is_end_stream()
    }

    fn read_all<B>(body: &mut B) -> Self
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut told = Self::default();
        assert!(told.read(body, usize::MAX));
        told
    }
}

/// A boxed body. The crate can't create errors of this type, so it can't stop a running first try.
type Boxed = BoxBody<Bytes, io::Error>;

fn recorded<B: Teed>(script: Script, limit: usize) -> (B, B::Copy) {
    let mut first = B::of(script);
    let copy = first.record(limit).unwrap();
    (first, copy)
}
