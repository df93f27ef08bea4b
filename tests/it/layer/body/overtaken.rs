//! A second try that starts while the first try is still being sent.

use std::sync::{Arc, Barrier};
use std::thread;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio_test::{assert_pending, assert_ready, task};
use tower_auth::layer::Replay;

use super::{Boxed, Script, Step, Teed, Told, data, recorded, script, trailers};

/// Polls `first` on another thread, and runs a closure in the middle of that poll.
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

    let (polling, (mut second, polled, waits)) = in_the_midst_of_a_poll(first, &barrier, || {
        let mut second = task::spawn(B::replay(copy).unwrap());
        let polled = second.enter(|cx, body| body.poll_frame(cx));
        let waits = second.enter(|cx, body| body.poll_frame(cx).is_pending());
        (second, polled, waits)
    });

    assert_eq!(data_of::<B>(assert_ready!(polled)), "hello");
    assert!(waits && second.is_woken());
    let (mut first, polled) = polling.unwrap();
    assert!(polled.unwrap().is_err());
    let rest = Told::read_all(&mut *second);
    assert_eq!(rest.bytes, b"braveworld");
    assert!(first.frame().now_or_never().unwrap().unwrap().is_err());
}

/// The poll reached the end of the inner body, but the overtaken first try returned an error.
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

/// Here no barriers order the threads, so they interleave in any order.
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
