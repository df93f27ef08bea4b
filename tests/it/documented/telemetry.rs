//! The tables in `docs::watching` list exactly the events, spans and metrics that exist.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower::{Layer, ServiceExt};
use tower_auth::cache::Quota;
use tower_auth::oauth2::{Client, RefreshToken};
use tower_auth::{Error, Reason, Token};
use tower_auth_test::{Api, ScriptedSource, Step};

use crate::documented::page::{self, Words, quoted};
#[cfg(feature = "fleet")]
use crate::support::breakable_store;
use crate::support::log::{Line, listen};
use crate::support::refresh_store::{LockingStore, StoreFault};
use crate::support::request;
use crate::support::scenarios::{FailingClose, errors, orders, refuse_without_replay};
use crate::support::token_server::{ID, TokenServer, URL};
use crate::support::tree::{code, rust_files, text};

const PAGE: &str = include_str!("../../../src/docs/watching.md");

/// Returns the cells of each table row in a section of the page.
fn rows(section: &str) -> Vec<Vec<&'static str>> {
    page::rows(page::section(PAGE, &format!("# {section}")))
}

/// Returns the quoted words of the paragraph that starts like this. The first word is left out,
/// because it names the topic.
fn words_of(beginning: &str) -> Words {
    let mut paragraphs = PAGE.split("\n\n");
    let paragraph = paragraphs.find(|text| text.starts_with(beginning));
    let words = quoted(paragraph.unwrap()).into_iter();
    words.skip(1).filter(|word| word != "Reason").collect()
}

fn words<T: ToString>(words: impl IntoIterator<Item = T>) -> Words {
    words.into_iter().map(|word| word.to_string()).collect()
}

/// The level and the fields of each event and span, by its message.
type Told = BTreeMap<String, (String, Words)>;

/// The sections that list events.
const LOGS: [&str; 2] = ["Logs", "Logs of a fleet"];

fn told_by_the_page(sections: &[&str]) -> Told {
    let rows = sections.iter().flat_map(|section| rows(section));
    let rows = rows.map(|row| {
        let [what, level, fields] = row[..] else {
            panic!("{row:?}");
        };
        // The name of a field contains a dot, and its values don't.
        let fields = quoted(fields).into_iter().filter(|word| word.contains('.'));
        let fields = fields.chain([String::from("tower_auth.cache")]);
        let what = quoted(what).swap_remove(0);
        (what, (level.to_owned(), fields.collect()))
    });
    rows.collect()
}

fn told_by(lines: &[Line], page: &Told) -> Told {
    let lines = lines.iter().map(|line| {
        let level = line.level.to_string().to_lowercase();
        // The table shortens a long message to its beginning.
        let is_cut = |what: &&String| {
            let beginning = what.strip_suffix('…');
            beginning.is_some_and(|beginning| line.message.starts_with(beginning))
        };
        let message = page.keys().find(is_cut).unwrap_or(&line.message);
        (message.clone(), (level, words(&line.names)))
    });
    lines.collect()
}

/// Causes every event at least once.
pub(super) async fn all_events() {
    let source = ScriptedSource::new([Step::from(Error::transient("reset"))]);
    orders(source).token().await.unwrap();
    for word in words_of_refusals() {
        if word != "elsewhere" || cfg!(feature = "reqwest") {
            refuse_without_replay(&word).await;
        }
    }
    let api = Api::default();
    let client = crate::support::layer_from(orders(ScriptedSource::default())).layer(api.clone());
    for _ in 0..2 {
        client.clone().oneshot(request("")).await.unwrap();
    }
    api.accept("token-2");
    // After 61 s, the watch after the last refusal has ended.
    tokio::time::advance(Duration::from_secs(61)).await;
    client.oneshot(request("")).await.unwrap();
    let elsewhere = crate::support::layer_from(orders(ScriptedSource::default()));
    let elsewhere = elsewhere.answered_by(|_| Some(http::Uri::from_static("https://a.example")));
    let refused = elsewhere.layer(Api::default()).oneshot(request("")).await;
    assert_eq!(refused.unwrap().status(), 401);
    orders(FailingClose::Fails).close().await;
    let quota = Quota::new("client/per_day", 1).of(10);
    let source =
        ScriptedSource::from_fn(move |_| Ok(Token::bearer("token")?.with_quotas([quota.clone()])));
    orders(source).token().await.unwrap();
    let narrower = r#"{"access_token":"token","expires_in":3600,"scope":"read"}"#;
    let source = TokenServer::new(200, narrower).client().scope("read write");
    orders(source).token().await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let date = format!(
        r#"{{"access_token":"token","expires_in":{}}}"#,
        now.as_secs() + 60
    );
    let source = TokenServer::new(200, date).client();
    orders(source).token().await.unwrap();
    let store = LockingStore::holding("refresh-0");
    store.breaks("save", StoreFault::Fails);
    let client = Client::public(URL, ID).unwrap();
    let client = client.transport(TokenServer::issuing().transport());
    let source = RefreshToken::stored(client, store);
    orders(source).token().await.unwrap();
    #[cfg(feature = "fleet")]
    breakable_store::all_events().await;
}

