//! What the program says on stderr while it succeeds.

use std::fmt;
use std::io::{self, Write as _};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{self as log, FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Shows the crate's warnings, or all its events.
pub(crate) fn show(is_verbose: bool) {
    let is_shown = filter_fn(move |event| {
        event.target().starts_with("tower_auth") && (is_verbose || is_warning(event))
    });
    let lines = log::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .event_format(Line);
    tracing_subscriber::registry()
        .with(lines.with_filter(is_shown))
        .init();
}

/// Returns whether to show an event without `--verbose`. Excludes failed fetches, because the
/// program's last message describes the failure.
fn is_warning(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::WARN && event.fields().field("error.type").is_none()
}

/// Prints a warning.
pub(crate) fn warn(message: &str) {
    // If stderr is closed, the warning is lost.
    let _ = writeln!(io::stderr(), "tower-auth-token: warning: {message}");
}

/// An event as a line of this program.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        write!(line, "tower-auth-token: {level}: ")?;
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}
