//! The dashboard in `examples` shows each metric, by the name that a Prometheus exporter gives it.

use std::collections::BTreeMap;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use super::page::{Words, quoted};
use super::telemetry::all_events;
use crate::support::tree::text;

/// The labels of each time series, by its name.
type Series = BTreeMap<String, Words>;

/// Returns the metrics that exist, and their time series. A histogram has several series.
fn exported() -> (Words, Series) {
    // As in `docs::watching`.
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Prefix(String::from("tower_auth")), &[1.0])
        .unwrap()
        .build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(all_events()));
    let (mut names, mut series) = (Words::new(), Series::new());
    for line in recorder.handle().render().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            names.insert(rest.split(' ').next().unwrap().to_owned());
        } else if let Some((name, rest)) = line.split_once('{') {
            let labels = rest.split_once('}').unwrap().0.split(',');
            let labels = labels.map(|label| label.split('=').next().unwrap().to_owned());
            series.entry(name.to_owned()).or_default().extend(labels);
        }
    }
    (names, series)
}

/// Returns the values of this field, wherever it is.
fn values<'a>(json: &'a serde_json::Value, field: &str) -> Vec<&'a serde_json::Value> {
    let inner: Vec<_> = match json {
        serde_json::Value::Array(items) => items.iter().collect(),
        serde_json::Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    };
    let inner = inner.into_iter().flat_map(|json| values(json, field));
    json.get(field).into_iter().chain(inner).collect()
}

/// Returns the names of the time series in a query.
fn series_in(query: &str) -> Words {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("tower_auth_"));
    names.map(str::to_owned).collect()
}

/// Returns the labels that the query groups by.
fn labels_in(query: &str) -> Words {
    let groups = query.split("by (").skip(1);
    let groups = groups.flat_map(|rest| rest.split(')').next().unwrap().split(", "));
    groups.map(str::to_owned).collect()
}

#[test]
fn the_dashboard_shows_each_metric_and_no_other_by_labels_that_it_has() {
    let (names, series) = exported();
    let dashboard = serde_json::from_str(&text("examples/dashboard.json")).unwrap();
    let mut shown = Words::new();
    for query in values(&dashboard, "expr") {
        let query = query.as_str().unwrap();
        for name in series_in(query) {
            let labels = series.get(&name);
            let labels = labels.unwrap_or_else(|| panic!("{query}: no metric has {name}"));
            let unknown: Vec<_> = labels_in(query).difference(labels).cloned().collect();
            assert!(unknown.is_empty(), "{query}: {name} has no {unknown:?}");
            let parts = ["_bucket", "_sum", "_count"];
            let metric = parts.iter().find_map(|part| name.strip_suffix(part));
            shown.insert(metric.unwrap_or(&name).to_owned());
        }
    }
    assert_eq!(shown, names);
}

#[test]
fn what_the_dashboard_says_of_outcomes_and_reasons_is_on_the_page() {
    let dashboard = serde_json::from_str(&text("examples/dashboard.json")).unwrap();
    let page = quoted(&text("src/docs/watching.md"));
    for description in values(&dashboard, "description") {
        for word in quoted(description.as_str().unwrap()) {
            assert!(page.contains(&word), "{word}");
        }
    }
}
