//! A recorder of the `metrics` facade, and the values that it recorded.

use std::collections::BTreeMap;

use metrics::{Key, Level, Metadata};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// The recorded values.
pub(crate) struct Metrics {
    snapshotter: Snapshotter,
}

/// The values of each metric, by its name and labels: `name{label=value,…}`.
pub(crate) type Recorded = BTreeMap<String, Vec<f64>>;

/// A value that only this file sets. A gauge that still has it was not set since the last call.
const UNSET: f64 = f64::NAN;

impl Metrics {
    /// Returns what was counted, set and measured since the last call.
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

/// Returns the values, or `None` if the metric didn't change.
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
    // The recorder is local to this thread, so all tasks have to run here.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(scene(Metrics { snapshotter }));
    });
}