/// Returns the values that the page lists for `tower_auth.not_replayed`.
fn words_of_refusals() -> Words {
    let all = rows("Logs");
    let row = all.iter().find(|row| row[2].contains("not_replayed"));
    words(quoted(row.unwrap()[2]).into_iter().skip(1))
}

/// Returns a source file of the crate without comments.
fn source_file(name: &str) -> String {
    code(&text(&format!("src/{name}")))
}

/// Returns how often the crate's code invokes one of these macros.
fn places(macros: &[&str]) -> usize {
    let files = rust_files("src");
    let code = files.values().map(|text| code(text));
    code.map(|code| {
        macros
            .iter()
            .map(|name| code.matches(name).count())
            .sum::<usize>()
    })
    .sum()
}

/// Returns the words for an enum's variants in telemetry, such as `off` in `Self::Off => "off"`.
fn words_in(code: &str) -> Words {
    let arms = code.lines().filter_map(|line| {
        let (_, word) = line.split_once(" => \"")?;
        word.trim().strip_suffix("\",")
    });
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    words(arms.filter(is_word))
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_is_what_the_page_says() {
    let (log, _listening) = listen();
    all_events().await;
    let mut lines = log.all();
    lines.retain(|line| line.target.starts_with("tower_auth"));
    let sections = if cfg!(feature = "fleet") { 2 } else { 1 };
    let page = told_by_the_page(&LOGS[..sections]);
    assert_eq!(told_by(&lines, &page), page);
    // No other place in the crate logs anything.
    let macros = ["trace", "debug", "info", "warn", "error", "event"];
    let events = macros.map(|name| format!("tracing::{name}!("));
    let spans = macros.map(|name| format!("tracing::{name}_span!("));
    let all: Vec<&str> = events.iter().chain(&spans).map(String::as_str).collect();
    assert_eq!(places(&all), told_by_the_page(&LOGS).len());
    assert_eq!(places(&["#[instrument", "#[tracing::instrument"]), 0);
}

#[test]
fn the_page_has_every_reason_of_a_fetch() {
    let all = [
        Reason::First,
        Reason::Stale,
        Reason::Expired,
        Reason::Refused,
        Reason::Forced,
    ];
    assert_eq!(words_of("`tower_auth.fetch.reason` is"), words(all));
    assert_eq!(words_in(&source_file("source/token_source.rs")), words(all));
}

#[test]
fn the_page_has_every_word_for_a_refusal_that_is_not_replayed() {
    assert_eq!(
        words_of_refusals(),
        words_in(&source_file("layer/not_replayed.rs"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_page_has_every_type_of_error() {
    let page = words_of("`error.type` is");
    let seen = words(errors().await.into_iter().map(|(_, word)| word));
    assert_eq!(page, seen);
    let kinds = words_in(&source_file("error.rs"));
    assert!(kinds.is_subset(&page), "{kinds:?}");
}

#[cfg(all(feature = "fleet", feature = "metrics"))]
mod of_metrics {
    use super::*;
    use crate::support::recorder::recorded;

    /// Returns the labels of each metric, by its name.
    fn named_by_the_page() -> BTreeMap<String, Words> {
        let rows = rows("Metrics").into_iter().map(|row| {
            let [name, _, labels] = row[..] else {
                panic!("{row:?}");
            };
            // In the table, the values of a label follow a colon.
            let labels = labels.split("`: ").next().unwrap();
            let labels = quoted(&format!("{labels}`"));
            let labels = labels.into_iter().filter(|label| !label.is_empty());
            (quoted(name).swap_remove(0), labels.collect())
        });
        rows.collect()
    }

    #[test]
    fn what_is_recorded_is_what_the_page_says() {
        recorded(|metrics| async move {
            all_events().await;
            let mut seen: BTreeMap<String, Words> = BTreeMap::new();
            for recorded in metrics.take().into_keys() {
                let (name, labels) = recorded.trim_end_matches('}').split_once('{').unwrap();
                let labels = labels.split(',');
                let labels = words(labels.map(|label| label.split('=').next().unwrap()));
                let known = seen.entry(name.to_owned()).or_insert(labels.clone());
                // Only failures have a type of error.
                let mut others = known.symmetric_difference(&labels);
                assert!(
                    others.all(|label| label == "error.type"),
                    "{name}: {labels:?}"
                );
                known.extend(labels);
            }
            assert_eq!(seen, named_by_the_page());
            let macros = ["counter!(", "gauge!(", "histogram!("];
            assert_eq!(places(&macros), seen.len());
        });
    }
}
