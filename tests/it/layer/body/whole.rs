//! The second try repeats the whole body, or there is no second try. The behaviour of the body and
//! the part that was read make no difference.

use std::io;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use proptest::prelude::*;

use super::{Script, Step, Teed, Told, script, trailers};

/// Polls the first try `polls` times, and then replays. Before the replay, drops the first try if
/// `is_dropped`. The second try must repeat the whole script, or be refused for a known reason.
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
        // A body that is known to be empty may report a size of zero.
        if !second.is_end_stream() {
            assert_eq!(second.size_hint().lower(), hint.lower());
            assert_eq!(second.size_hint().upper(), hint.upper());
        }
        assert_eq!(Told::read_all(&mut second), original);
        assert!(second.is_end_stream());
    }
    if let Some(first) = &mut first {
        if was_overtaken {
            for _ in 0..3 {
                assert!(!first.is_end_stream());
                assert!(first.frame().now_or_never().unwrap().unwrap().is_err());
            }
        } else if !at_end {
            // The replay doesn't disturb the first try.
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
        // A script that reports its end early must not pause afterwards.
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
