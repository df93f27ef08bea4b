//! A body is sent again whole, or not at all.
// Which bodies there are to test depends on the features.
#![cfg_attr(not(feature = "full"), allow(dead_code))]

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, Either, Empty, Full};
use proptest::prelude::*;
use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::Replay;

/// A body to a script, strict about how it is polled.
#[derive(Clone, Debug)]
struct Script {
    steps: VecDeque<Step>,
    /// Whether its length is known from the start.
    is_sized: bool,
    /// Whether it says that it is at its end as soon as it is.
    is_eager: bool,
    is_over: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    Pending,
    /// Pending, and nobody is woken.
    Silence,
    Error,
    Panic,
    /// Waits in the poll: until the test has come here, and until it lets go.
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

/// What it costs to keep [`trailers`].
const TRAILERS: usize = "sum7".len();

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

/// The body types that are teed.
trait Teed: Replay + Body<Data = Bytes, Error: Debug> + Unpin + Sized {
    /// Whether a first try that is still being sent gives way to the second.
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

/// All that a body has to say.
#[derive(Debug, Default, PartialEq)]
struct Told {
    bytes: Vec<u8>,
    trailers: HeaderMap,
    failed: bool,
}

impl Told {
    /// Of a script that wasn't polled yet.
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

    /// What it cost to keep it.
    fn size(&self) -> usize {
        let trailers = self.trailers.iter();
        let trailers = trailers.map(|(name, value)| name.as_str().len() + value.len());
        self.bytes.len() + trailers.sum::<usize>()
    }

