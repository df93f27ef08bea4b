//! A listener that records every event and span which the crate logs on this thread, at every level
//! and with every field.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

/// Records what the crate and these tests log on this thread, until the guard is dropped.
pub(crate) fn listen() -> (Log, DefaultGuard) {
    LazyLock::force(&IDLE);
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    (log, guard)
}

/// Two dispatchers that no thread uses. They keep `tracing` from caching a wrong answer per
/// callsite. With one dispatcher or none, `tracing` asks the current thread's dispatcher once, for
/// all threads. A thread of a test that doesn't listen would then disable the callsite for every
/// test.
static IDLE: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [Log::default(), Log::default()].map(Dispatch::new));

#[derive(Clone, Default)]
pub(crate) struct Log {
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    lines: Vec<Line>,
    spans: HashMap<u64, Opened>,
    /// The spans that the thread has entered, innermost last.
    entered: Vec<u64>,
}

struct Opened {
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
}

/// An event or an opened span.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) is_span: bool,
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    /// The message of an event or the name of a span.
    pub(crate) message: String,
    /// `name=value` of each field that has a value.
    pub(crate) fields: Vec<String>,
    /// The name of every declared field, with or without a value.
    pub(crate) names: Vec<&'static str>,
    /// The names of the enclosing spans, innermost first.
    pub(crate) within: Vec<&'static str>,
}

impl Log {
    /// Returns the events since the last call, and panics unless there are exactly `N`.
    #[track_caller]
    pub(crate) fn events<const N: usize>(&self) -> [Line; N] {
        self.take(|line| !line.is_span)
    }

    /// Returns the spans opened since the last call, and panics unless there are exactly `N`.
    #[track_caller]
    pub(crate) fn spans<const N: usize>(&self) -> [Line; N] {
        self.take(|line| line.is_span)
    }

    /// Returns everything logged since the last call.
    pub(crate) fn all(&self) -> Vec<Line> {
        std::mem::take(&mut self.book().lines)
    }

    #[track_caller]
    fn take<const N: usize>(&self, which: impl Fn(&Line) -> bool) -> [Line; N] {
        let (taken, left) = self.all().into_iter().partition(which);
        self.book().lines = left;
        let taken: Vec<Line> = taken;
        taken
            .try_into()
            .unwrap_or_else(|lines| panic!("not {N}: {lines:#?}"))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }
}

impl Line {
    #[track_caller]
    pub(crate) fn is<const N: usize>(&self, level: Level, message: &str, fields: [&str; N]) {
        assert_eq!((self.level, &*self.message), (level, message));
        assert_eq!(self.fields, fields);
    }

    /// Returns the value of a field, and panics if the field has none.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> &str {
        let fields = self.fields.iter();
        let mut pairs = fields.filter_map(|field| field.split_once('='));
        let found = pairs.find_map(|(field, value)| (field == name).then_some(value));
        found.unwrap_or_else(|| panic!("no `{name}`: {self:#?}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields.join(" ");
        let (target, level, message) = (self.target, self.level, &self.message);
        write!(f, "{level} {target} {message}: {fields}")
    }
}

fn names(metadata: &'static Metadata<'static>) -> Vec<&'static str> {
    let names = metadata.fields().iter().map(|field| field.name());
    names.filter(|name| *name != "message").collect()
}

impl Book {
    fn note(&mut self, metadata: &'static Metadata<'static>, fields: Fields, parent: Option<u64>) {
        let within = self.path(parent);
        self.lines.push(Line {
            is_span: metadata.is_span(),
            level: *metadata.level(),
            target: metadata.target(),
            message: fields.message.unwrap_or_else(|| metadata.name().to_owned()),
            fields: fields.others,
            names: names(metadata),
            within,
        });
    }

    /// Returns the names of this span and its ancestors.
    fn path(&self, mut next: Option<u64>) -> Vec<&'static str> {
        let mut path = Vec::new();
        while let Some(span) = next.and_then(|id| self.spans.get(&id)) {
            path.push(span.metadata.name());
            next = span.parent;
        }
        path
    }

    /// Returns the parent span: the explicit one, or else the innermost span of the thread.
    fn parent(&self, explicit: Option<&Id>, is_contextual: bool) -> Option<u64> {
        match explicit {
            Some(id) => Some(id.into_u64()),
            None if is_contextual => self.entered.last().copied(),
            None => None,
        }
    }
}

#[derive(Default)]
struct Fields {
    message: Option<String>,
    others: Vec<String>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = Some(value),
            name => self.others.push(format!("{name}={value}")),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.push(field, all_text_of(value));
    }
}

/// Returns all text of an error and of its sources, in every format.
pub(crate) fn all_text_of(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        write!(text, "{error} {error:#} {error:?} {error:#?}; ").unwrap();
        next = error.source();
    }
    text
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let of = metadata.target().split("::").next();
        of == Some("tower_auth") || of == module_path!().split("::").next()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let mut book = self.book();
        let parent = book.parent(span.parent(), span.is_contextual());
        let metadata = span.metadata();
        book.note(metadata, fields, parent);
        // An id must not be 0 and is never reused.
        let id = book.spans.len() as u64 + 1;
        book.spans.insert(id, Opened { metadata, parent });
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        let mut book = self.book();
        let opened = &book.spans[&id.into_u64()];
        let (metadata, parent) = (opened.metadata, opened.parent);
        book.note(metadata, fields, parent);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut book = self.book();
        let parent = book.parent(event.parent(), event.is_contextual());
        book.note(event.metadata(), fields, parent);
    }

    fn enter(&self, id: &Id) {
        self.book().entered.push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        let mut book = self.book();
        let innermost = book
            .entered
            .iter()
            .rposition(|in_it| *in_it == id.into_u64());
        book.entered.remove(innermost.unwrap());
    }
}
