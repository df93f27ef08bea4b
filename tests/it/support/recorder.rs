//! A recorder of the `metrics` facade, and what it was told.

use std::collections::BTreeMap;

use metrics::{Key, Level, Metadata};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// What was recorded.
pub(crate) struct Metrics {
    snapshotter: Snapshotter,
}

/// Each metric by its name and labels, `name{label=value,…}`, with its values.
pub(crate) type Recorded = BTreeMap<String, Vec<f64>>;

/// What no gauge is set to but here: by it one can tell that it wasn't set since.
const UNSET: f64 = f64::NAN;

impl Metrics {
    /// What was counted, set and measured since the last look.
    pub(crate) fn take(&self) -> Recorded {
        let all = self.snapshotter.snapshot().into_vec().into_iter();
        let recorded = all.filter_map(|(key, _, _, value)| {
            let (_, key) = key.into_parts();
            if let DebugValue::Gauge(_) = value {
                unset(&key);
            }
            Some((spell(&key), values(value)?))
        });
        recorded.collect()
    }
}

fn unset(gauge: &Key) {
    let nobody = Metadata::new("", Level::INFO, None);
    metrics::with_recorder(|recorder| recorder.register_gauge(gauge, &nobody).set(UNSET));
}

fn spell(key: &Key) -> String {
    let labels = key.labels();
    let labels = labels.map(|label| format!("{}={}", label.key(), label.value()));
    let mut labels: Vec<_> = labels.collect();
    labels.sort_unstable();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

/// None of what stood still.
fn values(value: DebugValue) -> Option<Vec<f64>> {
    let values = match value {
        DebugValue::Counter(0) => vec![],
        DebugValue::Counter(count) => vec![count as f64],
        DebugValue::Gauge(value) if value.is_nan() => vec![],
        DebugValue::Gauge(value) => vec![value.into_inner()],
        DebugValue::Histogram(values) => values.into_iter().map(f64::from).collect(),
    };
    (!values.is_empty()).then_some(values)
}

/// Runs a scenario in paused time, under a recorder of its own.
pub(crate) fn recorded<F>(scene: impl FnOnce(Metrics) -> F)
where
    F: Future<Output = ()>,
{
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // All tasks are on this thread, where the recorder is.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(scene(Metrics { snapshotter }));
    });
}
