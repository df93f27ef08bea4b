//! Waiting until no task has work.

/// Yields until every other task of the runtime waits for something. Tokio's paused time doesn't
/// advance.
///
/// This works only on a single-threaded runtime, such as that of `#[tokio::test]`. A task that
/// needs more than 64 polls to get to its wait is not idle afterwards.
///
/// # Example
///
/// ```
/// use tower_auth::TokenCache;
/// use tower_auth_test::{ScriptedSource, run_until_idle};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let source = ScriptedSource::default();
/// tokio::spawn(TokenCache::new(source.clone()).token());
/// run_until_idle().await;
/// assert_eq!(source.fetches(), 1);
/// # }
/// ```
pub async fn run_until_idle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
