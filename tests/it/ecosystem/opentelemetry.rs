//! The span of a fetch, as `tracing-opentelemetry` exports it.

use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tower_auth::{Error, Token};
use tower_auth_test::{ScriptedSource, run_until_idle};
use tracing::field::Empty;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::support::log::listen;
use crate::support::scenarios::orders;

/// Keeps what it exports.
#[derive(Clone, Debug, Default)]
struct Exported(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Exported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

fn attributes(span: &SpanData) -> Vec<String> {
    let attributes = span.attributes.iter();
    let attributes = attributes.map(|pair| format!("{}={}", pair.key, pair.value));
    let of_the_crate =
        |name: &String| name.starts_with("tower_auth.") || name.starts_with("error.");
    attributes.filter(of_the_crate).collect()
}

/// Exports the spans that this thread creates, until the guard is dropped. Spans below the level are
/// disabled.
fn export(level: LevelFilter) -> (Exported, DefaultGuard) {
    let exported = Exported::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exported.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    let subscriber = tracing_subscriber::registry().with(level).with(layer);
    (exported, subscriber.set_default())
}

#[tokio::test(start_paused = true)]
async fn only_a_fetch_that_fails_is_exported_as_an_error_with_its_type_and_message() {
    // So that no other test's thread disables the crate's spans.
    let (_log, _listening) = listen();
    let (exported, _exporting) = export(LevelFilter::DEBUG);
    let source = ScriptedSource::from_fn(|attempt| match attempt {
        1 => Err(Error::other("down")),
        _ => Token::bearer("token"),
    });
    let cache = orders(source);
    let error = cache.token().await.unwrap_err();
    cache.refresh_now().await.unwrap();
    run_until_idle().await;

    let spans = exported.0.lock().unwrap();
    let [failed, completed] = &spans[..] else {
        panic!("{spans:#?}");
    };
    for span in [failed, completed] {
        assert_eq!(span.name, "token fetch");
        assert_eq!(span.span_kind, SpanKind::Internal);
    }
    assert_eq!(failed.status, Status::error(error.to_string()));
    assert_eq!(
        attributes(failed),
        [
            "tower_auth.cache=orders",
            "tower_auth.fetch.reason=first",
            "error.type=source",
        ]
    );
    assert_eq!(completed.status, Status::Unset);
    assert_eq!(
        attributes(completed),
        ["tower_auth.cache=orders", "tower_auth.fetch.reason=forced"]
    );
}

#[test]
fn a_fetch_whose_span_is_disabled_marks_no_callers_span() {
    let (_log, _listening) = listen();
    let (exported, _exporting) = export(LevelFilter::INFO);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let job = tracing::info_span!("job", "error.type" = Empty, otel.status_code = Empty);
    job.in_scope(|| {
        runtime.block_on(async {
            let cache = orders(ScriptedSource::from_fn(|_| Error::other("down")));
            cache.token().await.unwrap_err();
        });
    });
    drop(job);
    let spans = exported.0.lock().unwrap();
    let [job] = &spans[..] else {
        panic!("{spans:#?}");
    };
    assert_eq!(job.name, "job");
    assert_eq!(job.status, Status::Unset);
    assert_eq!(attributes(job), [""; 0]);
}
