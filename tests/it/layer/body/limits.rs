//! How much of a body is kept, up to which limit, and which bodies aren't kept at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::Body;
use http_body_util::{BodyExt, Either, Empty, Full};
use tower_auth::layer::Replay;

use super::{Boxed, Script, Step, Told, data, recorded, script, trailers};

/// The number of bytes that a copy of [`trailers`] takes.
const TRAILERS: usize = "sum7".len();

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

/// A buffer. All buffers of this type together count the bytes that aren't dropped yet.
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

#[cfg(feature = "axum")]
#[test]
fn an_axum_body_fails_with_its_own_error_and_no_other_around_it() {
    use std::error::Error;
    use std::io;

    use axum::body::Body;

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
    fn is_never_replayed<B: Replay<Copy = std::convert::Infallible>>() {}
    is_never_replayed::<hyper::body::Incoming>();
}
