//! Looks for secrets in freed blocks, and records each block that contains a secret.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// The running watch. Only one watch runs at a time, because other threads free memory too.
static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// Makes watches run one after another.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether the blocks that this thread frees are inspected.
    static IS_WATCHED: Cell<bool> = const { Cell::new(false) };
}

struct Watch {
    secrets: Vec<Vec<u8>>,
    found: Vec<FreedSecret>,
}

/// A freed block that contained a secret.
pub struct FreedSecret {
    /// The text around the secret.
    pub text: String,
    /// The functions that freed the block, innermost first. Functions of the standard library and
    /// of this crate are left out.
    pub freed_by: Vec<String>,
}

/// Runs `work`, and returns the blocks with a secret that this thread freed meanwhile. Blocks of
/// other threads count if these threads call [`join_watch`].
pub fn watch(secrets: Vec<Vec<u8>>, work: impl FnOnce()) -> Vec<FreedSecret> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = Vec::new();
    *lock() = Some(Watch { secrets, found });
    IS_WATCHED.set(true);
    work();
    IS_WATCHED.set(false);
    lock().take().map(|watch| watch.found).unwrap_or_default()
}

/// Makes this thread a part of the running watch.
pub fn join_watch() {
    IS_WATCHED.set(true);
}

/// Adds a secret to the running watch. A random secret isn't known before the watch starts.
pub fn look_for(secret: &[u8]) {
    if let Some(watch) = lock().as_mut() {
        watch.secrets.push(secret.into());
    }
}

/// Runs `work`, such as a server in the same process, on a thread that isn't watched.
///
/// `work` also has a stack of its own. A value with unused bytes, such as an enum, may contain an
/// old part of the stack. Later, a move of this value could copy that part into a block.
pub fn unwatched<T>(work: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    let result = thread::scope(|scope| scope.spawn(work).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn lock() -> MutexGuard<'static, Option<Watch>> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The maximum number of blocks that a watch records, because a backtrace takes long.
const MOST_FOUND: usize = 16;

/// Records the block if the block contains a secret.
pub(crate) fn inspect(block: &[u8]) {
    // A thread that ends may have dropped this value already.
    if !IS_WATCHED.try_with(Cell::get).unwrap_or_default() {
        return;
    }
    // The inspection itself frees blocks, which must not be inspected.
    IS_WATCHED.set(false);
    let text = lock().as_ref().and_then(|watch| {
        let is_full = watch.found.len() == MOST_FOUND;
        let place = find(block, &watch.secrets).filter(|_| !is_full)?;
        Some(around(block, place, &watch.secrets))
    });
    if let Some(text) = text {
        // Doesn't hold the lock. The standard library frees memory while it holds its own lock for
        // backtraces, so two threads could wait for each other.
        let freed_by = callers();
        if let Some(watch) = lock().as_mut() {
            watch.found.push(FreedSecret { text, freed_by });
        }
    }
    IS_WATCHED.set(true);
}

/// Returns where in the block a secret begins.
fn find(block: &[u8], secrets: &[Vec<u8>]) -> Option<usize> {
    let mut starts = (0..block.len()).filter(|start| block[*start] != 0);
    starts.find(|start| secrets.iter().any(|it| block[*start..].starts_with(it)))
}

/// The number of bytes before and after the start of a secret that a message shows.
const BEFORE: usize = 40;
const AFTER: usize = 80;

/// Returns the text around a place, without the secrets. Otherwise, a watch would find the message
/// about another watch.
fn around(block: &[u8], place: usize, secrets: &[Vec<u8>]) -> String {
    let shown = &block[place.saturating_sub(BEFORE)..block.len().min(place + AFTER)];
    let text = shown.escape_ascii().to_string().replace("\\x00", "");
    let text = secrets.iter().fold(text, |text, secret| {
        text.replace(&*String::from_utf8_lossy(secret), "[secret]")
    });
    format!("{text} (in {} bytes)", block.len())
}

/// Returns the functions that called the allocator.
fn callers() -> Vec<String> {
    let trace = Backtrace::force_capture().to_string();
    let mut callers: Vec<String> = Vec::new();
    for line in trace.lines().map(str::trim) {
        if let Some(place) = line.strip_prefix("at ") {
            if let Some(caller) = callers.last_mut().filter(|it| !it.contains(" at ")) {
                caller.push_str(" at ");
                caller.push_str(place);
            }
        } else if let Some((_, function)) = line.split_once(": ") {
            callers.push(function.to_owned());
        }
    }
    callers.retain(|caller| !is_left_out(caller));
    callers
}

/// How the names of functions and types of the standard library begin.
const STANDARD: [&str; 6] = [
    "std::", "<std::", "core::", "<core::", "alloc::", "<alloc::",
];

/// Returns whether the function belongs to the standard library or to this crate. The function that
/// drops a value belongs to the crate of the value.
fn is_left_out(caller: &str) -> bool {
    let is_standard = |name: &str| STANDARD.iter().any(|it| name.starts_with(it));
    match caller.split_once("drop_in_place<") {
        Some((_, dropped)) => {
            let dropped = dropped.trim_start_matches(['[', '(']);
            is_standard(dropped) || !dropped.contains("::")
        }
        None => {
            let mut folders = ["/rustc/", "/freed/src/"].iter();
            is_standard(caller) || folders.any(|it| caller.contains(it))
        }
    }
}

impl fmt::Display for FreedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text)?;
        let shown = self.freed_by.iter().take(6);
        shown.into_iter().try_for_each(|it| write!(f, "\n    {it}"))
    }
}