    /// Polls at most `polls` times, and says whether the body is known to be at its end.
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

/// Polls the first try `polls` times, drops it or not, and replays. The second try must tell what
/// the script does, or be refused for a reason.
fn check<B: Teed>(script: &Script, polls: usize, is_dropped: bool, limit: usize) {
    let original = Told::by(script);
    let mut first = B::of(script.clone());
    let hint = first.size_hint();
    let was_empty = first.is_end_stream();
    let copy = first.record(limit).expect("a stream is worth a try");
    assert_eq!(first.size_hint().exact(), hint.exact());
    assert_eq!(first.is_end_stream(), was_empty);

    let mut told = Told::default();
    let at_end = told.read(&mut first, polls);
    let mut first = if is_dropped {
        drop(first);
        None
    } else {
        Some(first)
    };

    let fits = told.size() <= limit && !told.failed;
    let is_free = at_end || is_dropped || B::GIVES_WAY;
    let second = B::replay(copy);
    assert_eq!(second.is_some(), fits && is_free, "{told:?}");

    let was_overtaken = second.is_some() && !at_end;
    if let Some(mut second) = second {
        // One that is known to have nothing may say so.
        if !second.is_end_stream() {
            assert_eq!(second.size_hint().lower(), hint.lower());
            assert_eq!(second.size_hint().upper(), hint.upper());
        }
        assert_eq!(Told::read_all(&mut second), original);
    }
    if let Some(first) = &mut first {
        if was_overtaken {
            for _ in 0..3 {
                assert!(!first.is_end_stream());
                assert!(first.frame().now_or_never().unwrap().unwrap().is_err());
            }
        } else if !at_end {
            // It goes on as if nobody had asked.
            assert!(told.read(first, usize::MAX));
            assert_eq!(told, original);
        }
    }
}

prop_compose! {
    fn any_script()(
        steps in prop::collection::vec(
            prop_oneof![
                6 => prop::collection::vec(any::<u8>(), 0..8).prop_map(|data| Step::Data(data.into())),
                2 => prop::collection::vec(any::<u8>(), 200..400).prop_map(|data| Step::Data(data.into())),
                2 => Just(Step::Pending),
            ],
            0..10,
        ),
        end in prop::option::of(prop_oneof![Just(trailers()), Just(Step::Error)]),
        is_sized: bool,
        is_eager: bool,
    ) -> Script {
        let has_end = end.is_some();
        let mut script = script(steps.into_iter().chain(end));
        // A script that says it is at its end must have no pause left to make.
        while !has_end && let Some(Step::Pending) = script.steps.back() {
            script.steps.pop_back();
        }
        Script { is_sized, is_eager, ..script }
    }
}

macro_rules! each_body {
    ($($(#[$cfg:meta])* $name:ident: $body:ty,)*) => {
        proptest! {
            $($(#[$cfg])*
            #[test]
            fn $name(
                script in any_script(),
                polls in 0_usize..14,
                is_dropped: bool,
                limit in prop_oneof![0_usize..60, 200_usize..2000, Just(64 * 1024)],
            ) {
                check::<$body>(&script, polls, is_dropped, limit);
            })*
        }
    };
}

each_body! {
    a_box_body_is_replayed_whole_or_not_at_all: BoxBody<Bytes, io::Error>,
    an_unsync_box_body_is_replayed_whole_or_not_at_all: UnsyncBoxBody<Bytes, io::Error>,
    #[cfg(feature = "axum")]
    an_axum_body_is_replayed_whole_or_not_at_all: axum::body::Body,
    #[cfg(feature = "tonic")]
    a_tonic_body_is_replayed_whole_or_not_at_all: tonic::body::Body,
    #[cfg(feature = "reqwest")]
    a_reqwest_body_is_replayed_whole_or_not_at_all: reqwest::Body,
}

/// A box whose errors can be made of nothing, like axum's.
type Boxed = BoxBody<Bytes, io::Error>;

fn recorded<B: Teed>(script: Script, limit: usize) -> (B, B::Copy) {
    let mut first = B::of(script);
    let copy = first.record(limit).unwrap();
    (first, copy)
}

#[test]
fn a_body_over_the_limit_that_was_fully_read_is_not_replayed() {
    let (mut first, copy) = recorded::<Boxed>(script([data("hello"), data("world")]), 9);
    assert_eq!(Told::read_all(&mut first).bytes, b"helloworld");
    assert!(Boxed::replay(copy).is_none());
}

#[test]
fn a_body_of_just_the_limit_is_replayed() {
    let (mut first, copy) = recorded::<Boxed>(script([data("hello"), data("world")]), 10);
    assert_eq!(Told::read_all(&mut first).bytes, b"helloworld");
    let mut second = Boxed::replay(copy).unwrap();
    assert_eq!(Told::read_all(&mut second).bytes, b"helloworld");
}

#[test]
fn a_body_over_the_limit_that_was_hardly_read_is_continued() {
    let (mut first, copy) = recorded::<Boxed>(script([data("hello"), data("world")]), 5);
    let mut told = Told::default();
    told.read(&mut first, 1);
    assert_eq!(told.bytes, b"hello");
    drop(first);
    let mut second = Boxed::replay(copy).unwrap();
    assert_eq!(Told::read_all(&mut second).bytes, b"helloworld");
}

#[test]
fn trailers_are_replayed() {
    let body = script([data("hello"), trailers()]);
    let original = Told::by(&body);
    let (mut first, copy) = recorded::<Boxed>(body, "hello".len() + TRAILERS);
    assert_eq!(Told::read_all(&mut first), original);
    let mut second = Boxed::replay(copy).unwrap();
    assert_eq!(Told::read_all(&mut second), original);
}

#[test]
fn trailers_count_against_the_limit() {
    let body = script([data("hello"), trailers()]);
    let (mut first, copy) = recorded::<Boxed>(body, "hello".len() + TRAILERS - 1);
    Told::read_all(&mut first);
    assert!(Boxed::replay(copy).is_none());
}

#[test]
fn an_error_that_was_not_reached_is_passed_on() {
    let (mut first, copy) = recorded::<Boxed>(script([data("hello"), Step::Error]), 64);
    Told::default().read(&mut first, 1);
    drop(first);
    let told = Told::read_all(&mut Boxed::replay(copy).unwrap());
    assert_eq!(told.bytes, b"hello");
    assert!(told.failed);
}

#[test]
fn an_empty_body_is_not_teed_and_replayed_empty() {
    let empty = Script {
        is_eager: true,
        ..script([])
    };
    let (first, copy) = recorded::<Boxed>(empty, 0);
    assert!(first.is_end_stream());
    let second = Boxed::replay(copy).unwrap();
    assert!(second.is_end_stream());
    assert_eq!(second.size_hint().exact(), Some(0));
}

#[test]
fn a_body_that_panicked_is_not_replayed() {
    let (mut first, copy) = recorded::<Boxed>(script([data("hello"), Step::Panic]), 64);
    Told::default().read(&mut first, 1);
    let read = std::panic::AssertUnwindSafe(|| Told::default().read(&mut first, 1));
    std::panic::catch_unwind(read).unwrap_err();
    drop(first);
    assert!(Boxed::replay(copy).is_none());
}

/// Counts how many bytes of its kind are alive.
struct Counted {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    fn step(len: usize, alive: &Arc<AtomicUsize>) -> Step {
        alive.fetch_add(len, Ordering::Relaxed);
        Step::Data(Bytes::from_owner(Self {
            bytes: vec![0; len],
            alive: Arc::clone(alive),
        }))
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[test]
fn no_more_than_the_limit_is_held_and_over_it_nothing() {
    const FRAME: usize = 1000;
    const LIMIT: usize = 10 * FRAME;
    let alive = Arc::new(AtomicUsize::new(0));
    let body = script((0..100).map(|_| Counted::step(FRAME, &alive)));
    let (mut first, copy) = recorded::<Boxed>(body, LIMIT);
    for read in 1..=100 {
        Told::default().read(&mut first, 1);
        let unread = (100 - read) * FRAME;
        let held = alive.load(Ordering::Relaxed) - unread;
        let expected = if read <= 10 { read * FRAME } else { 0 };
        assert_eq!(held, expected, "after {read} frames");
    }
    drop(copy);
}

#[test]
fn a_copy_that_is_dropped_holds_nothing_and_no_more_is_kept() {
    let alive = Arc::new(AtomicUsize::new(0));
    let body = script((0..2).map(|_| Counted::step(1000, &alive)));
    let (mut first, copy) = recorded::<Boxed>(body, 64 * 1024);
    Told::default().read(&mut first, 1);
    assert_eq!(alive.load(Ordering::Relaxed), 2000);
    drop(copy);
    assert_eq!(alive.load(Ordering::Relaxed), 1000);
    Told::default().read(&mut first, 1);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn a_great_many_small_frames_are_kept_as_one() {
    let body = script((0..5000).map(|_| data("x")));
    let (mut first, copy) = recorded::<Boxed>(body, 5000);
    Told::read_all(&mut first);
    let mut second = Boxed::replay(copy).unwrap();
    let frame = second.frame().now_or_never().unwrap().unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap().len(), 5000);
    assert!(second.frame().now_or_never().unwrap().is_none());
}

#[test]
fn a_body_whose_first_try_is_still_being_sent_and_can_not_fail_is_not_replayed() {
    let (mut first, copy) = recorded::<Boxed>(script([data("hello"), data("world")]), 64);
    let mut told = Told::default();
    told.read(&mut first, 1);
    assert!(Boxed::replay(copy).is_none());
    told.read(&mut first, usize::MAX);
    assert_eq!(told.bytes, b"helloworld");
}

#[test]
fn either_body_is_replayed() {
    type Or = Either<Full<Bytes>, String>;
    let copy = Or::Left(Full::from("left")).record(64).unwrap();
    let left = Or::replay(copy).unwrap();
    assert!(matches!(left, Either::Left(_)));
    assert!(Or::Right("right".to_owned()).record(4).is_none());
}

#[test]
fn a_body_in_memory_is_cloned_and_copied_only_if_it_fits() {
    fn again<B: Replay>(mut body: B, limit: usize) -> Option<B> {
        B::replay(body.record(limit)?)
    }
    let bytes = Bytes::from(vec![7; 100]);
    assert_eq!(again(bytes.clone(), 0).unwrap().as_ptr(), bytes.as_ptr());
    let full = again(Full::new(bytes.clone()), 0).unwrap();
    assert_eq!(full.into_inner().unwrap().as_ptr(), bytes.as_ptr());
    assert_eq!(again("static", 0), Some("static"));
    assert_eq!(again(&b"static"[..], 0), Some(&b"static"[..]));
    assert!(again(Empty::<Bytes>::new(), 0).is_some());
    assert!(again((), 0).is_some());
    assert_eq!(again("hello".to_owned(), 5).unwrap(), "hello");
    assert_eq!(again("hello".to_owned(), 4), None);
    assert_eq!(again(vec![7; 5], 5).unwrap(), [7; 5]);
    assert_eq!(again(vec![7; 5], 4), None);
}

/// Polls `first` on a thread of its own, and does something in the midst of the poll.
fn in_the_midst_of_a_poll<B, T>(
    mut first: B,
    barrier: &Barrier,
    meanwhile: impl FnOnce() -> T,
) -> (thread::Result<(B, Polled<B>)>, T)
where
    B: Teed<Error: Send> + Send,
{
    thread::scope(|scope| {
        let polling = scope.spawn(move || {
            let polled = first.frame().now_or_never().expect("it is ready");
            (first, polled)
        });
        barrier.wait();
        let done = meanwhile();
        barrier.wait();
        (polling.join(), done)
    })
}

type Polled<B> = Option<Result<Frame<Bytes>, <B as Body>::Error>>;

fn data_of<B: Teed>(polled: Polled<B>) -> Bytes {
    polled.unwrap().unwrap().into_data().unwrap()
}

#[test]
fn a_poll_that_can_not_be_overtaken_is_left_alone() {
    let barrier = Arc::new(Barrier::new(2));
    let meet = Step::Meet(Arc::clone(&barrier));
    let (mut first, copy) = recorded::<Boxed>(script([data("hello"), meet, data("world")]), 64);
    Told::default().read(&mut first, 1);
    let (polling, second) = in_the_midst_of_a_poll(first, &barrier, || Boxed::replay(copy));
    assert!(second.is_none());
    let (mut first, polled) = polling.unwrap();
    assert_eq!(data_of::<Boxed>(polled), "world");
    assert!(first.frame().now_or_never().unwrap().is_none());
}

fn overtaken_in_a_poll<B: Teed<Error: Send> + Send>() {
    let barrier = Arc::new(Barrier::new(2));
    let meet = Step::Meet(Arc::clone(&barrier));
    let body = script([data("hello"), meet, data("brave"), data("world")]);
    let (mut first, copy) = recorded::<B>(body, 64);
    Told::default().read(&mut first, 1);

    let (polling, (mut second, kept, waits)) = in_the_midst_of_a_poll(first, &barrier, || {
        let mut second = task::spawn(B::replay(copy).unwrap());
        let kept = second.enter(|cx, body| body.poll_frame(cx));
        let waits = second.enter(|cx, body| body.poll_frame(cx).is_pending());
        (second, kept, waits)
    });

    assert_eq!(data_of::<B>(assert_ready!(kept)), "hello");
    assert!(waits && second.is_woken());
    let (mut first, polled) = polling.unwrap();
    assert!(polled.unwrap().is_err());
    let rest = Told::read_all(&mut *second);
    assert_eq!(rest.bytes, b"braveworld");
    assert!(first.frame().now_or_never().unwrap().unwrap().is_err());
}

/// What the tee polled was the end, but what it returned was not.
fn overtaken_in_the_last_poll<B: Teed<Error: Send> + Send>() {
    for (is_eager, last) in [(true, Some(data("world"))), (false, None)] {
        let barrier = Arc::new(Barrier::new(2));
        let meet = Step::Meet(Arc::clone(&barrier));
        let body = Script {
            is_eager,
            ..script([data("hello"), meet].into_iter().chain(last))
        };
        let original = Told::by(&body);
        let (mut first, copy) = recorded::<B>(body, 64);
        Told::default().read(&mut first, 1);
        let (polling, second) = in_the_midst_of_a_poll(first, &barrier, || B::replay(copy));
        let (mut first, polled) = polling.unwrap();
        assert!(polled.unwrap().is_err());
        assert!(!first.is_end_stream());
        assert!(first.frame().now_or_never().unwrap().unwrap().is_err());
        assert_eq!(Told::read_all(&mut second.unwrap()), original);
    }
}

/// No barriers: wherever the threads happen to be.
fn overtaken_anywhere<B: Teed + Send>() {
    let body = script((0..50).map(|_| data("hello")).chain([trailers()]));
    let original = Told::by(&body);
    for _ in 0..300 {
        let (first, copy) = recorded::<B>(body.clone(), 64 * 1024);
        let start = Barrier::new(2);
        let (first, second) = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                start.wait();
                tokio_test::block_on(first.collect()).ok()
            });
            start.wait();
            let second = B::replay(copy).unwrap();
            let second = tokio_test::block_on(second.collect()).unwrap();
            (reading.join().unwrap(), second)
        });
        for sent in first.into_iter().chain([second]) {
            assert_eq!(sent.trailers(), Some(&original.trailers));
            assert_eq!(sent.to_bytes(), original.bytes);
        }
    }
}

fn overtaken_in_a_poll_that_panics<B: Teed<Error: Send> + Send>() {
    let barrier = Arc::new(Barrier::new(2));
    let meet = Step::Meet(Arc::clone(&barrier));
    let (mut first, copy) = recorded::<B>(script([data("hello"), meet, Step::Panic]), 64);
    Told::default().read(&mut first, 1);
    let (polling, second) = in_the_midst_of_a_poll(first, &barrier, || B::replay(copy).unwrap());
    assert!(polling.is_err());
    let told = Told::read_all(&mut { second });
    assert_eq!(told.bytes, b"hello");
    assert!(told.failed);
}

fn overtaken_while_it_waits<B: Teed>() {
    let (first, copy) = recorded::<B>(script([Step::Silence, data("hello")]), 64);
    let mut first = task::spawn(first);
    assert_pending!(first.enter(|cx, body| body.poll_frame(cx)));
    assert!(!first.is_woken());
    let mut second = B::replay(copy).unwrap();
    assert!(first.is_woken());
    let polled = first.enter(|cx, body| body.poll_frame(cx));
    assert!(assert_ready!(polled).unwrap().is_err());
    assert_eq!(Told::read_all(&mut second).bytes, b"hello");
}

macro_rules! each_body_that_gives_way {
    ($($feature:literal $name:ident: $body:ty,)*) => {$(
        #[cfg(feature = $feature)]
        mod $name {
            #[test]
            fn what_comes_of_a_poll_that_is_overtaken_is_sent_by_the_second_try() {
                super::overtaken_in_a_poll::<$body>();
            }

            #[test]
            fn a_first_try_that_is_overtaken_in_its_last_poll_does_not_look_complete() {
                super::overtaken_in_the_last_poll::<$body>();
            }

            #[test]
            fn two_threads_send_it_whole_or_fail() {
                super::overtaken_anywhere::<$body>();
            }

            #[test]
            fn a_panic_in_a_poll_that_is_overtaken_is_an_error_of_the_second_try() {
                super::overtaken_in_a_poll_that_panics::<$body>();
            }

            #[test]
            fn a_first_try_that_waits_is_woken_when_it_is_overtaken() {
                super::overtaken_while_it_waits::<$body>();
            }
        }
    )*};
}

each_body_that_gives_way! {
    "axum" an_axum_body: axum::body::Body,
    "tonic" a_tonic_body: tonic::body::Body,
    "reqwest" a_reqwest_body: reqwest::Body,
}

#[cfg(feature = "axum")]
#[test]
fn an_axum_body_fails_with_its_own_error_and_no_other_around_it() {
    use axum::body::Body;
    use std::error::Error;

    let (first, copy) = recorded::<Body>(script([Step::Error]), 64);
    drop(first);
    let second = Body::replay(copy).unwrap();
    let error = second.collect().now_or_never().unwrap().unwrap_err();
    assert!(error.source().unwrap().is::<io::Error>());
}

#[cfg(feature = "reqwest")]
#[test]
fn a_reqwest_body_in_memory_stays_in_memory() {
    use reqwest::Body;

    let bytes = Bytes::from(vec![7; 1000]);
    let mut first = Body::from(bytes.clone());
    let second = Body::replay(first.record(0).unwrap()).unwrap();
    for body in [first, second] {
        assert_eq!(body.as_bytes().unwrap().as_ptr(), bytes.as_ptr());
        assert_eq!(body.as_bytes().unwrap().len(), bytes.len());
    }
    let mut first = Body::default();
    let second = Body::replay(first.record(0).unwrap()).unwrap();
    for body in [first, second] {
        assert_eq!(body.as_bytes(), Some(&b""[..]));
    }
}

#[cfg(feature = "hyper")]
#[test]
fn a_body_that_comes_from_a_connection_can_not_be_kept() {
    fn is_never_kept<B: Replay<Copy = std::convert::Infallible>>() {}
    is_never_kept::<hyper::body::Incoming>();
}
